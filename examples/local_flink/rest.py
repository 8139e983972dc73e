"""Flink's REST API, as far as we need it."""

import contextlib
from typing import Any

import httpx

PORT = 8081


class Rest:
    """Flink's answers.

    Attributes:
      url: of its page.
    """

    def __init__(self, host: str) -> None:
        self.url = f"http://{host}:{PORT}"

    def ask(self, path: str) -> Any:
        """The JSON answer to a GET. Raises httpx.HTTPError if there is none."""
        # trust_env=False: a proxy cannot reach the hosts of this machine
        with httpx.Client(trust_env=False, timeout=30) as client:
            return client.get(f"{self.url}/{path}").raise_for_status().json()

    def slots(self) -> int | None:
        """How many slots there are; None if nothing answers."""
        with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
            return int(self.ask("overview")["slots-total"])
        return None

    def free_slots(self) -> int:
        """How many slots no job holds."""
        return int(self.ask("overview")["slots-available"])

    def jobs(self, *states: str) -> list[dict[str, Any]]:
        """Jobs in these states (all, if none is named), oldest first."""
        found = self.ask("jobs/overview")["jobs"]
        chosen = [job for job in found if not states or job["state"] in states]
        return sorted(chosen, key=lambda job: int(job["start-time"]))
