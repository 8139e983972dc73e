"""Airflow's REST API, by its own client: a login that is renewed, and patience with a busy server.

Airflow compares instants, and reads a date without a time as midnight UTC. Days here are therefore sent
as instants of the pipeline's time zone. All answers are Airflow's JSON objects
(https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html).
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from time import monotonic, sleep
from typing import Any, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from airflow_client.client import ApiClient, Configuration
from airflow_client.client.api.dag_api import DAGApi
from airflow_client.client.api.dag_run_api import DagRunApi
from airflow_client.client.api.import_error_api import ImportErrorApi
from airflow_client.client.api.task_instance_api import TaskInstanceApi
from airflow_client.client.api.x_com_api import XComApi
from airflow_client.client.exceptions import (
    ApiException,
    ForbiddenException,
    ServiceException,
    UnauthorizedException,
)
from airflow_client.client.models.dag_patch_body import DAGPatchBody
from airflow_client.client.rest import RESTResponse
from pydantic import BaseModel, ValidationError
from urllib3.exceptions import HTTPError, ReadTimeoutError

from twinspire_core.errors import TryAgain, UsageError

CREDENTIALS = "TWINSPIRE_AIRFLOW_TOKEN, or TWINSPIRE_AIRFLOW_USER and TWINSPIRE_AIRFLOW_PASSWORD"
"""Environment variables that hold the login. Options would show it to all users of the machine."""

DONE = {"success", "failed"}
_PAGE = 100
_POLL_SECONDS = 2.0
_PARTS = ("metadatabase", "scheduler", "dag_processor")
TIMEOUT = 60.0
"""Seconds for one request. With SQLite, a writer may wait so long for others."""
BUSY = 60
"""Seconds for which a request to a busy or silent server is sent again, or longer with a longer timeout."""
UNHEALTHY = 60
"""Seconds that a part of Airflow may be broken before waiting for it ends."""
Answer = TypeVar("Answer")


class AirflowRest(ApiClient):
    """The client that all of Airflow's APIs take.

    Attributes:
      url: Airflow's address.
    """

    def __init__(self, url: str, user: str = "", password: str = "", token: str = "") -> None:
        """Sends no request yet.

        Args:
          user: to log in as; empty if a token is given, or if Airflow needs no login.
          token: instead of user and password.
        """
        self.url = url.rstrip("/")
        # A proxy cannot reach an Airflow on this machine
        host = urlsplit(url).hostname
        local = host if host in ("127.0.0.1", "localhost", "::1") else None
        super().__init__(Configuration(host=self.url, retries=False, no_proxy=local))
        self._has_answered = False
        self._login = {"username": user, "password": password} if user else None
        self._can_log_in = bool(user) or not token
        self._token = token

    def call_api(
        self,
        method: str,
        url: str,
        header_params: dict[str, str] | None = None,
        body: Any = None,
        post_params: Any = None,
        _request_timeout: float | None = None,
    ) -> RESTResponse:
        """Sends a request of one of the APIs again while the server is busy. A request that may be repeated
        is also sent again while a server that has answered before is silent.

        Raises:
          HTTPError: the server does not answer.
          ApiException: the login is refused.
        """
        timeout = _request_timeout or TIMEOUT
        end = monotonic() + max(BUSY, timeout)
        while True:
            last = monotonic() >= end
            try:
                answer = self._send(method, url, header_params or {}, body, timeout)
            except HTTPError:
                # A POST whose answer was lost may have been carried out. Sent again, it would act twice.
                if last or method == "POST" or not self._has_answered:
                    raise
            else:
                if last or not _is_busy(method, answer.status):
                    return answer
            sleep(1)

    def _send(
        self, method: str, url: str, headers: dict[str, str], body: Any, timeout: float
    ) -> RESTResponse:
        for has_token in (bool(self._token), False):
            if not has_token:
                self._token = self._ask("/auth/token", TIMEOUT, self._login)["access_token"]
            headers["Authorization"] = f"Bearer {self._token}"
            answer = super().call_api(method, url, headers, body, None, timeout)
            answer.read()  # type: ignore[no-untyped-call]
            self._has_answered = True
            # A token lasts a day by default, but a backfill may be watched for longer
            if answer.status != 401 or not (has_token and self._can_log_in):
                break
        return answer

    def _ask(self, path: str, timeout: float, body: dict[str, str] | None = None) -> dict[str, Any]:
        """The answer to a request that needs no login."""
        method, headers = "POST" if body else "GET", {"Content-Type": "application/json"}
        answer = super().call_api(method, self.url + path, headers, body, None, timeout)
        text = answer.read().decode()  # type: ignore[no-untyped-call]
        if answer.status >= 400:
            raise ApiException.from_response(http_resp=answer, body=text, data=None)
        return dict(json.loads(text))

    def close(self) -> None:
        """Closes the connections."""
        self.rest_client.pool_manager.clear()

    def trouble(self) -> str:
        """What is wrong with Airflow's parts; empty if all of them work."""
        try:
            parts = self._ask("/api/v2/monitor/health", 10)
        except (HTTPError, ApiException, ValueError) as e:
            return f"its API server does not answer ({e or type(e).__name__})"
        bad = [name for name in _PARTS if parts[name]["status"] != "healthy"]
        return f"these parts are unhealthy: {', '.join(bad)}" if bad else ""

    def poll(self, ask: Callable[[], Answer]) -> Iterator[Answer]:
        """Calls a function again and again while Airflow works, and yields what it returns.

        Raises:
          TryAgain: a part of Airflow has not worked for UNHEALTHY seconds.
          HTTPError: the server does not answer.
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
        return as_json(ImportErrorApi(self).get_import_errors().import_errors)

    def is_paused(self, dag: str) -> bool:
        """Whether a DAG is paused."""
        return bool(DAGApi(self).get_dag(dag).is_paused)

    def unpause(self, dag: str, *, paused: bool = False) -> None:
        """Unpauses a DAG, or pauses it."""
        DAGApi(self).patch_dag(dag, DAGPatchBody(is_paused=paused))

    def runs(self, dag: str, **query: Any) -> list[dict[str, Any]]:
        """Runs of a DAG, oldest day first; those without a day last."""
        runs: list[dict[str, Any]] = []
        while True:
            # In the order of ids, so that pages neither repeat nor miss a run that starts meanwhile
            page = DagRunApi(self).get_dag_runs(
                dag, order_by=["id"], limit=_PAGE, offset=len(runs), **query
            )
            runs += as_json(page.dag_runs)
            # The server may send smaller pages than asked for
            if not page.dag_runs or len(runs) >= (page.total_entries or 0):
                # "9" comes after every date
                return sorted(runs, key=lambda run: run["data_interval_start"] or "9")

    def tasks(self, dag: str, run: str) -> dict[str, dict[str, Any]]:
        """Task instances of a run, by task."""
        tasks = TaskInstanceApi(self).get_task_instances(dag, run, limit=_PAGE)
        return {task["task_id"]: task for task in as_json(tasks.task_instances)}

    def result(self, dag: str, run: str, task: str) -> dict[str, Any]:
        """What a task returned: the JSON object on the last line of its standard output."""
        entry = XComApi(self).get_xcom_entry(dag, task, run, "return_value", deserialize=True)
        returned: Any = entry.actual_instance
        return dict(returned.value)

    def log(self, dag: str, run: str, task: str, attempt: int = 1) -> str:
        """A task's log as text, errors included."""
        log = TaskInstanceApi(self).get_log(
            dag, run, task, attempt, full_content=True, accept="application/json"
        )
        return "\n".join(map(_text, log.content.actual_instance or ()))


