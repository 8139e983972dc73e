"""Many days in a row, with a process killed on each. Checks that every day is published once and equals an
undisturbed day, that Airflow's memory stays flat, and that the disk does not fill up.

    python -m benchmarks.soak --days 30 --seed 1
    python -m benchmarks.soak --days 5                     quick
    python -m benchmarks.soak --json soak.json             also write the figures to a file

benchmarks/soak.json has the figures of a run.

Airflow runs on its own PostgreSQL (Debian's binaries). Its parts are separate processes, which are restarted
when they end. On each day, SIGKILL ends one part of Airflow, the worker of a stage, the stage itself or
PostgreSQL, some seconds after the start of one of the six stages. The seed chooses which. After each day
`twinspire prune` runs. `twinspire run` runs the same days in another folder, undisturbed and never pruned, and
the results are compared.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TypeVar

import psutil
from airflow_client.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from benchmarks.quality.command import machine, write_whole
from examples.local_airflow.server import LocalAirflow
from index_builder.registry.registry import Registry
from index_builder.registry.version_log import Entry, version_date
from tests.dags import kills, postgres
from tests.dags.conftest import pipeline_text, write_logs
from twinspire.backfills.airflow_rest import DONE
from twinspire_core.config.pipeline import load

FIRST = date(2024, 3, 4)
SETTINGS = {  # the local Airflow's own settings are for days that take hours
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "90",
}
Answer = TypeVar("Answer")
TWINSPIRE = (sys.executable, "-m", "twinspire")
PATIENCE = 900
"""Seconds after which a day counts as stuck."""


@dataclass(frozen=True, slots=True)
class Kill:
    """What is killed, in which stage, and how many seconds after the stage's start."""

    kind: str
    stage: str
    after: float


@dataclass(slots=True)
class Day:
    """The outcome of a day.

    Attributes:
      kill: the planned kill.
      killed: whether there was a process to kill in time.
      state: state of its run.
      seconds: from its trigger to its end.
      retries: retries of all its tasks.
      rss_mb: memory of Airflow's parts, and of all their processes together, after the day.
      disk_mb: size of working files and registry, after the day and `twinspire prune`.
    """

    day: date
    kill: Kill
    killed: bool
    state: str
    seconds: float
    retries: int
    rss_mb: dict[str, int]
    disk_mb: float


def lay_out(folder: Path, logs: Path) -> Path:
    """Writes a pipeline file for the logs; working files and registry are next to it."""
    text = "\n".join(line.strip() for line in pipeline_text("soak", "UTC", logs).splitlines())
    text += "\n[registry]\nkeep_versions = 3\nkeep_days = 5\n"
    folder.mkdir()
    (folder / "soak.toml").write_text(text)
    return folder / "soak.toml"


def log_of(file: Path, last: date) -> list[Entry]:
    """The registry's log up to a day, without pruned versions."""
    pipeline = load(file)
    log = Registry(pipeline.registry.root, pipeline.name).log()
    return [e for e in log if e.action != "prune" and version_date(e.version) <= last]


def equal(file: Path, other: Path, last: date) -> bool:
    """Whether two registries have the same log up to a day. A version's id contains the digest of its files."""
    ours, theirs = log_of(file, last), log_of(other, last)
    pipeline = load(file)
    Registry(pipeline.registry.root, pipeline.name).verify(ours[-1].version)
    return [(e.action, e.version, e.live) for e in ours] == [
        (e.action, e.version, e.live) for e in theirs
    ]


