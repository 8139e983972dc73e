"""Which days a backfill by Airflow would run; what Airflow would get wrong without a word is
refused here.

Facts about Airflow 3.3: a backfill leaves out, silently, days that have a run which it is not told
to repeat or which is under way; of a DAG that is paused its runs wait for ever; so do runs of a
cancelled backfill that were cleared; a DAG has one backfill at a time; and on SQLite, creating one of a
live DAG can end the scheduler.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

import httpx

from twinspire.backfills.airflow_backfills import (
    active_backfills,
    cancel_backfill,
    day_of,
    days_to_run,
    on_sqlite,
    runs_of_days,
    start_backfill,
)
from twinspire.backfills.airflow_rest import DONE, AirflowRest
from twinspire.runs.day_status import MISSING, STALE, day_statuses
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import UsageError

_NOT_DONE = (STALE, MISSING)
_MARKED_WITHIN = 60.0
"""Seconds: the scheduler looks every half minute for backfills whose runs have all ended."""
Redo = Literal["none", "failed", "stale", "all"]

_AIRFLOWS_WORD = {"none": "none", "failed": "failed", "stale": "completed", "all": "completed"}
_PARAMETERS: Mapping[str, Mapping[str, object]] = {
    "stale": {"late": True},
    "all": {"force": True},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillPlan:
    """A backfill that has not been started.

    Attributes:
      dag: the DAG's id.
      first: the first day of its range.
      last: the last day.
      again: which days with a run Airflow is told to run again.
      conf: parameters of its runs.
      days: the days that it runs, oldest first.
      left_out: why the other days of the range are not run.
      paused: whether the DAG is.
      active: number of a backfill of this very range that is under way, and is to be watched instead
        of starting another one.
    """

    dag: str
    first: date
    last: date
    again: str
    conf: Mapping[str, object]
    days: list[date]
    left_out: Mapping[date, str]
    paused: bool
    active: int | None = None


def plan_backfill(
    rest: AirflowRest,
    pipeline: Pipeline,
    first: date,
    last: date,
    redo: Redo,
    conf: Mapping[str, object],
    *,
    may_be_paused: bool = False,
) -> BackfillPlan:
    """Asks Airflow and, for stale days, the working files.

    Args:
      redo: which days that have a run are run again: those that failed, those that are stale, or all.
      conf: parameters of the runs.
      may_be_paused: whether the DAG will be unpaused after the backfill is created.

    Raises:
      UsageError: a day has not ended, the DAG is not there or is paused, another backfill is under
        way, or a run of an earlier one will never start.
    """
    _check_range(pipeline, first, last)
    paused = _check_dag(rest, pipeline.name, may_be_paused=may_be_paused)
    whole = (first, last)
    again = _AIRFLOWS_WORD[redo]
    nothing_stale = False
    if redo == STALE:
        found = [one.day for one in day_statuses(pipeline, first, last) if one.state in _NOT_DONE]
        nothing_stale = not found
        # Up to the last day, as later days go on from those that are made again. What is not stale
        # by then is found done, stage by stage.
        first = min(found, default=first)
    runs = runs_of_days(rest, pipeline.name, first, last, pipeline.zone)
    unfinished = sorted(day for day, run in runs.items() if run["state"] not in DONE)
    active = _active(rest, pipeline, {whole, (first, last)} if unfinished else set())
    days: list[date] = []
    if active:
        days = unfinished
    elif not nothing_stale:
        _check_stuck(runs)
        days = days_to_run(rest, pipeline.name, first, last, zone=pipeline.zone, again=again)
    left_out = {day: _why_left_out(runs.get(day), redo) for day in _days(*whole) if day not in days}
    return BackfillPlan(
        dag=pipeline.name,
        first=first,
        last=last,
        again=again,
        conf={**conf, **_PARAMETERS.get(redo, {})},
        days=days,
        left_out=left_out,
        paused=paused,
        active=active,
    )


def start(rest: AirflowRest, pipeline: Pipeline, plan: BackfillPlan, at_once: int = 1) -> int:
    """Creates the backfill, unless it is under way; its number.

    Raises:
      UsageError: the DAG is not paused, and Airflow's database is SQLite.
      TryAgain: Airflow has not made it in time.
    """
    if plan.active:
        return plan.active
    if not plan.paused and on_sqlite(rest, plan.dag):
        raise UsageError(
            f"On SQLite a backfill is created while the DAG is paused; {plan.dag} is not, and its"
            f" scheduler could end. Pause it at {rest.url}/dags/{plan.dag}, and type the command again"
            " with --unpause."
        )
    return start_backfill(
        rest,
        plan.dag,
        plan.first,
        plan.last,
        zone=pipeline.zone,
        at_once=at_once,
        again=plan.again,
        conf=plan.conf,
    )


def cancel(rest: AirflowRest, dag: str) -> list[int]:
    """Cancels the backfills of a DAG that are under way; their numbers.

    Runs that wait are marked as failed, so that a later backfill takes them up; one that is at work
    goes on to its end. Runs that are still queued after that would be so for ever, and are deleted:
    Airflow fails no run whose teardown has yet to come, and does not start it.
    """
    numbers = [int(one["id"]) for one in active_backfills(rest, dag)]
    for number in numbers:
        cancel_backfill(rest, number)
    for run in rest.runs(dag, run_type="backfill", state="queued"):
        rest.call("DELETE", f"dags/{dag}/dagRuns/{run['dag_run_id']}")
    return numbers


def _check_range(pipeline: Pipeline, first: date, last: date) -> None:
    if last < first:
        raise UsageError(f"--from is at or before --to, found {first} and {last}.")
    today = datetime.now(pipeline.zone).date()
    if last >= today:
        raise UsageError(
            f"A day is run when it has ended; --to {last} has not: it is {today} in"
            f" {pipeline.pipeline.time_zone}. Airflow would leave it out without a word. The last"
            f" day can be {today - timedelta(days=1)}."
        )


def _check_dag(rest: AirflowRest, dag: str, *, may_be_paused: bool) -> bool:
    """Whether the DAG is paused."""
    try:
        found = rest.call("GET", f"dags/{dag}")
    except httpx.HTTPStatusError as e:
        if e.response.status_code != httpx.codes.NOT_FOUND:
            raise
        told = "; ".join(one["filename"] for one in rest.import_errors())
        why = f" It cannot load {told}: see its page." if told else ""
        raise UsageError(
            f"Each pipeline file in the folder of TWINSPIRE_PIPELINES is a DAG; Airflow at"
            f" {rest.url} has none called {dag}.{why} A new file takes up to five minutes to"
            " appear."
        ) from e
    if found["is_paused"] and not may_be_paused:
        raise UsageError(
            f"A DAG's runs start while it is not paused; {dag} is, and the backfill would wait for"
            f" ever. Unpause it at {rest.url}/dags/{dag}, or give --unpause. Its schedule then"
            " runs, too."
        )
    return bool(found["is_paused"])


def _active(
    rest: AirflowRest, pipeline: Pipeline, watched: Collection[tuple[date, date]]
) -> int | None:
    """The backfill under way, if it is over days that are to be watched.

    Raises:
      UsageError: it is over others, or paused.
    """
    for one in _under_way(rest, pipeline):
        days = (day_of(one["from_date"], pipeline.zone), day_of(one["to_date"], pipeline.zone))
        name = f"Backfill {one['id']} of {days[0]} to {days[1]}"
        if one["is_paused"]:
            raise UsageError(
                f"{name} is paused: nothing starts until it is unpaused, at"
                f" {rest.url}/dags/{pipeline.name}/backfills, or cancelled: twinspire backfill"
                " PIPELINE --cancel."
            )
        if days in watched:
            return int(one["id"])
        raise UsageError(
            f"A DAG has one backfill at a time; {name} is under way. Wait for its end, or cancel"
            " it: twinspire backfill PIPELINE --cancel."
        )
    return None


def _under_way(rest: AirflowRest, pipeline: Pipeline) -> list[dict[str, Any]]:
    """Backfills that have not ended; one whose runs have all ended is given a minute to."""
    end = time.monotonic() + _MARKED_WITHIN
    while True:
        found = active_backfills(rest, pipeline.name)
        if not found or time.monotonic() > end or any(one["is_paused"] for one in found):
            return found
        if rest.runs(pipeline.name, run_type="backfill", state=["queued", "running"]):
            return found
        time.sleep(1)


def _check_stuck(runs: Mapping[date, dict[str, Any]]) -> None:
    """No backfill is under way."""
    stuck = {
        day: run
        for day, run in runs.items()
        if run["state"] == "queued" and run["run_type"] == "backfill"
    }
    if stuck:
        listed = ", ".join(map(str, stuck))
        raise UsageError(
            f"A run of a backfill starts while that is under way; those of {listed} are queued, and"
            " belong to one that was cancelled: somebody cleared them, and they would never"
            " start. End them: twinspire backfill PIPELINE --cancel."
        )


def _why_left_out(run: Mapping[str, Any] | None, redo: Redo) -> str:
    if run is None:
        return "it is not stale" if redo == STALE else "Airflow's schedule has no run of it"
    if run["state"] not in DONE:
        return f"its run is {run['state']}"
    if redo == STALE:
        return "it is not stale"
    if run["state"] == "failed":
        return "its run failed: --redo failed"
    return "its run ended well: --redo all, or --redo stale"


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
