"""Airflow's own backfills, and its runs by day.

Airflow compares instants, and a bare date would be midnight in Greenwich: days are those of the
pipeline's time zone.
"""

from collections.abc import Container, Mapping
from datetime import date, datetime, time
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import httpx

from twinspire.backfills.airflow_rest import AirflowRest


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
    """Starts a backfill over days and returns its id.

    Args:
      rest: the Airflow.
      dag: the DAG's id.
      first: the first day.
      last: the last day, included.
      zone: the pipeline's.
      at_once: how many days run concurrently.
      again: which days that have a run get another: `none`, `failed` or `completed` (both).
      conf: parameters of all its runs.
    """
    body = {
        **_range(dag, first, last, zone),
        "max_active_runs": at_once,
        "reprocess_behavior": again,
        "dag_run_conf": dict(conf or {}),
    }
    others = frozenset(int(one["id"]) for one in active_backfills(rest, dag))
    undo = partial(_drop_half_made, rest, dag, body, others)
    return int(rest.call("POST", "backfills", json=body, undo=undo)["id"])


def _drop_half_made(
    rest: AirflowRest, dag: str, body: Mapping[str, Any], others: Container[int]
) -> None:
    """Airflow makes a backfill first and then its runs, one by one. It clears up when SQLite is
    locked in between, but that needs the lock as well; what stays would block every other one.

    Args:
      rest: the Airflow.
      dag: the DAG's id.
      body: what was asked for.
      others: backfills that were active before.
    """
    first, last = body["from_date"], body["to_date"]
    of_days = {"logical_date_gte": first, "logical_date_lte": last}
    for one in active_backfills(rest, dag):
        same_days = _instants(one["from_date"], one["to_date"]) == _instants(first, last)
        if int(one["id"]) in others or not same_days:
            continue
        # Before the backfill is cancelled, which would make them failed ones, and so left out.
        for run in rest.runs(dag, run_type="backfill", state="queued", **of_days):
            rest.call("DELETE", f"dags/{dag}/dagRuns/{run['dag_run_id']}")
        try:
            cancel_backfill(rest, int(one["id"]))
        except httpx.HTTPStatusError as error:
            # Airflow has cleared up meanwhile.
            if error.response.status_code not in (httpx.codes.NOT_FOUND, httpx.codes.CONFLICT):
                raise


def days_to_run(
    rest: AirflowRest, dag: str, first: date, last: date, *, zone: ZoneInfo, again: str
) -> list[date]:
    """The days that such a backfill would run; those under way are not among them."""
    body = {**_range(dag, first, last, zone), "reprocess_behavior": again}
    found = rest.call("POST", "backfills/dry_run", json=body)["backfills"]
    return sorted(day_of(one["logical_date"], zone) for one in found)


def active_backfills(rest: AirflowRest, dag: str) -> list[dict[str, Any]]:
    """Backfills of a DAG that have not ended."""
    found = rest.call("GET", "backfills", params={"dag_id": dag, "order_by": "-id"})
    return [one for one in found["backfills"] if not one["completed_at"]]


def cancel_backfill(rest: AirflowRest, number: int) -> None:
    """Cancels a backfill: its runs that wait are marked as failed, those that run go on."""
    rest.call("PUT", f"backfills/{number}/cancel")


def runs_of_days(
    rest: AirflowRest, dag: str, first: date, last: date, zone: ZoneInfo
) -> dict[date, dict[str, Any]]:
    """The scheduled or backfilled run of each day that has one; manual ones belong to no day."""
    between = _range(dag, first, last, zone)
    found = rest.runs(
        dag, logical_date_gte=between["from_date"], logical_date_lte=between["to_date"]
    )
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


def _instants(*times: str) -> list[datetime]:
    return [datetime.fromisoformat(time) for time in times]
