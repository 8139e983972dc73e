"""The REST API of an Airflow of one's own, as far as whoever watches its runs needs it."""

from collections.abc import Callable, Iterator
from time import monotonic, sleep
from typing import Any, TypeVar

import httpx

from twinspire.backfills.airflow_rest import AirflowRest, why
from twinspire_core.errors import TryAgain

UNHEALTHY = 60
"""Seconds after which nobody waits any longer for a part of Airflow that does not work."""
_PARTS = ("metadatabase", "scheduler", "dag_processor")
Answer = TypeVar("Answer")


class WatchedAirflow(AirflowRest):
    """A client that also waits for Airflow, starts runs, and reads what became of them."""

    def healthy(self) -> bool:
        """Whether all parts run."""
        return not self.trouble()

    def trouble(self) -> str:
        """What is wrong with Airflow's parts; empty if nothing is."""
        try:
            answer = self._http.get("/api/v2/monitor/health", timeout=10)
            parts = answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as e:
            return f"its API server does not answer ({e or type(e).__name__})"
        bad = [name for name in _PARTS if parts[name]["status"] != "healthy"]
        return f"it says that it is unhealthy: {', '.join(bad)}" if bad else ""

    def poll(self, ask: Callable[[], Answer], every: float = 1.0) -> Iterator[Answer]:
        """Asks something again and again, for as long as Airflow works.

        Args:
          ask: what is yielded.
          every: seconds between two answers.

        Raises:
          TryAgain: a part of Airflow has not worked for UNHEALTHY seconds.
        """
        since = None
        while True:
            trouble = self.trouble()
            since = (since or monotonic()) if trouble else None
            if since and monotonic() - since > UNHEALTHY:
                raise TryAgain(self.about(trouble))
            try:
                answer = ask()
            except httpx.TransportError as e:
                raise TryAgain(self.about(self.trouble() or why(e))) from e
            yield answer
            sleep(every)

    def about(self, trouble: str) -> str:
        """The message that Airflow does not work, with where its log is."""
        return (
            f"Airflow at {self.url} has not worked for {UNHEALTHY} s: {trouble}.{self.log_hint()} Start the part"
            " that has ended, or all of Airflow. Runs then go on by themselves; type the command"
            " again to watch them."
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

    def trigger(self, dag: str, **conf: object) -> str:
        """Starts a manual run with these parameters; returns its id."""
        body = {"logical_date": None, "conf": conf}
        return str(self.call("POST", f"dags/{dag}/dagRuns", json=body)["dag_run_id"])

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


def _text(line: str | dict[str, Any]) -> str:
    if isinstance(line, str):
        return line
    errors = (
        f"{error['exc_type']}: {error['exc_value']}" for error in line.get("error_detail") or ()
    )
    return "\n".join([line.get("event", ""), *errors])
