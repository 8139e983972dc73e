"""Runs a backfill in a local Airflow and shows its progress."""

import json
import time
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from airflow_client.client.exceptions import ApiException
from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text
from urllib3.exceptions import HTTPError

from examples.local_airflow.server import LocalAirflow, LocalRest
from index_builder.registry.registry import Registry
from twinspire.backfills.airflow_backfills import start_backfill
from twinspire.backfills.airflow_rest import readable_errors
from twinspire.backfills.progress_board import STAGES, Board, Task
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import TwinspireError

_TAIL = 4_096
"""Bytes at the end of a log, which hold its last line."""


def wait_for(airflow: LocalAirflow, console: Console) -> LocalRest:
    """Waits until Airflow works, and shows how long it takes."""
    with console.status("starting Airflow …") as status:
        rest = airflow.wait_until_healthy(
            lambda s: status.update(f"starting Airflow … {s:.0f} s (about 20 s)")
        )
    console.print(
        f"Airflow runs at {airflow.url}, user {airflow.user}, password {airflow.password}"
    )
    return rest


def run(
    airflow: LocalAirflow, rest: LocalRest, pipeline: Pipeline, days: list[date], console: Console
) -> None:
    """Runs the days, oldest first, and returns when all have succeeded.

    Raises:
      TwinspireError: a task failed. The message names the task, its log and the end of that.
      TryAgain: Airflow does not work.
    """
    with readable_errors(rest):
        _run(airflow, rest, pipeline, days, console)


def _run(
    airflow: LocalAirflow, rest: LocalRest, pipeline: Pipeline, days: list[date], console: Console
) -> None:
    dag = pipeline.name
    rest.wait_for_dag(dag)
    # Airflow pauses new DAGs. `start_backfill` says why a backfill comes before unpausing
    start_backfill(rest, dag, days[0], days[-1], zone=pipeline.zone, again="completed")
    rest.unpause(dag)
    board = Board(days, pipeline.zone)
    with Live(
        Progress(board, airflow.home / "logs" / f"dag_id={dag}"),
        console=console,
        refresh_per_second=2,  # each costs some milliseconds of processor time
        transient=not console.is_terminal,
    ) as live:
        for lines in board.watch(rest, dag):
            for line in lines:
                live.console.print(line)
            if failed := _unexpected(board, pipeline):
                break
    if failed:
        raise TwinspireError(_what_failed(airflow, rest, dag, *failed))


@dataclass(frozen=True, slots=True)
class Progress:
    """How many days have ended, and below that the last line that the running stage has printed.

    Attributes:
      board: of the backfill.
      logs: folder of the DAG's logs.
    """

    board: Board
    logs: Path
    spinner: Spinner = field(default_factory=lambda: Spinner("dots"))

    def __rich__(self) -> Group:
        working = (
            f"{stage} of {day}: {last_words(_log(self.logs, stage, task))}"
            for (day, stage), task in self.board.cells.items()
            if stage in STAGES and task["state"] == "running"
        )
        says = next(working, "Airflow starts the next task …")
        frame = self.spinner.render(time.monotonic())
        line = Text(f"{frame} {says}", no_wrap=True, overflow="ellipsis")
        return Group(Text(self.board.progress(), style="dim"), line)


def last_words(log: Path) -> str:
    """The last line that a stage has printed; `starting …` before the first one.

    Args:
      log: Airflow's of the task, JSON Lines.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return "starting …"
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:  # only a part of the line was read, or is written so far
            continue
        event = str(entry.get("event")).strip()
        if event in ("Output:", ""):
            break
        if "SubprocessHook" in entry.get("logger", ""):
            return event
    return "starting …"


def _log(logs: Path, stage: str, task: Task) -> Path:
    run, attempt = task["dag_run_id"], task["try_number"]
    return logs / f"run_id={run}" / f"task_id={stage}" / f"attempt={attempt}.log"


def _unexpected(board: Board, pipeline: Pipeline) -> tuple[date, str, Task] | None:
    """The first stage that failed, unless the gate refused the version: later days go on after that."""
    failed = [(*key, task) for key, task in board.cells.items() if task["state"] == "failed"]
    if not failed:
        return None
    refused = {
        s.date
        for s in Registry(pipeline.registry.root, pipeline.name).statuses()
        if s.status == "refused"
    }
    return next((f for f in failed if not (f[1] == "publish" and f[0] in refused)), None)


def _what_failed(
    airflow: LocalAirflow, rest: LocalRest, dag: str, day: date, stage: str, task: Task
) -> str:
    log = _log(airflow.home / "logs" / f"dag_id={dag}", stage, task)
    try:
        lines = rest.log(dag, task["dag_run_id"], stage, task["try_number"]).splitlines()
    except (HTTPError, ApiException) as e:
        lines = [f"(Airflow did not send it: {e})"]
    end = "\n".join(line for line in lines[-40:] if not line.startswith("::"))
    return f"{stage} of {day} failed. The end of its log:\n\n{end}\n\nAll of it: {log}"
