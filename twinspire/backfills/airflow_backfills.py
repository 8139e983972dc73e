"""Backfills by Airflow: finds the days that one would run, creates it, and cancels it.

Airflow 3.3 does these things without an error, so they are refused here. A backfill leaves out days that
are running, and days that have a run unless they are to be repeated. While the DAG is paused, its
runs wait for ever; so do runs of a cancelled backfill that were cleared. On SQLite, a backfill of an
unpaused DAG can end the scheduler.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from time import monotonic, sleep
from typing import Any, Literal
from zoneinfo import ZoneInfo

from airflow_client.client.api.backfill_api import BackfillApi
from airflow_client.client.api.dag_run_api import DagRunApi
from airflow_client.client.exceptions import NotFoundException
from airflow_client.client.models.backfill_post_body import BackfillPostBody
from airflow_client.client.models.reprocess_behavior import ReprocessBehavior

from twinspire.backfills.airflow_rest import (
    DONE,
    AirflowRest,
    as_json,
    day_of,
    on_sqlite,
    range_of,
    runs_of_days,
)
from twinspire.runs.day_status import day_statuses
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import UsageError

# Seconds until the scheduler has marked a backfill as ended. It looks every half minute
_MARKED_WITHIN = 60.0
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
      again: which days with a run Airflow runs again: `none`, `failed` or `completed` (both).
      conf: parameters of its runs.
      days: the days that it runs, oldest first.
      left_out: why a day of the range is not run, by day.
      paused: whether the DAG is paused.
      active: number of a running backfill of the same range, to be watched instead.
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
    """Finds the days that a backfill would run. Airflow knows them, and the working files which are stale.

    Args:
      redo: which days that have a run get another one.
      conf: parameters of the runs.
      may_be_paused: whether the DAG will be unpaused after the backfill is created.

    Raises:
      UsageError: a day has not ended, there is no such DAG or it is paused, another backfill is running,
        or a run of an earlier one will never start.
    """
    _check_ended(pipeline, last)
    paused = _check_dag(rest, pipeline.name, may_be_paused=may_be_paused)
    whole = (first, last)
    again = _AIRFLOWS_WORD[redo]
    nothing_stale = False
    if redo == "stale":
        statuses = day_statuses(pipeline, first, last)
        stale = [status.day for status in statuses if status.state in ("stale", "missing")]
        nothing_stale = not stale
        # All days from the first stale one on, because later days continue from it. Stages that are not
        # stale are skipped
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


def start(
    rest: AirflowRest,
    pipeline: Pipeline,
    plan: BackfillPlan,
    at_once: int = 1,
    *,
    unpause: bool = False,
) -> int:
    """Creates the backfill, unless it is running, and returns its number.

    Args:
      unpause: whether the DAG is unpaused afterwards. Then it is also paused before, if Airflow's
        database is SQLite.

    Raises:
      UsageError: the DAG is not paused, Airflow's database is SQLite, and `unpause` is off.
    """
    number, must_pause = plan.active, not plan.paused and on_sqlite(rest, plan.dag)
    if number is None and must_pause and not unpause:
        raise UsageError(
            "If Airflow uses SQLite, the DAG must be paused while a backfill is created, because the"
            f" scheduler could crash; {plan.dag} is not paused. Give --unpause: then the command pauses"
            " it, creates the backfill and unpauses it."
        )
    try:
        if number is None:
            if must_pause:
                rest.unpause(plan.dag, paused=True)
            number = start_backfill(
                rest,
                plan.dag,
                plan.first,
                plan.last,
                zone=pipeline.zone,
                at_once=at_once,
                again=plan.again,
                conf=plan.conf,
            )
    finally:
        # Also after an error, a DAG that was not paused is not left paused
        if unpause and (number is not None or not plan.paused):
            rest.unpause(plan.dag)
    return number


def cancel(rest: AirflowRest, dag: str) -> list[int]:
    """Cancels the running backfills of a DAG, and returns their numbers. Runs that have started continue."""
    # Airflow marks waiting runs as failed, so that a later backfill can run them
    numbers = [int(backfill["id"]) for backfill in active_backfills(rest, dag)]
    for number in numbers:
        BackfillApi(rest).cancel_backfill(number)
    # Airflow neither fails nor starts a run whose teardown has not run. It would stay queued for ever
    for run in rest.runs(dag, run_type=["backfill"], state=["queued"]):
        DagRunApi(rest).delete_dag_run(dag, run["dag_run_id"])
    return numbers


def _check_ended(pipeline: Pipeline, last: date) -> None:
    today = datetime.now(pipeline.zone).date()
    if last >= today:
        raise UsageError(
            f"A day can be run only after its end; --to {last} has not ended: today is {today} in"
            f" {pipeline.pipeline.time_zone}. Give --to {today - timedelta(days=1)} or an earlier day."
        )


def _check_dag(rest: AirflowRest, dag: str, *, may_be_paused: bool) -> bool:
    """Whether the DAG is paused."""
    try:
        paused = rest.is_paused(dag)
    except NotFoundException as e:
        broken = "; ".join(error["filename"] for error in rest.import_errors())
        why = f" Airflow cannot load {broken}: see its page." if broken else ""
        raise UsageError(
            f"Airflow at {rest.url} has no DAG {dag}. Airflow makes a DAG of each pipeline file in the"
            f" folder TWINSPIRE_PIPELINES.{why} A new file takes up to five minutes to appear."
        ) from e
    if paused and not may_be_paused:
        raise UsageError(
            f"{dag} is paused, so the runs of a backfill would never start. Unpause it at"
            f" {rest.url}/dags/{dag}, or give --unpause. Then its schedule runs, too."
        )
    return paused


def _active(
    rest: AirflowRest, pipeline: Pipeline, watched: Collection[tuple[date, date]]
) -> int | None:
    """The number of the running backfill, if its range is one of those to watch.

    Raises:
      UsageError: it has another range, or is paused.
    """
    for backfill in _under_way(rest, pipeline):
        first, last = (day_of(backfill[end], pipeline.zone) for end in ("from_date", "to_date"))
        name = f"Backfill {backfill['id']} of {first} to {last}"
        if backfill["is_paused"]:
            raise UsageError(
                f"{name} is paused, so it starts no runs. Unpause it at"
                f" {rest.url}/dags/{pipeline.name}/backfills, or cancel it: twinspire backfill PIPELINE"
                " --cancel."
            )
        if (first, last) in watched:
            return int(backfill["id"])
        raise UsageError(
            f"A DAG can have only one backfill at a time; {name} is running. Wait until it has ended,"
            " or cancel it: twinspire backfill PIPELINE --cancel."
        )
    return None


def _under_way(rest: AirflowRest, pipeline: Pipeline) -> list[dict[str, Any]]:
    """Backfills that have not ended."""
    # If all runs of a backfill have ended, the scheduler gets a minute to mark it as ended
    end = monotonic() + _MARKED_WITHIN
    while True:
        active = active_backfills(rest, pipeline.name)
        if not active or monotonic() > end or any(backfill["is_paused"] for backfill in active):
            return active
        if rest.runs(pipeline.name, run_type=["backfill"], state=["queued", "running"]):
            return active
        sleep(1)


def _check_stuck(runs: Mapping[date, dict[str, Any]]) -> None:
    """Refuses runs that will never start, because no backfill is running."""
    stuck = {
        day: run
        for day, run in runs.items()
        if run["state"] == "queued" and run["run_type"] == "backfill"
    }
    if stuck:
        raise UsageError(
            "Runs of a cancelled backfill never start. Somebody cleared the runs of"
            f" {', '.join(map(str, stuck))}, so they stay queued. End them: twinspire backfill PIPELINE"
            " --cancel."
        )


_WHY_LEFT_OUT = {
    None: "Airflow's schedule has no run of it",
    "failed": "its run failed: --redo failed",
    "success": "its run succeeded: --redo all, or --redo stale",
}


def _why_left_out(run: Mapping[str, Any] | None, redo: Redo) -> str:
    state = run["state"] if run else None
    if redo == "stale" and state in _WHY_LEFT_OUT:
        return "it is not stale"
    return _WHY_LEFT_OUT.get(state, f"its run is {state}")


# Seconds that Airflow has to create a backfill. On SQLite it waits for the other writers, run by run
_MADE_WITHIN = 180.0


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
    """Creates a backfill with all its runs, and returns its id. On SQLite, the DAG must be paused
    meanwhile: its scheduler would start half-made runs, and may crash.

    Args:
      last: the last day, included.
      at_once: how many days run at the same time.
      again: which days that have a run get another: `none`, `failed` or `completed` (both).
      conf: parameters of all its runs.

    Raises:
      HTTPError, ApiException: Airflow has not created it in time, or refuses it.
    """
    body = _body(dag, first, last, zone, again)
    body.max_active_runs, body.dag_run_conf = at_once, dict(conf or {})
    # While its database is locked, Airflow deletes what it has made and answers 503, which is sent again
    return int(BackfillApi(rest).create_backfill(body, _request_timeout=_MADE_WITHIN).id)


def _body(dag: str, first: date, last: date, zone: ZoneInfo, again: str) -> BackfillPostBody:
    begin, end = range_of(first, last, zone)
    return BackfillPostBody(
        dag_id=dag, from_date=begin, to_date=end, reprocess_behavior=ReprocessBehavior(again)
    )


def _days_to_run(
    rest: AirflowRest, dag: str, first: date, last: date, *, zone: ZoneInfo, again: str
) -> list[date]:
    """The days that such a backfill would run, without those that are running."""
    body = _body(dag, first, last, zone, again)
    runs = as_json(BackfillApi(rest).create_backfill_dry_run(body).backfills)
    return sorted(day_of(run["logical_date"], zone) for run in runs)


def active_backfills(rest: AirflowRest, dag: str) -> list[dict[str, Any]]:
    """Backfills of a DAG that have not ended."""
    newest = as_json(BackfillApi(rest).list_backfills(dag, order_by=["-id"]).backfills)
    return [backfill for backfill in newest if not backfill["completed_at"]]
