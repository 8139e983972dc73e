"""Airflow's REST API, as far as we need it."""

from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from time import monotonic, sleep
from typing import Any
from zoneinfo import ZoneInfo

import httpx

from twinspire_core.errors import TryAgain

DONE = {"success", "failed"}
BUSY = 60
"""Seconds for which a busy server is asked again."""


class Rest:
    """A client that logs in by itself.

    All answers are Airflow's own JSON objects
    (https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html).
    """

    def __init__(self, url: str, user: str, password: str) -> None:
        # trust_env=False: a proxy has no business between us and 127.0.0.1
        self._http = httpx.Client(base_url=url, timeout=60, trust_env=False)
        self._login = {"username": user, "password": password}

    def call(self, method: str, path: str, **kwargs: Any) -> dict[str, Any]:
        """One request below `/api/v2`. Raises httpx.HTTPStatusError with the server's reason."""
        if "authorization" not in self._http.headers:
            token = (
                self._http.post("/auth/token", json=self._login)
                .raise_for_status()
                .json()["access_token"]
            )
            self._http.headers["authorization"] = f"Bearer {token}"
        answer = self._http.request(method, f"/api/v2/{path}", **kwargs)
        end = monotonic() + BUSY
        while answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and monotonic() < end:
            sleep(1)  # SQLite is locked by the scheduler for a moment: nothing was done
            answer = self._http.request(method, f"/api/v2/{path}", **kwargs)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            del self._http.headers["authorization"]
        if answer.is_error:
            reason = f"{method} {path}: {answer.status_code} {answer.text}"
            raise httpx.HTTPStatusError(reason, request=answer.request, response=answer)
        return answer.json() if answer.content else {}

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

    def backfill(
        self,
        dag: str,
        first: date,
        last: date,
        *,
        zone: ZoneInfo,
        at_once: int = 1,
        again: str = "none",
    ) -> int:
        """Starts a backfill over days and returns its id.

        Args:
          dag: the DAG's id.
          first: the first day.
          last: the last day, included.
          zone: the pipeline's: Airflow compares instants, and a bare date would be midnight in
            Greenwich.
          at_once: how many days run concurrently.
          again: which days that have a run get another: `none`, `failed` or `completed` (both).
        """
        body = {
            "dag_id": dag,
            "from_date": datetime.combine(first, time.min, zone).isoformat(),
            "to_date": datetime.combine(last, time(23, 59, 59), zone).isoformat(),
            "max_active_runs": at_once,
            "reprocess_behavior": again,
        }
        return int(self.call("POST", "backfills", json=body)["id"])

    def runs(self, dag: str, **query: object) -> list[dict[str, Any]]:
        """Runs of a DAG, oldest day first; those without a day last."""
        found = self.call("GET", f"dags/{dag}/dagRuns", params={"limit": 100, **query})["dag_runs"]
        return sorted(found, key=lambda run: run["data_interval_start"] or "9")

    def tasks(self, dag: str, run: str) -> dict[str, dict[str, Any]]:
        """Task instances of a run, by task."""
        found = self.call("GET", f"dags/{dag}/dagRuns/{run}/taskInstances", params={"limit": 100})
        return {task["task_id"]: task for task in found["task_instances"]}

    def all_tasks(self, dag: str) -> list[dict[str, Any]]:
        """Task instances of all runs of a DAG."""
        path = f"dags/{dag}/dagRuns/~/taskInstances"
        tasks: list[dict[str, Any]] = self.call("GET", path, params={"limit": 1000})[
            "task_instances"
        ]
        return tasks

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


def _text(line: str | dict[str, Any]) -> str:
    if isinstance(line, str):
        return line
    errors = (
        f"{error['exc_type']}: {error['exc_value']}" for error in line.get("error_detail") or ()
    )
    return "\n".join([line.get("event", ""), *errors])
