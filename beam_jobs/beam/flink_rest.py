"""Flink's own word on its jobs: which run there, and their end.

Beam's job service for Flink calls a job cancelled once its own side of it has ended, and Flink goes
on. So where `beam.options` name Flink's address (`--flink_master`), Flink is asked to end it too.
"""

import time

import httpx
from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions

UNREACHABLE = (httpx.HTTPError, ValueError, KeyError)
"""What `Flink` raises where nothing answers, or something else."""

_ANSWER = 10.0  # seconds that Flink has for an answer
_APPEAR = 5.0  # seconds until a job that was handed over is listed
_END = 60.0  # seconds that a cancelled job has to end
_ENDED_BY_ITSELF = (404, 409)  # Flink's answers for a job that has ended meanwhile
_ENDED = ("FINISHED", "FAILED", "CANCELED")


def address_of(options: PipelineOptions) -> str:
    """Where Flink's REST API answers; empty if the options do not say."""
    master = options.view_as(FlinkRunnerOptions).flink_master or ""
    if not master or master.startswith("["):  # [auto], [local]
        return ""
    return master if master.startswith("http") else f"http://{master}"


class Flink:
    """A Flink cluster, at the address of its REST API."""

    def __init__(self, address: str) -> None:
        # trust_env=False: no proxy stands between a client and its cluster
        self._client = httpx.Client(base_url=address, timeout=_ANSWER, trust_env=False)

    def cancel(self, name: str, *, awaited: bool) -> int:
        """Cancels the jobs of a name that have not ended, waits for their end, and counts them.

        Args:
          awaited: whether one was handed over, and may be listed only in a moment.

        Raises:
          TimeoutError: one goes on.
          httpx.HTTPError, ValueError, KeyError: Flink does not answer.
        """
        began = time.monotonic()
        jobs = self._jobs(name)
        while awaited and not jobs and time.monotonic() < began + _APPEAR:
            time.sleep(0.2)
            jobs = self._jobs(name)
        running = [job for job, state in jobs.items() if state not in _ENDED]
        for job in running:
            answer = self._client.patch(f"jobs/{job}", params={"mode": "cancel"})
            if answer.status_code not in _ENDED_BY_ITSELF:
                answer.raise_for_status()
        while running and any(state not in _ENDED for state in self._jobs(name).values()):
            if time.monotonic() > began + _END:
                raise TimeoutError(f"Flink has not ended it {_END:.0f} s after it was cancelled")
            time.sleep(0.2)
        return len(running)

    def _jobs(self, name: str) -> dict[str, str]:
        """States of the jobs of a name, by their ids."""
        jobs = self._client.get("jobs/overview").raise_for_status().json()["jobs"]
        return {job["jid"]: job["state"] for job in jobs if job["name"] == name}
