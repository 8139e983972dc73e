"""A client of Airflow's REST API: DAGs, their runs and tasks.

Airflow compares instants, and reads a date without a time as midnight UTC. Days here are therefore sent
as instants of the pipeline's time zone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from time import monotonic, sleep
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import httpx

from twinspire_core.errors import TryAgain, UsageError

CREDENTIALS = "TWINSPIRE_AIRFLOW_TOKEN, or TWINSPIRE_AIRFLOW_USER and TWINSPIRE_AIRFLOW_PASSWORD"
"""Environment variables that hold the login. Options would show it to all users of the machine."""

DONE = {"success", "failed"}
_PAGE = 100
_POLL_SECONDS = 2.0
_PARTS = ("metadatabase", "scheduler", "dag_processor")
TIMEOUT = 60
"""Seconds for one request. With SQLite, a writer may wait so long for others."""
BUSY = 60
"""Seconds for which a request to a busy or silent server is sent again."""
UNHEALTHY = 60
"""Seconds that a part of Airflow may be broken before waiting for it ends."""
Answer = TypeVar("Answer")


class AirflowRest:
    """A client that logs in by itself.

    Attributes:
      url: Airflow's address.

    All answers are Airflow's JSON objects
    (https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html).
    """

    def __init__(self, url: str, user: str = "", password: str = "", token: str = "") -> None:
        """Sends no request yet.

        Args:
          user: to log in as; empty if a token is given, or if Airflow needs no login.
          token: instead of user and password.
        """
        self._has_answered = False
        self.url = url.rstrip("/")
        # A proxy cannot reach an Airflow on this machine
        local = httpx.URL(url).host in ("127.0.0.1", "localhost", "::1")
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=not local)
        self._login = {"username": user, "password": password} if user else None
        self._can_log_in = bool(user) or not token
        if token:
            self._authorize(token)

    def call(
        self, method: str, path: str, *, patience: float = BUSY, **kwargs: Any
    ) -> dict[str, Any]:
        """Sends one request.

        Args:
          path: below `/api/v2/`, without a leading slash.
          patience: seconds for which the request is sent again while the server is busy. A request that
            may be repeated is also sent again while a server that has answered before is silent.

        Raises:
          httpx.HTTPStatusError: with the server's reason.
          httpx.TransportError: the server does not answer.
        """
        end = monotonic() + patience
        while True:
            last = monotonic() >= end
            try:
                answer = self._request(method, f"/api/v2/{path}", **kwargs)
            except httpx.TransportError:
                # A POST whose answer was lost may have been carried out. Sent again, it would act twice.
                if last or method == "POST" or not self._has_answered:
                    raise
            else:
                if last or not _is_busy(answer):
                    break
            sleep(1)
        if answer.is_error:
            reason = f"{method} {path}: {answer.status_code} {answer.text.rstrip('.')}"
            raise httpx.HTTPStatusError(reason, request=answer.request, response=answer)
        return answer.json() if answer.content else {}

    def _request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        has_token = "authorization" in self._http.headers
        if not has_token:
            self._authorize(self._log_in())
        answer = self._http.request(method, path, **kwargs)
        # A token lasts a day by default, but a backfill may be watched for longer
        if answer.status_code == httpx.codes.UNAUTHORIZED and has_token and self._can_log_in:
            self._authorize(self._log_in())
            answer = self._http.request(method, path, **kwargs)
        self._has_answered = True
        return answer

    def _log_in(self) -> str:
        path = "/auth/token"
        answer = self._http.post(path, json=self._login) if self._login else self._http.get(path)
        return str(answer.raise_for_status().json()["access_token"])

    def _authorize(self, token: str) -> None:
        self._http.headers["authorization"] = f"Bearer {token}"

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def trouble(self) -> str:
        """What is wrong with Airflow's parts; empty if all of them work."""
        try:
            parts = self._http.get("/api/v2/monitor/health", timeout=10).raise_for_status().json()
        except (httpx.HTTPError, ValueError) as e:
            return f"its API server does not answer ({e or type(e).__name__})"
        bad = [name for name in _PARTS if parts[name]["status"] != "healthy"]
        return f"these parts are unhealthy: {', '.join(bad)}" if bad else ""

    def poll(self, ask: Callable[[], Answer]) -> Iterator[Answer]:
        """Calls a function again and again while Airflow works, and yields what it returns.

        Raises:
          TryAgain: a part of Airflow has not worked for UNHEALTHY seconds.
          httpx.TransportError: the server does not answer.
        """
        since = None
        while True:
            trouble = self.trouble()
            since = (since or monotonic()) if trouble else None
            if since and monotonic() - since > UNHEALTHY:
                raise TryAgain(
                    f"Airflow at {self.url} has not worked for {UNHEALTHY} s: {trouble}. Start the part that"
                    " has ended, or all of Airflow. Then runs go on by themselves. Type the command again to"
                    " watch them."
                )
            yield ask()
            sleep(_POLL_SECONDS)

    def import_errors(self) -> list[dict[str, Any]]:
        """DAG files that Airflow cannot load."""
        return list(self.call("GET", "importErrors")["import_errors"])

    def unpause(self, dag: str, *, paused: bool = False) -> None:
        """Unpauses a DAG, or pauses it."""
        self.call("PATCH", f"dags/{dag}", json={"is_paused": paused})

    def runs(self, dag: str, **query: object) -> list[dict[str, Any]]:
        """Runs of a DAG, oldest day first; those without a day last."""
        runs: list[dict[str, Any]] = []
        while True:
            # In the order of ids, so that pages neither repeat nor miss a run that starts meanwhile
            asked = {"order_by": "id", "limit": _PAGE, "offset": len(runs), **query}
            page = self.call("GET", f"dags/{dag}/dagRuns", params=asked)
            runs += page["dag_runs"]
            # The server may send smaller pages than asked for
            if not page["dag_runs"] or len(runs) >= page["total_entries"]:
                # "9" comes after every date
                return sorted(runs, key=lambda run: run["data_interval_start"] or "9")

    def tasks(self, dag: str, run: str) -> dict[str, dict[str, Any]]:
        """Task instances of a run, by task."""
        tasks = self.call("GET", f"dags/{dag}/dagRuns/{run}/taskInstances", params={"limit": 100})
        return {task["task_id"]: task for task in tasks["task_instances"]}

    def result(self, dag: str, run: str, task: str) -> dict[str, Any]:
        """What a task returned: the JSON object on the last line of its standard output."""
        path = f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/return_value"
        return self.call("GET", path, params={"deserialize": True})["value"]

    def log(self, dag: str, run: str, task: str, attempt: int = 1) -> str:
        """A task's log as text, errors included."""
        path = f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{attempt}"
        lines = self.call(
            "GET", path, params={"full_content": True}, headers={"accept": "application/json"}
        )["content"]
        return "\n".join(_text(line) for line in lines)


