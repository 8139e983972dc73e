"""Parts of a running Airflow, and their end by SIGKILL."""

import contextlib
import time

import psutil

from examples.local_airflow.server import LocalAirflow
from tests.dags.postgres import Server

PARTS = {
    "scheduler": "airflow scheduler",
    "dag-processor": "airflow dag-processor",
    "triggerer": "airflow triggerer",
    "api-server": "airflow api_server",
}
"""Airflow's own, with what their command lines hold."""
KINDS = ("scheduler", "worker", "stage", "api-server", "postgresql")
"""What is killed."""
STAGES = ("features", "train", "measure", "embed", "index", "publish")


def parts(airflow: LocalAirflow) -> dict[str, psutil.Process]:
    """Those parts that run."""
    lines = {process: " ".join(line) for process, line in _command_lines(airflow)}
    parts_by_name = {}
    for name, title in PARTS.items():
        # Of several the first is the part, and the others are its children.
        own = [process for process, line in lines.items() if title in line and "part()" not in line]
        if own:
            parts_by_name[name] = min(own, key=lambda process: process.pid)
    return parts_by_name


def running_stages(airflow: LocalAirflow) -> dict[str, psutil.Process]:
    """The stages that run just now, each by the process that does its work."""
    running = {}
    for process, line in _command_lines(airflow):
        if "twinspire" not in line:
            continue
        stage = line[line.index("twinspire") + 1]
        if stage in STAGES:
            running[stage] = process
    return running


def _command_lines(airflow: LocalAirflow) -> list[tuple[psutil.Process, list[str]]]:
    lines = []
    for pid in airflow.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            lines.append((process, process.cmdline()))
    return lines


def worker_of(stage: psutil.Process) -> psutil.Process:
    """The process of Airflow's that watches over a stage's task, and reports how it ended."""
    return next(one for one in reversed(stage.parents()) if _is_worker(one))


def _is_worker(process: psutil.Process) -> bool:
    return process.cmdline()[:1] == ["airflow worker"] or "airflow worker" in process.name()


def kill(kind: str, airflow: LocalAirflow, database: Server, stages: list[psutil.Process]) -> None:
    """Kills one part, or what runs these stages; PostgreSQL is started again after a while.

    Args:
      kind: one of KINDS.
      airflow: whose part it is.
      database: the server that has its database.
      stages: the processes of stages that are killed, or whose workers are.
    """
    match kind:
        case "postgresql":
            database.kill()
            time.sleep(2)
            database.start()
        case "stage":
            _end(stages)
        case "worker":
            _end([worker_of(stage) for stage in stages])
        case _:
            _end([parts(airflow)[kind]])


def _end(processes: list[psutil.Process]) -> None:
    for process in processes:
        process.kill()