def as_json(objects: Sequence[BaseModel]) -> list[dict[str, Any]]:
    """The client's objects as Airflow's JSON."""
    return [one.model_dump(mode="json", by_alias=True) for one in objects]


def runs_of_days(
    rest: AirflowRest, dag: str, first: date, last: date, zone: ZoneInfo
) -> dict[date, dict[str, Any]]:
    """The scheduled or backfilled run of each day that has one; manual ones belong to no day."""
    begin, end = range_of(first, last, zone)
    runs = rest.runs(dag, logical_date_gte=begin, logical_date_lte=end)
    return {day_of(run["data_interval_start"], zone): run for run in runs}


def day_of(instant: str, zone: ZoneInfo) -> date:
    """The day of an instant, as Airflow writes it."""
    return datetime.fromisoformat(instant).astimezone(zone).date()


def range_of(first: date, last: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The range of a backfill for Airflow: from the first day's midnight to the last day's end."""
    # Not the next midnight, with which Airflow would run one more day
    return datetime.combine(first, time.min, zone), datetime.combine(last, time(23, 59, 59), zone)


def on_sqlite(rest: AirflowRest, dag: str) -> bool:
    """Whether the API says that Airflow's database is SQLite."""
    # The API hides the database's URL, but its search passes patterns to LIKE unchanged. `\s` means an s in
    # PostgreSQL and MySQL, but a backslash and an s in SQLite. The wildcard `_` checks that this still holds
    by_wildcard, by_escape = (
        DAGApi(rest).get_dags(dag_id_pattern=pattern, limit=1).total_entries
        for pattern in (f"_{dag[1:]}", f"\\{dag}")
    )
    return bool(by_wildcard and not by_escape)


@contextmanager
def readable_errors(rest: AirflowRest) -> Iterator[None]:
    """Turns errors of requests to Airflow into errors that say what to do.

    Raises:
      UsageError: the login is wrong or lacks a permission, Airflow refuses the request, or another server
        answers.
      TryAgain: Airflow does not answer.
    """
    try:
        yield
    except (UnauthorizedException, ForbiddenException) as e:
        raise UsageError(
            f"Airflow at {rest.url} needs a login with permission to run DAGs; it answered"
            f" {e.status} {e.reason}. Set {CREDENTIALS}."
        ) from e
    except ApiException as e:
        answer = f"{e.status} {str(e.body or e.reason).rstrip('.')}"
        if isinstance(e, ServiceException):
            raise TryAgain(f"Airflow at {rest.url} failed: {answer}") from e
        raise UsageError(f"Airflow at {rest.url} refused the request: {answer}") from e
    except (json.JSONDecodeError, ValidationError) as e:
        raise UsageError(
            f"--airflow must be the address of an Airflow 3 server; {rest.url} answers, but not as Airflow"
            " does. Another server may listen there. Give another address with --airflow or"
            " TWINSPIRE_AIRFLOW_URL."
        ) from e
    except ReadTimeoutError as e:
        raise TryAgain(
            f"Airflow at {rest.url} has not answered in time. It may still carry out the request. Try again"
            " when its machine is less busy."
        ) from e
    except HTTPError as e:
        raise TryAgain(
            f"Airflow's API server does not answer at {rest.url}: {str(e) or type(e).__name__}. Start it (make"
            " airflow), or give its address with --airflow or TWINSPIRE_AIRFLOW_URL."
        ) from e


def _is_busy(method: str, status: int) -> bool:
    """Whether the same request may succeed later."""
    # Without its database, Airflow answers 500
    return status == 503 or (method == "GET" and status >= 500)


def _text(line: Any) -> str:
    if isinstance(line, str):
        return line
    details = line.additional_properties.get("error_detail") or ()
    return "\n".join([line.event, *(f"{e['exc_type']}: {e['exc_value']}" for e in details)])