def soak(days: int, seed: int, folder: Path) -> dict:
    """Runs all days, or those until Ctrl-C, and returns the figures."""
    dates = [FIRST + timedelta(n) for n in range(days)]
    history = [FIRST - timedelta(n) for n in range(3, 0, -1)]
    write_logs(folder / "logs", history + dates, "UTC", events=1000)
    file = lay_out(folder / "killed", folder / "logs")
    calm = lay_out(folder / "calm", folder / "logs")
    rows: list[Day] = []
    with ExitStack() as stack:
        database = stack.enter_context(postgres.server())
        airflow = LocalAirflow(
            folder / "airflow",
            file.parent,
            schedule=False,
            database=database.url,
            restarts=days,
            env=SETTINGS,
        )
        rest = stack.enter_context(airflow).wait_until_healthy(timeout=300)
        rest.wait_for_dag("soak")
        rest.unpause("soak")
        # At the same time, because Airflow mostly waits.
        undisturbed = stack.enter_context(
            subprocess.Popen(
                [*TWINSPIRE, "run", str(calm), "--from", str(dates[0]), "--to", str(dates[-1])],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C must not reach it
            )
        )
        with suppress(KeyboardInterrupt):
            for day, kill in zip(dates, plan(days, seed), strict=True):
                rows.append(run_day(airflow, database, file, day, kill))
                print(line(rows[-1]), flush=True)
                if rows[-1].state != "success":
                    break
        undisturbed.wait()
    done = dates[: len(rows)]
    published = [e.version[:10] for e in log_of(file, done[-1]) if e.action == "publish"]
    return {
        "days": len(done),
        "seed": seed,
        "published_once": published == [str(day) for day in done],
        "equal": equal(file, calm, done[-1]),
        "rows": [asdict(row) for row in rows],
    }


def plan(days: int, seed: int) -> list[Kill]:
    """One kill per day. All kinds are about equally frequent, and so are all stages."""
    chance = random.Random(seed)
    kinds = _shuffled(kills.KINDS, days, chance)
    stages = _shuffled(kills.STAGES, days, chance)
    return [
        Kill(kind, stage, round(chance.uniform(0, 4), 1))
        for kind, stage in zip(kinds, stages, strict=True)
    ]


def _shuffled(names: Sequence[str], count: int, chance: random.Random) -> list[str]:
    """The names, repeated in rounds; each round has its own random order."""
    order: list[str] = []
    while len(order) < count:
        order += chance.sample(names, len(names))
    return order[:count]


def run_day(
    airflow: LocalAirflow, database: postgres.Server, file: Path, day: date, kill: Kill
) -> Day:
    """Triggers a day, kills a process, waits for the end of the day, and prunes."""
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
    """Waits for the stage and the planned time, and kills. False if the day ended before."""
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
            pass  # it has just ended: try the next one
        if over():
            return False
        time.sleep(0.2)
    kills.kill(kill.kind, airflow, database, [])
    return True


def patiently(ask: Callable[[], Answer]) -> Answer:
    """Repeats a request while Airflow does not answer, or has lost its database."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return ask()
        except (HTTPError, ApiException):
            if time.monotonic() > end:
                raise
            time.sleep(1)


def resident(airflow: LocalAirflow) -> dict[str, int]:
    """Megabytes of each part, and of all processes of Airflow together. Shared pages are divided among the
    processes.
    """
    memory = {name: part.memory_info().rss for name, part in kills.parts(airflow).items()}
    total = 0
    for pid in airflow.processes():
        try:
            total += psutil.Process(pid).memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return {name: round(value / 1e6) for name, value in (memory | {"all": total}).items()}


def size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def line(row: Day) -> str:
    """A row of the table."""
    kill = f"{row.kill.kind} in {row.kill.stage}, {row.kill.after:.1f} s"
    memory = "  ".join(f"{name} {value}" for name, value in sorted(row.rss_mb.items()))
    return (
        f"{row.day}  {kill if row.killed else 'nothing':30} {row.state:8} {row.seconds:6.1f} s "
        f"{row.retries} retries  {row.disk_mb:5.1f} MB  {memory}"
    )


def main() -> None:
    """Prints a row for each day, then the verdict."""
    about = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    about.add_argument("--days", type=int, default=30)
    about.add_argument("--seed", type=int, default=1)
    about.add_argument("--json", type=Path, help="also write the figures to this file")
    options = about.parse_args()
    with tempfile.TemporaryDirectory(prefix="twinspire-soak-") as made:
        figures = {"machine": machine(), **soak(options.days, options.seed, Path(made))}
    print({name: figures[name] for name in ("days", "published_once", "equal")})
    if options.json:
        write_whole(options.json, json.dumps(figures, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
