"""Airflow's own backfills, and its runs by day.

Airflow compares instants, and a bare date would be midnight in Greenwich: days are those of the
pipeline's time zone.

The progress of a backfill: days by stages, while Airflow works.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from functools import partial
from time import monotonic, sleep
from typing import Any
from zoneinfo import ZoneInfo

import httpx
from rich.console import Group
from rich.table import Table
from rich.text import Text

from twinspire.backfills.airflow_rest import DONE, AirflowRest
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
      state: Airflow's name for it; empty while it has not begun.
      seconds: how long it took, or has taken.
      run, attempt: where its log is.
      found: whether it found its work done already.
    """

    state: str = ""
    seconds: float = 0.0
    run: str = ""
    attempt: int = 1
    found: bool = False


@dataclass(slots=True)
class Board:
    """What is known about each stage of each day.

    Attributes:
      days: the days of the backfill, oldest first.
      zone: the pipeline's, in which Airflow's data intervals are days.
      began: when it was made, by `monotonic`.
      cells: what is known, by day and stage.
      runs: Airflow's runs, by day.
    """

    days: list[date]
    zone: ZoneInfo
    began: float = field(default_factory=monotonic)
    cells: dict[tuple[date, str], Cell] = field(default_factory=dict)
    runs: dict[date, dict[str, Any]] = field(default_factory=dict)

    def watch(self, rest: AirflowRest, dag: str) -> Iterator[list[tuple[date, str, Cell]]]:
        """Asks Airflow again and again until the runs of all days have ended; each time yields the
        stages that have ended since the last one.

        Raises:
          TryAgain: Airflow does not work, or the runs that are left wait for somebody.
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
        """The runs that are at work or have just ended: of a long backfill most wait, or are done."""
        self.runs = runs_of_days(rest, dag, self.days[0], self.days[-1], self.zone)
        left = [self.runs[day] for day in self.days if day in self.runs and day not in ended]
        return [run for run in left if run["state"] != "queued"]

    def _never_started(self, rest: AirflowRest, dag: str) -> set[date]:
        """Days of which nothing will run, as they belong to no backfill any more: `--cancel` deletes
        runs, and somebody may have cleared one after it.

        Raises:
          TryAgain: the DAG or its backfill is paused.
        """
        backfills = active_backfills(rest, dag)
        if rest.call("GET", f"dags/{dag}")["is_paused"] or any(b["is_paused"] for b in backfills):
            raise TryAgain(
                f"Runs start while neither the DAG nor its backfill is paused; one of {dag} is. Unpause"
                f" it at {rest.url}/dags/{dag}/backfills, and type the command again to watch the days"
                " that are left."
            )
        if backfills:
            return set()
        return {
            day
            for day in self.days
            if day not in self.runs or self.runs[day]["run_type"] == "backfill"
        }

    def update(
        self, runs: list[dict[str, Any]], tasks: list[dict[str, Any]]
    ) -> list[tuple[date, str, Cell]]:
        """Takes in what Airflow says; returns the stages that have ended since the last time.

        Args:
          runs: of the backfill, with `dag_run_id` and `data_interval_start`.
          tasks: their task instances, and perhaps others'.
        """
        days = {run["dag_run_id"]: day_of(run["data_interval_start"], self.zone) for run in runs}
        ended = []
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

    def failed(self) -> list[tuple[date, str, Cell]]:
        """The stages that failed."""
        return [
            (day, stage, cell)
            for (day, stage), cell in self.cells.items()
            if cell.state == "failed"
        ]

    def elapsed(self) -> str:
        """Minutes and seconds since the board was made."""
        seconds = int(monotonic() - self.began)
        return f"{seconds // 60}:{seconds % 60:02d}"

    def __rich__(self) -> Group:
        """A table that fits 80 columns: the stages, and their seconds by day."""
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
        """The days that fit a screen: from a few before the first that has not ended."""
        ended = {*self._ended()}
        at = next((n for n, day in enumerate(self.days) if day not in ended), len(self.days))
        first = max(0, min(at - _ROWS // 3, len(self.days) - _ROWS))
        return self.days[first : first + _ROWS]

    def _progress(self) -> str:
        """How many days have ended, and how long the others will take if they take as long."""
        ended = len(self._ended())
        told = f"{ended} of {len(self.days)} days, {self.elapsed()} elapsed"
        if 0 < ended < len(self.days):
            seconds = (monotonic() - self.began) / ended * (len(self.days) - ended)
            told += f", about {max(1, round(seconds / 60))} min left"
        return told


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
    if cell.found:
        return Text("✓ before", style="dim green")
    mark, style = _LOOKS.get(cell.state, ("·", "dim"))
    timed = cell.state in ("success", "running", "failed")
    return Text(f"{mark} {cell.seconds:.0f} s" if timed else mark, style=style)


MADE_WITHIN = 180
"""Seconds in which Airflow makes a backfill; after a time-out of ours it may go on with it."""


def start_backfill(
    rest: AirflowRest,
    dag: str,
    first: date,
    last: date,
    *,
    zone: ZoneInfo,
    at_once: int = 1,
    again: str = "none",
    conf: Mapping[str, object] | None = None,
) -> int:
    """Creates a backfill and returns its id once all its days have a run, and these their tasks.

    Create it while the DAG is paused, and unpause the DAG afterwards: on SQLite, the scheduler of a
    live DAG takes up runs that are half made, and may not survive it.

    Args:
      rest: the Airflow.
      dag: the DAG's id.
      first: the first day.
      last: the last day, included.
      zone: the pipeline's.
      at_once: how many days run concurrently.
      again: which days that have a run get another: `none`, `failed` or `completed` (both).
      conf: parameters of all its runs.

    Raises:
      TryAgain: Airflow has not made it in time; says how to end what there is of it.
    """
    body = {
        **_range(dag, first, last, zone),
        "max_active_runs": at_once,
        "reprocess_behavior": again,
        "dag_run_conf": dict(conf or {}),
    }
    days = days_to_run(rest, dag, first, last, zone=zone, again=again)
    before = {int(one["id"]) for one in _backfills(rest, dag)}
    end = monotonic() + MADE_WITHIN
    while True:
        made = _find_or_create(rest, body, before)
        missing = _days_not_made(rest, made, days, zone) if made else days
        if made and not missing:
            return int(made["id"])
        if monotonic() > end:
            raise TryAgain(_half_made(rest, dag, made, len(days), len(missing)))
        sleep(1)


def _find_or_create(
    rest: AirflowRest, body: Mapping[str, Any], before: Collection[int]
) -> dict[str, Any] | None:
    """The backfill that an earlier request has made, or a new one; None while the database is busy.

    Airflow deletes a backfill itself whose runs it could not make. One that outlasts a time-out of
    ours is made in the end.
    """
    others = _backfills(rest, body["dag_id"])
    for one in others:
        same_days = _instants(one, "from_date", "to_date") == _instants(
            body, "from_date", "to_date"
        )
        if int(one["id"]) not in before and same_days:
            return one
    try:
        return rest.call("POST", "backfills", json=dict(body), patience=0)
    except httpx.TimeoutException:
        return None
    except httpx.HTTPStatusError as error:
        # A request that timed out may have made it since we looked.
        appeared = error.response.status_code == httpx.codes.CONFLICT and not any(
            one["completed_at"] is None for one in others
        )
        if appeared or error.response.is_server_error:
            return None
        raise


def _days_not_made(
    rest: AirflowRest, backfill: Mapping[str, Any], days: Collection[date], zone: ZoneInfo
) -> list[date]:
    """The days of a backfill that lack a run of it, or whose run lacks tasks."""
    dag, between = backfill["dag_id"], _dates(backfill["from_date"], backfill["to_date"])
    (began,) = _instants(backfill, "created_at")
    # Of what runs already, Airflow makes no run of the backfill.
    made = [
        run
        for run in rest.runs(dag, **between)
        if run["state"] not in DONE
        or (run["queued_at"] and _instants(run, "queued_at")[0] >= began)
    ]
    whole = {task["dag_run_id"] for task in rest.all_tasks(dag, **between)}
    found = {day_of(run["data_interval_start"], zone) for run in made if run["dag_run_id"] in whole}
    return sorted({*days} - found)


def _half_made(
    rest: AirflowRest, dag: str, made: Mapping[str, Any] | None, days: int, missing: int
) -> str:
    if not made:
        return (
            f"Airflow at {rest.url} makes a backfill in {MADE_WITHIN} s; it has not made one of"
            f" {dag}: its database was busy all the time.{rest.log_hint()} Try again when"
            " fewer runs are at work: on SQLite, those of other DAGs are in the way."
        )
    return (
        f"Airflow at {rest.url} makes a backfill in {MADE_WITHIN} s; backfill {made['id']} of {dag} has"
        f" {days - missing} of its {days} days.{rest.log_hint()} End it: twinspire backfill PIPELINE"
        " --cancel. Then type the command again with --redo failed."
    )


def days_to_run(
    rest: AirflowRest, dag: str, first: date, last: date, *, zone: ZoneInfo, again: str
) -> list[date]:
    """The days that such a backfill would run; those under way are not among them."""
    body = {**_range(dag, first, last, zone), "reprocess_behavior": again}
    found = rest.call("POST", "backfills/dry_run", json=body)["backfills"]
    return sorted(day_of(one["logical_date"], zone) for one in found)


def active_backfills(rest: AirflowRest, dag: str) -> list[dict[str, Any]]:
    """Backfills of a DAG that have not ended."""
    return [one for one in _backfills(rest, dag) if not one["completed_at"]]


def _backfills(rest: AirflowRest, dag: str) -> list[dict[str, Any]]:
    """The newest backfills of a DAG, newest first."""
    found = rest.call("GET", "backfills", params={"dag_id": dag, "order_by": "-id"})
    return list(found["backfills"])


def cancel_backfill(rest: AirflowRest, number: int) -> None:
    """Cancels a backfill: its runs that wait are marked as failed, those that run go on."""
    rest.call("PUT", f"backfills/{number}/cancel")


def on_sqlite(rest: AirflowRest, dag: str) -> bool:
    r"""Whether Airflow's database is SQLite, as far as can be told.

    Airflow keeps that to itself (its API masks the database's URL), but its search passes patterns to
    LIKE as they are: `\s` is an s to PostgreSQL and MySQL, and a backslash with an s to SQLite. Where
    `_` is no wildcard, the search tells nothing.
    """
    by_wildcard, by_escape = (
        rest.call("GET", "dags", params={"dag_id_pattern": pattern, "limit": 1})["total_entries"]
        for pattern in (f"_{dag[1:]}", f"\\{dag}")
    )
    return bool(by_wildcard and not by_escape)


def runs_of_days(
    rest: AirflowRest, dag: str, first: date, last: date, zone: ZoneInfo
) -> dict[date, dict[str, Any]]:
    """The scheduled or backfilled run of each day that has one; manual ones belong to no day."""
    between = _range(dag, first, last, zone)
    found = rest.runs(dag, **_dates(between["from_date"], between["to_date"]))
    return {day_of(run["data_interval_start"], zone): run for run in found}


def day_of(instant: str, zone: ZoneInfo) -> date:
    """The day in which an instant lies that Airflow names."""
    return datetime.fromisoformat(instant).astimezone(zone).date()


def _range(dag: str, first: date, last: date, zone: ZoneInfo) -> dict[str, str]:
    return {
        "dag_id": dag,
        "from_date": datetime.combine(first, time.min, zone).isoformat(),
        "to_date": datetime.combine(last, time(23, 59, 59), zone).isoformat(),
    }


def _dates(first: str, last: str) -> dict[str, str]:
    return {"logical_date_gte": first, "logical_date_lte": last}


def _instants(told: Mapping[str, Any], *names: str) -> list[datetime]:
    return [datetime.fromisoformat(told[name]) for name in names]