def runs_of_days(
    rest: AirflowRest, dag: str, first: date, last: date, zone: ZoneInfo
) -> dict[date, dict[str, Any]]:
    """The scheduled or backfilled run of each day that has one; manual ones belong to no day."""
    between = range_of(dag, first, last, zone)
    query = {"logical_date_gte": between["from_date"], "logical_date_lte": between["to_date"]}
    return {day_of(run["data_interval_start"], zone): run for run in rest.runs(dag, **query)}


def day_of(instant: str, zone: ZoneInfo) -> date:
    """The day of an instant, as Airflow writes it."""
    return datetime.fromisoformat(instant).astimezone(zone).date()


def range_of(dag: str, first: date, last: date, zone: ZoneInfo) -> dict[str, str]:
    """The range of a backfill for Airflow: from the first day's midnight to the last day's end."""
    return {
        "dag_id": dag,
        "from_date": datetime.combine(first, time.min, zone).isoformat(),
        # Not the next midnight, with which Airflow would run one more day
        "to_date": datetime.combine(last, time(23, 59, 59), zone).isoformat(),
    }


def on_sqlite(rest: AirflowRest, dag: str) -> bool:
    """Whether the API says that Airflow's database is SQLite."""
    # The API hides the database's URL, but its search passes patterns to LIKE unchanged. `\s` means an s in
    # PostgreSQL and MySQL, but a backslash and an s in SQLite. The wildcard `_` checks that this still holds
    by_wildcard, by_escape = (
        rest.call("GET", "dags", params={"dag_id_pattern": pattern, "limit": 1})["total_entries"]
        for pattern in (f"_{dag[1:]}", f"\\{dag}")
    )
    return bool(by_wildcard and not by_escape)


@contextmanager
def readable_errors(rest: AirflowRest) -> Iterator[None]:
    """Turns errors of requests to Airflow into errors that say what to do.

    Raises:
      UsageError: the login is wrong or lacks a permission, or Airflow refuses the request.
      TryAgain: Airflow does not answer.
    """
    try:
        yield
    except httpx.HTTPStatusError as e:
        refused = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
        if e.response.status_code in refused:
            raise UsageError(
                f"Airflow at {rest.url} needs a login with permission to run DAGs; it answered"
                f" {e.response.status_code} to {e.request.url.path}. Set {CREDENTIALS}."
            ) from e
        if e.response.is_server_error:
            raise TryAgain(f"Airflow at {rest.url} failed: {e}") from e
        raise UsageError(f"Airflow at {rest.url} refused the request: {e}") from e
    except httpx.TimeoutException as e:
        raise TryAgain(
            f"Airflow at {rest.url} has not answered {e.request.method} {e.request.url.path} in time. It"
            " may still carry out the request. Try again when its machine is less busy."
        ) from e
    except httpx.HTTPError as e:
        raise TryAgain(
            f"Airflow's API server does not answer at {rest.url}: {str(e) or type(e).__name__}. Start it (make"
            " airflow), or give its address with --airflow or TWINSPIRE_AIRFLOW_URL."
        ) from e


def _is_busy(answer: httpx.Response) -> bool:
    """Whether the same request may succeed later."""
    # Without its database, Airflow answers 500
    unavailable = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    return unavailable or (answer.request.method == "GET" and answer.is_server_error)


def _text(line: str | dict[str, Any]) -> str:
    if isinstance(line, str):
        return line
    errors = (
        f"{error['exc_type']}: {error['exc_value']}" for error in line.get("error_detail") or ()
    )
    return "\n".join([line.get("event", ""), *errors])
