"""The progress of a backfill: its days and their stages."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from twinspire.backfills.airflow_backfills import active_backfills
from twinspire.backfills.airflow_rest import DONE, AirflowRest, day_of, runs_of_days
from twinspire_core.errors import TryAgain

STAGES = ("features", "train", "measure", "embed", "index", "publish")
ENDED = {"success", "failed", "skipped", "upstream_failed", "removed"}


Task = dict[str, Any]
"""A task instance, as Airflow's REST API describes it."""


@dataclass(slots=True)
class Board:
    """The progress of each stage of each day.

    Attributes:
      days: the days of the backfill, oldest first.
      zone: the pipeline's time zone, in which Airflow's data intervals are days.
      began: when the board was made, by `time.monotonic`.
      cells: the task of each day and stage.
      runs: Airflow's run of each day.
    """

    days: list[date]
    zone: ZoneInfo
    began: float = field(default_factory=time.monotonic)
    cells: dict[tuple[date, str], Task] = field(default_factory=dict)
    runs: dict[date, dict[str, Any]] = field(default_factory=dict)

    def watch(self, rest: AirflowRest, dag: str) -> Iterator[list[str]]:
        """Asks Airflow until the runs of all days have ended. Yields a line for each stage that has ended
        since the last time.

        Raises:
          TryAgain: Airflow does not work, or the DAG or its backfill is paused.
        """
        ended: set[date] = set()
        for runs in rest.poll(partial(self._moved, rest, dag, ended)):
            tasks = [(run, rest.tasks(dag, run["dag_run_id"])) for run in runs]
            yield [line for run in tasks for line in self._take_up(*run)]
            ended |= {self._day(run) for run in runs if run["state"] in DONE}
            if not runs and ended != {*self.days}:
                ended |= self._never_started(rest, dag)
            if ended >= {*self.days}:
                return

    def _day(self, run: dict[str, Any]) -> date:
        return day_of(run["data_interval_start"], self.zone)

    def _take_up(self, run: dict[str, Any], tasks: dict[str, Task]) -> Iterator[str]:
        """Stores the tasks of a run. Yields a line for each stage that has ended since the last time."""
        day = self._day(run)
        for name, task in tasks.items():
            before = self.cells.get((day, name), {}).get("state")
            self.cells[day, name] = task
            if name in STAGES and task["state"] in ENDED and before not in ENDED:
                seconds = f"{task['duration'] or 0:.0f} s"
                yield f"{self.elapsed()} {day} {name}: {task['state']} in {seconds}"

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
        if rest.is_paused(dag) or any(b["is_paused"] for b in backfills):
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

    def elapsed(self) -> str:
        """Minutes and seconds since the board was made."""
        seconds = int(time.monotonic() - self.began)
        return f"{seconds // 60}:{seconds % 60:02d}"

    def progress(self) -> str:
        """How many days have ended, and how long the others will take at this speed."""
        # Also days that ended before this command began to watch
        ended = sum(self.runs.get(day, {}).get("state") in DONE for day in self.days)
        text = f"{ended} of {len(self.days)} days, {self.elapsed()} elapsed"
        if 0 < ended < len(self.days):
            seconds = (time.monotonic() - self.began) / ended * (len(self.days) - ended)
            text += f", about {max(1, round(seconds / 60))} min left"
        return text
