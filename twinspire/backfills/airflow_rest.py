"""Airflow's REST API, as far as we need it: DAGs, their runs and tasks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any

import httpx

from twinspire_core.errors import TryAgain, UsageError

CREDENTIALS = "TWINSPIRE_AIRFLOW_TOKEN, or TWINSPIRE_AIRFLOW_USER and TWINSPIRE_AIRFLOW_PASSWORD"
"""Where commands have their login from: a command line is seen by others."""

DONE = {"success", "failed"}
_PAGE = 100
BUSY = 60
"""Seconds for which a busy server is asked again."""


class AirflowRest:
    """A client that logs in by itself.

    Attributes:
      url: Airflow's.

    All answers are Airflow's own JSON objects
    (https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html).
    """

    def __init__(self, url: str, user: str = "", password: str = "", token: str = "") -> None:
        """Asks nothing yet.

        Args:
          url: Airflow's.
          user: to log in as; empty where a token is given, or where Airflow asks for none.
          password: the user's.
          token: instead of user and password.
        """
        self.url = url.rstrip("/")
        # A proxy has no business between us and this machine.
        local = httpx.URL(url).host in ("127.0.0.1", "localhost", "::1")
        self._http = httpx.Client(base_url=url, timeout=60, trust_env=not local)
        self._login = {"username": user, "password": password} if user else None
        if token:
            self._authorize(token)

    def call(
        self, method: str, path: str, *, undo: Callable[[], None] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """One request below `/api/v2`.

        Args:
          method: HTTP's.
          path: what follows `/api/v2/`.
          undo: takes back what a request that found the database busy may have done, before that is
            sent again.
          **kwargs: of `httpx.Client.request`.

        Raises:
          httpx.HTTPStatusError: with the server's reason.
        """
        if "authorization" not in self._http.headers:
            self._authorize(self._log_in())
        answer = self._http.request(method, f"/api/v2/{path}", **kwargs)
        end = monotonic() + BUSY
        while answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and monotonic() < end:
            sleep(1)  # SQLite is locked by the scheduler for a moment
            if undo:
                undo()
            answer = self._http.request(method, f"/api/v2/{path}", **kwargs)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            del self._http.headers["authorization"]
        if answer.is_error:
            reason = f"{method} {path}: {answer.status_code} {answer.text}"
            raise httpx.HTTPStatusError(reason, request=answer.request, response=answer)
        return answer.json() if answer.content else {}

    def _log_in(self) -> str:
        path = "/auth/token"
        answer = self._http.post(path, json=self._login) if self._login else self._http.get(path)
        return str(answer.raise_for_status().json()["access_token"])

    def _authorize(self, token: str) -> None:
        self._http.headers["authorization"] = f"Bearer {token}"

    def close(self) -> None:
        """Lets go of the connections."""
        self._http.close()

    def healthy(self) -> bool:
        """Whether all parts run."""
        try:
            parts = self._http.get("/api/v2/monitor/health", timeout=5).raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return False
        return all(
            parts[name]["status"] == "healthy"
            for name in ("metadatabase", "scheduler", "dag_processor")
        )

    def wait_for_dag(self, dag: str, timeout: float = 90) -> dict[str, Any]:
        """The DAG, once its file has been parsed. Raises TryAgain with the import errors when it
        does not appear.
        """
        end = monotonic() + timeout
        while monotonic() < end:
            try:
                return self.call("GET", f"dags/{dag}")
            except httpx.HTTPStatusError as e:
                if e.response.status_code != httpx.codes.NOT_FOUND:
                    raise
            sleep(0.5)
        errors = "\n".join(error["stack_trace"] for error in self.import_errors())
        raise TryAgain(
            f"Airflow has no DAG {dag} after {timeout:.0f} s."
            f" {errors or 'It reports no import error.'}"
        )

    def import_errors(self) -> list[dict[str, Any]]:
        """DAG files that Airflow cannot load."""
        errors: list[dict[str, Any]] = self.call("GET", "importErrors")["import_errors"]
        return errors

    def unpause(self, dag: str, *, paused: bool = False) -> None:
        """Lets a DAG's runs start."""
        self.call("PATCH", f"dags/{dag}", json={"is_paused": paused})

    def trigger(self, dag: str, **conf: object) -> str:
        """Starts a manual run with these parameters; returns its id."""
        body = {"logical_date": None, "conf": conf}
        return str(self.call("POST", f"dags/{dag}/dagRuns", json=body)["dag_run_id"])

    def runs(self, dag: str, **query: object) -> list[dict[str, Any]]:
        """Runs of a DAG, oldest day first; those without a day last."""
        found = self._all(f"dags/{dag}/dagRuns", "dag_runs", {"order_by": "id", **query})
        return sorted(found, key=lambda run: run["data_interval_start"] or "9")

    def _all(self, path: str, name: str, query: Mapping[str, object]) -> list[dict[str, Any]]:
        """All pages of a list."""
        found: list[dict[str, Any]] = []
        while True:
            params = {"limit": _PAGE, "offset": len(found), **query}
            page = self.call("GET", path, params=params)
            found += page[name]
            # A page may be smaller than asked for: the server has a limit of its own.
            if not page[name] or len(found) >= page["total_entries"]:
                return found

    def tasks(self, dag: str, run: str) -> dict[str, dict[str, Any]]:
        """Task instances of a run, by task."""
        found = self.call("GET", f"dags/{dag}/dagRuns/{run}/taskInstances", params={"limit": 100})
        return {task["task_id"]: task for task in found["task_instances"]}

    def result(self, dag: str, run: str, task: str) -> dict[str, Any]:
        """What a task returned: the JSON object on the last line of its standard output."""
        path = f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/return_value"
        value: dict[str, Any] = self.call("GET", path, params={"deserialize": True})["value"]
        return value

    def log(self, dag: str, run: str, task: str, attempt: int = 1) -> str:
        """A task's log as text, errors included."""
        path = f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{attempt}"
        lines = self.call(
            "GET", path, params={"full_content": True}, headers={"accept": "application/json"}
        )["content"]
        return "\n".join(_text(line) for line in lines)

    def watch(
        self, runs: Callable[[], list[dict[str, Any]]], every: float = 1.0
    ) -> Iterator[list[dict[str, Any]]]:
        """Yields the runs again and again until all have ended."""
        while True:
            now = runs()
            yield now
            if now and all(run["state"] in DONE for run in now):
                return
            sleep(every)


@contextmanager
def readable_errors(rest: AirflowRest) -> Iterator[None]:
    """Turns what goes wrong between us and Airflow into errors that say what to do.

    Raises:
      UsageError: the login is wrong or lacks a right, or Airflow refuses what is asked for.
      TryAgain: it does not answer.
    """
    try:
        yield
    except httpx.HTTPStatusError as e:
        refused = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
        if e.response.status_code in refused:
            raise UsageError(
                f"Airflow at {rest.url} wants a login that may run DAGs; it answered"
                f" {e.response.status_code} to {e.request.url.path}. Set {CREDENTIALS}."
            ) from e
        raise UsageError(f"Airflow at {rest.url} refused: {e}") from e
    except httpx.HTTPError as e:
        raise TryAgain(
            f"Airflow's API server answers at {rest.url}; now it does not: {e}. Start it (make"
            " airflow), or name another by --airflow or TWINSPIRE_AIRFLOW_URL."
        ) from e


def _text(line: str | dict[str, Any]) -> str:
    if isinstance(line, str):
        return line
    errors = (
        f"{error['exc_type']}: {error['exc_value']}" for error in line.get("error_detail") or ()
    )
    return "\n".join([line.get("event", ""), *errors])
