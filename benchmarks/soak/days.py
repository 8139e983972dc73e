"""One day of a soak: what is killed on it, and what came of it."""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TypeVar

import httpx
import psutil

from examples.local_airflow.server import LocalAirflow
from tests.dags import kills, postgres
from twinspire.backfills.airflow_rest import DONE

Answer = TypeVar("Answer")
TWINSPIRE = (sys.executable, "-m", "twinspire")
PATIENCE = 900
"""Seconds after which a day counts as stuck."""


@dataclass(frozen=True, slots=True)
class Kill:
    """What is killed, in which stage, how many seconds after it began."""

    kind: str
    stage: str
    after: float


@dataclass(slots=True)
class Day:
    """What became of a day.

    Attributes:
      kill: what was planned for it.
      killed: whether there was something to kill in time.
      state: of its run.
      seconds: from its trigger to its end.
      retries: of all of its tasks together.
      rss_mb: of Airflow's parts and of all their processes together, after it.
      disk_mb: of working files and registry, after it and `twinspire prune`.
    """

    day: date
    kill: Kill
    killed: bool
    state: str
    seconds: float
    retries: int
    rss_mb: dict[str, int]
    disk_mb: float


def plan(days: int, seed: int) -> list[Kill]:
    """One kill a day. Each kind comes as often as any other, each stage too, but for one."""
    chance = random.Random(seed)
    kinds = _shuffled(kills.KINDS, days, chance)
    stages = _shuffled(kills.STAGES, days, chance)
    return [
        Kill(kind, stage, round(chance.uniform(0, 4), 1))
        for kind, stage in zip(kinds, stages, strict=True)
    ]


def _shuffled(names: Sequence[str], count: int, chance: random.Random) -> list[str]:
    """Round after round of the names, in an order of its own each."""
    found: list[str] = []
    while len(found) < count:
        found += chance.sample(names, len(names))
    return found[:count]


def run_day(
    airflow: LocalAirflow, database: postgres.Server, file: Path, day: date, kill: Kill
) -> Day:
    """Triggers a day, kills, waits for its end, prunes."""
    rest, began = airflow.rest, time.monotonic()
    run = patiently(lambda: rest.trigger("soak", day=str(day)))

    def state() -> str:
        return str(patiently(lambda: rest.call("GET", f"dags/soak/dagRuns/{run}"))["state"])

    killed = _kill(airflow, database, kill, lambda: state() in DONE)
    while (now := state()) not in DONE and time.monotonic() - began < PATIENCE:
        time.sleep(1)
    seconds = time.monotonic() - began
    tasks = patiently(lambda: rest.tasks("soak", run)).values()
    subprocess.run([*TWINSPIRE, "prune", str(file), "--yes"], check=True, capture_output=True)
    return Day(
        day=day,
        kill=kill,
        killed=killed,
        state=now,
        seconds=round(seconds, 1),
        retries=sum(max(0, task["try_number"] - 1) for task in tasks),
        rss_mb=resident(airflow),
        disk_mb=round(size(file.parent) / 1e6, 1),
    )


def _kill(
    airflow: LocalAirflow, database: postgres.Server, kill: Kill, over: Callable[[], bool]
) -> bool:
    """Waits for the stage, then for the moment; False if there is nothing to kill any more."""
    while kill.stage not in kills.running_stages(airflow):
        if over():
            return False
        time.sleep(0.2)
    time.sleep(kill.after)
    while kill.kind in ("stage", "worker"):
        try:
            if stages := list(kills.running_stages(airflow).values()):
                kills.kill(kill.kind, airflow, database, stages)
                return True
        except (psutil.NoSuchProcess, StopIteration):
            pass  # it has just ended: the next one, then
        if over():
            return False
        time.sleep(0.2)
    kills.kill(kill.kind, airflow, database, [])
    return True


def patiently(ask: Callable[[], Answer]) -> Answer:
    """Asks again while Airflow does not answer, or has lost its database."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return ask()
        except httpx.HTTPError:
            if time.monotonic() > end:
                raise
            time.sleep(1)


def resident(airflow: LocalAirflow) -> dict[str, int]:
    """Megabytes of each part, and of all processes of Airflow together; of pages that several
    share, each has its part.
    """
    found = {name: part.memory_info().rss for name, part in kills.parts(airflow).items()}
    total = 0
    for pid in airflow.processes():
        try:
            total += psutil.Process(pid).memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return {name: round(value / 1e6) for name, value in (found | {"all": total}).items()}


def size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
