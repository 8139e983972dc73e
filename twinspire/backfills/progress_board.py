"""The progress of a backfill in a table: days by stages."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Group
from rich.table import Table
from rich.text import Text

from twinspire.backfills.airflow_backfills import active_backfills
from twinspire.backfills.airflow_rest import DONE, AirflowRest, day_of, runs_of_days
from twinspire_core.errors import TryAgain

_ROWS = 15
STAGES = ("features", "train", "measure", "embed", "index", "publish")
ENDED = {"success", "failed", "skipped", "upstream_failed", "removed"}
_LOOKS = {
    "success": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "upstream_failed": ("–", "red"),
    "skipped": ("skipped", "yellow"),
    "running": ("▸", "bold cyan"),
    "up_for_retry": ("retry", "yellow"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One stage of one day.

    Attributes:
      state: Airflow's name for its state; empty before the stage starts.
      seconds: how long it took, or has taken so far.
      run, attempt: the run and the try that it belongs to.
    """

    state: str = ""
    seconds: float = 0.0
    run: str = ""
    attempt: int = 1


@dataclass(slots=True)
class Board:
    """The progress of each stage of each day.

    Attributes:
      days: the days of the backfill, oldest first.
      zone: the pipeline's time zone, in which Airflow's data intervals are days.
      began: when the board was made, by `time.monotonic`.
      cells: progress by day and stage.
      runs: Airflow's run of each day.
    """

    days: list[date]
    zone: ZoneInfo
    began: float = field(default_factory=time.monotonic)
    cells: dict[tuple[date, str], Cell] = field(default_factory=dict)
    runs: dict[date, dict[str, Any]] = field(default_factory=dict)

    def watch(self, rest: AirflowRest, dag: str) -> Iterator[list[tuple[date, str, Cell]]]:
        """Asks Airflow until the runs of all days have ended. Yields the stages that have ended since the
        last time.

        Raises:
          TryAgain: Airflow does not work, or the DAG or its backfill is paused.
        """
        ended: set[date] = set()
        for now in rest.poll(partial(self._moved, rest, dag, ended), every=2):
            tasks = [rest.tasks(dag, run["dag_run_id"]).values() for run in now]
            yield self.update(now, [task for of_run in tasks for task in of_run])
            ended |= {
                day_of(run["data_interval_start"], self.zone) for run in now if run["state"] in DONE
            }
            if not now and ended != {*self.days}:
                ended |= self._never_started(rest, dag)
            if ended >= {*self.days}:
                return

    def _moved(self, rest: AirflowRest, dag: str, ended: set[date]) -> list[dict[str, Any]]:
        """The runs that have started, without those whose end was seen before."""
        # In a long backfill, most runs wait or are done. Only the others need further requests
        self.runs = runs_of_days(rest, dag, self.days[0], self.days[-1], self.zone)
        left = [self.runs[day] for day in self.days if day in self.runs and day not in ended]
        return [run for run in left if run["state"] != "queued"]

    def _never_started(self, rest: AirflowRest, dag: str) -> set[date]:
        """Days that will not run, because their backfill was cancelled.

        Raises:
          TryAgain: the DAG or its backfill is paused.
        """
        backfills = active_backfills(rest, dag)
        if rest.call("GET", f"dags/{dag}")["is_paused"] or any(b["is_paused"] for b in backfills):
            raise TryAgain(
                f"{dag} or its backfill is paused, so no runs start. Unpause it at"
                f" {rest.url}/dags/{dag}/backfills. Then type the command again to watch the remaining"
                " days."
            )
        if backfills:
            return set()
        # `--cancel` deletes runs, but somebody may clear one later, which then stays queued
        return {
            day
            for day in self.days
            if day not in self.runs or self.runs[day]["run_type"] == "backfill"
        }

    def update(
        self, runs: list[dict[str, Any]], tasks: list[dict[str, Any]]
    ) -> list[tuple[date, str, Cell]]:
        """Stores Airflow's answers. Returns the stages that have ended since the last time.

        Args:
          runs: runs of the backfill, with `dag_run_id` and `data_interval_start`.
          tasks: their task instances; those of other runs are ignored.
        """
        days = {run["dag_run_id"]: day_of(run["data_interval_start"], self.zone) for run in runs}
        ended = []
        # In the order in which they ended, as a log would show them. Tasks that have not ended come last:
        # "9" is after every date
        for task in sorted(tasks, key=lambda task: task["end_date"] or "9"):
            day, stage = days.get(task["dag_run_id"]), task["task_id"]
            if day is None:
                continue
            before, cell = self.cells.get((day, stage), Cell()), _cell(task)
            if before.state in ENDED:
                continue
            self.cells[day, stage] = cell
            if cell.state in ENDED:
                ended.append((day, stage, cell))
        return ended

    def elapsed(self) -> str:
        """Minutes and seconds since the board was made."""
        seconds = int(time.monotonic() - self.began)
        return f"{seconds // 60}:{seconds % 60:02d}"

    def __rich__(self) -> Group:
        """A table that fits 80 columns: the seconds of each stage by day."""
        table = Table(box=None, padding=(0, 1), header_style="bold")
        table.add_column("day", no_wrap=True)
        for stage in STAGES:
            table.add_column(stage, min_width=8, no_wrap=True)
        table.add_column("sum", justify="right")
        for day in self._shown():
            cells = [self.cells.get((day, stage), Cell()) for stage in STAGES]
            total = sum(cell.seconds for cell in cells)
            table.add_row(str(day), *map(_text, cells), f"{total:.0f} s" if total else "")
        return Group(table, Text(self._progress(), style="dim"))

    def _ended(self) -> list[date]:
        return [day for day in self.days if self.runs.get(day, {}).get("state") in DONE]

    def _shown(self) -> list[date]:
        """The days that fit on a screen, from a few days before the first that has not ended."""
        ended = {*self._ended()}
        at = next((n for n, day in enumerate(self.days) if day not in ended), len(self.days))
        first = max(0, min(at - _ROWS // 3, len(self.days) - _ROWS))
        return self.days[first : first + _ROWS]

    def _progress(self) -> str:
        """How many days have ended, and how long the others will take at this speed."""
        ended = len(self._ended())
        text = f"{ended} of {len(self.days)} days, {self.elapsed()} elapsed"
        if 0 < ended < len(self.days):
            seconds = (time.monotonic() - self.began) / ended * (len(self.days) - ended)
            text += f", about {max(1, round(seconds / 60))} min left"
        return text


def _cell(task: dict[str, Any]) -> Cell:
    seconds = task["duration"] or 0.0
    if task["state"] == "running" and task["start_date"]:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(task["start_date"])).total_seconds()
    return Cell(
        state=task["state"] or "",
        seconds=max(seconds, 0.0),
        run=task["dag_run_id"],
        attempt=max(task["try_number"], 1),
    )


def _text(cell: Cell) -> Text:
    mark, style = _LOOKS.get(cell.state, ("·", "dim"))
    timed = cell.state in ("success", "running", "failed")
    return Text(f"{mark} {cell.seconds:.0f} s" if timed else mark, style=style)
