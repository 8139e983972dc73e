"""Airflow's own backfills, and its runs by day.

Airflow compares instants, and a bare date would be midnight in Greenwich: days are those of the
pipeline's time zone.
"""

from collections.abc import Collection, Mapping
from datetime import date, datetime, time
from time import monotonic, sleep
from typing import Any
from zoneinfo import ZoneInfo

import httpx

from twinspire.backfills.airflow_rest import DONE, AirflowRest
from twinspire_core.errors import TryAgain

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
      last: the last day, included.
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
