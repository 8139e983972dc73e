"""Backfills by Airflow: which days one would run, creating it, and cancelling it.

What Airflow 3.3 gets wrong silently is refused here. A backfill leaves out days that have a run, unless
it is told to repeat it, and days that are under way. While the DAG is paused, its runs wait for ever;
so do runs of a cancelled backfill that were cleared. A DAG has one backfill at a time. On SQLite,
creating one for an unpaused DAG can end the scheduler.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from time import monotonic, sleep
from typing import Any, Literal
from zoneinfo import ZoneInfo

import httpx

from twinspire.backfills.airflow_rest import (
    DONE,
    AirflowRest,
    dates_of,
    day_of,
    on_sqlite,
    range_of,
    runs_of_days,
)
from twinspire.runs.day_status import MISSING, STALE, day_statuses
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import TryAgain, UsageError

_MARKED_WITHIN = 60.0
"""Seconds in which the scheduler marks a backfill as ended: it looks every half minute."""
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
      again: which days with a run Airflow runs again: `none`, `failed` or `completed` (both).
      conf: parameters of its runs.
      days: the days that it runs, oldest first.
      left_out: by day of the range that is not run, why.
      paused: whether the DAG is paused.
      active: number of a backfill of the same range that is under way, to be watched instead.
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
    """Asks Airflow and, for stale days, the working files which days a backfill would run.

    Args:
      redo: which days that have a run get another one: those that failed, those that are stale, or all.
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
        statuses = day_statuses(pipeline, first, last)
        stale = [status.day for status in statuses if status.state in (STALE, MISSING)]
        nothing_stale = not stale
        # Up to the last day, as later days go on from those that are made again. Stages that are not
        # stale are found done.
        first = min(stale, default=first)
    runs = runs_of_days(rest, pipeline.name, first, last, pipeline.zone)
    unfinished = sorted(day for day, run in runs.items() if run["state"] not in DONE)
    active = _active(rest, pipeline, {whole, (first, last)} if unfinished else set())
    days: list[date] = []
    if active:
        days = unfinished
    elif not nothing_stale:
        _check_stuck(runs)
        days = _days_to_run(rest, pipeline.name, first, last, zone=pipeline.zone, again=again)
    all_days = (whole[0] + timedelta(days=n) for n in range((whole[1] - whole[0]).days + 1))
    left_out = {day: _why_left_out(runs.get(day), redo) for day in all_days if day not in days}
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
    """Creates the backfill, unless it is under way, and returns its number.

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
    """Cancels the backfills of a DAG that are under way, and returns their numbers.

    Airflow marks runs that wait as failed, so that a later backfill runs them; a run that is at work
    goes on. Runs that are still queued after that are deleted: Airflow does not fail a run whose
    teardown has yet to come, and does not start it either.
    """
    numbers = [int(backfill["id"]) for backfill in active_backfills(rest, dag)]
    for number in numbers:
        rest.call("PUT", f"backfills/{number}/cancel")
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
        paused = bool(rest.call("GET", f"dags/{dag}")["is_paused"])
    except httpx.HTTPStatusError as e:
        if e.response.status_code != httpx.codes.NOT_FOUND:
            raise
        broken = "; ".join(error["filename"] for error in rest.import_errors())
        why = f" It cannot load {broken}: see its page." if broken else ""
        raise UsageError(
            f"Each pipeline file in the folder of TWINSPIRE_PIPELINES is a DAG; Airflow at"
            f" {rest.url} has none called {dag}.{why} A new file takes up to five minutes to"
            " appear."
        ) from e
    if paused and not may_be_paused:
        raise UsageError(
            f"A DAG's runs start while it is not paused; {dag} is, and the backfill would wait for"
            f" ever. Unpause it at {rest.url}/dags/{dag}, or give --unpause. Its schedule then"
            " runs, too."
        )
    return paused


def _active(
    rest: AirflowRest, pipeline: Pipeline, watched: Collection[tuple[date, date]]
) -> int | None:
    """The backfill under way, if its range is one of those to watch.

    Raises:
      UsageError: it has another range, or is paused.
    """
    for backfill in _under_way(rest, pipeline):
        first, last = (day_of(backfill[end], pipeline.zone) for end in ("from_date", "to_date"))
        name = f"Backfill {backfill['id']} of {first} to {last}"
        if backfill["is_paused"]:
            raise UsageError(
                f"{name} is paused: nothing starts until it is unpaused, at"
                f" {rest.url}/dags/{pipeline.name}/backfills, or cancelled: twinspire backfill"
                " PIPELINE --cancel."
            )
        if (first, last) in watched:
            return int(backfill["id"])
        raise UsageError(
            f"A DAG has one backfill at a time; {name} is under way. Wait for its end, or cancel"
            " it: twinspire backfill PIPELINE --cancel."
        )
    return None


def _under_way(rest: AirflowRest, pipeline: Pipeline) -> list[dict[str, Any]]:
    """Backfills that have not ended. One whose runs have all ended gets a minute to be marked so."""
    end = monotonic() + _MARKED_WITHIN
    while True:
        active = active_backfills(rest, pipeline.name)
        if not active or monotonic() > end or any(backfill["is_paused"] for backfill in active):
            return active
        if rest.runs(pipeline.name, run_type="backfill", state=["queued", "running"]):
            return active
        sleep(1)


def _check_stuck(runs: Mapping[date, dict[str, Any]]) -> None:
    """Refuses runs that will never start; called when no backfill is under way."""
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


MADE_WITHIN = 180
"""Seconds that Airflow has to make a backfill; after a time-out of ours it may go on with it."""


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

    Create it while the DAG is paused, and unpause the DAG afterwards: on SQLite, the scheduler of an
    unpaused DAG starts half-made runs, and may not survive it.

    Args:
      last: the last day, included.
      at_once: how many days run concurrently.
      again: which days that have a run get another: `none`, `failed` or `completed` (both).
      conf: parameters of all its runs.

    Raises:
      TryAgain: Airflow has not made it in time; the message says how to end a half-made one.
    """
    body = {
        **range_of(dag, first, last, zone),
        "max_active_runs": at_once,
        "reprocess_behavior": again,
        "dag_run_conf": dict(conf or {}),
    }
    days = _days_to_run(rest, dag, first, last, zone=zone, again=again)
    before = {int(backfill["id"]) for backfill in _backfills(rest, dag)}
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

    Airflow itself deletes a backfill whose runs it could not make. One whose request times out here is
    made in the end.
    """
    others = _backfills(rest, body["dag_id"])
    wanted = _instants(body, "from_date", "to_date")
    for other in others:
        if int(other["id"]) not in before and _instants(other, "from_date", "to_date") == wanted:
            return other
    try:
        return rest.call("POST", "backfills", json=dict(body), patience=0)
    except httpx.TimeoutException:
        return None
    except httpx.HTTPStatusError as error:
        # A request that timed out may have made it since we looked.
        conflict = error.response.status_code == httpx.codes.CONFLICT
        appeared = conflict and all(other["completed_at"] for other in others)
        if appeared or error.response.is_server_error:
            return None
        raise


def _days_not_made(
    rest: AirflowRest, backfill: Mapping[str, Any], days: Collection[date], zone: ZoneInfo
) -> list[date]:
    """The days of a backfill that lack a run of it, or whose run lacks tasks."""
    dag, between = backfill["dag_id"], dates_of(backfill["from_date"], backfill["to_date"])
    (began,) = _instants(backfill, "created_at")
    # A day that is under way already gets no run of the backfill
    made = [
        run
        for run in rest.runs(dag, **between)
        if run["state"] not in DONE
        or (run["queued_at"] and _instants(run, "queued_at")[0] >= began)
    ]
    whole = {task["dag_run_id"] for task in rest.all_tasks(dag, **between)}
    done = {day_of(run["data_interval_start"], zone) for run in made if run["dag_run_id"] in whole}
    return sorted({*days} - done)


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


def _days_to_run(
    rest: AirflowRest, dag: str, first: date, last: date, *, zone: ZoneInfo, again: str
) -> list[date]:
    """The days that such a backfill would run; those under way are not among them."""
    body = {**range_of(dag, first, last, zone), "reprocess_behavior": again}
    runs = rest.call("POST", "backfills/dry_run", json=body)["backfills"]
    return sorted(day_of(run["logical_date"], zone) for run in runs)


def active_backfills(rest: AirflowRest, dag: str) -> list[dict[str, Any]]:
    """Backfills of a DAG that have not ended."""
    return [backfill for backfill in _backfills(rest, dag) if not backfill["completed_at"]]


def _backfills(rest: AirflowRest, dag: str) -> list[dict[str, Any]]:
    """The newest backfills of a DAG, newest first."""
    return list(
        rest.call("GET", "backfills", params={"dag_id": dag, "order_by": "-id"})["backfills"]
    )


def _instants(answer: Mapping[str, Any], *names: str) -> list[datetime]:
    return [datetime.fromisoformat(answer[name]) for name in names]
