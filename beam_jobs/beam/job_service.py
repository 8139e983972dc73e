"""The jobs of a portable runner's job service, and of the Flink cluster behind it: lists and cancels them.

Beam's job service for Flink reports a job as cancelled when its own part has ended, although Flink continues.
So if `beam.options` has Flink's address (`--flink_master`), the job is also cancelled in Flink.
"""

import re
import time
from contextlib import suppress

import grpc
import httpx
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    PipelineOptions,
    PortableOptions,
)
from apache_beam.portability.api import beam_job_api_pb2 as api
from apache_beam.portability.api import beam_job_api_pb2_grpc as api_grpc

CONNECTION = 30.0
"""Seconds that a job service has to accept a connection."""
NOT_CANCELLED = (grpc.RpcError, TimeoutError, httpx.HTTPError, ValueError, KeyError)
"""Exceptions of `cancel`; the last three mean that Flink does not answer, or that another program answers."""
_ANSWER = 10.0  # seconds that a service or Flink has for an answer
_END = 60.0  # seconds that a cancelled job has to end
_NAME = "beam:option:job_name:v1"
_ENDED = (api.JobState.DONE, api.JobState.DRAINED, api.JobState.FAILED, api.JobState.CANCELLED)
_APPEAR = 5.0  # seconds until a submitted job is listed
_ENDED_BY_ITSELF = (404, 409)  # Flink's answers for a job that has ended meanwhile
_FLINK_ENDED = ("FINISHED", "FAILED", "CANCELED")


def job_name(out: str) -> str:
    """A unique job name from the pipeline, day, stage and attempt of the output."""
    words = out.rstrip("/").rsplit("/", 4)[1:]
    return re.sub(r"[^a-z0-9]+", "-", "-".join(["twinspire", *words]).lower())


def cancel(name: str, endpoint: str, flink: str = "") -> str:
    """Cancels the jobs of a name that have not ended, and waits for their end.

    Args:
      name: the jobs' name, as `job_name` makes it.
      endpoint: address of the job service.
      flink: address of Flink's REST API; empty if the options do not give it.

    Returns: what happened to them, in a sentence; empty if none was running.

    Raises:
      TimeoutError: a job goes on.
      Exception: another of `NOT_CANCELLED`: the service, or Flink, does not answer.
    """
    # Beam's service for Flink ends only its own part of a job (docs/operations.md).
    by_service = f"The job service at {endpoint} reports {name} as cancelled;"
    if not flink:
        jobs = JobService(endpoint).cancel(name)
        return f"{by_service} its engine may continue it." if jobs else ""
    jobs = 0
    # A restarted job service has lost its jobs, so only Flink's answer counts.
    with suppress(grpc.RpcError, TimeoutError):
        jobs = JobService(endpoint).cancel(name)
    if Flink(flink).cancel(name, awaited=jobs > 0):
        return f"Flink at {flink} reports {name} as cancelled."
    return f"{by_service} Flink at {flink} runs no job of this name." if jobs else ""


def reason_of(error: Exception) -> str:
    """Why a job service or Flink failed, in a line."""
    if isinstance(error, grpc.Call):
        return f"{error.code().name}, {error.details()}"
    return str(error) or type(error).__name__


class JobService:
    """A job service, at an endpoint."""

    def __init__(self, endpoint: str) -> None:
        self._channel = grpc.insecure_channel(endpoint)
        self._stub = api_grpc.JobServiceStub(self._channel)

    def wait(self) -> None:
        """Waits until it answers.

        Raises:
          grpc.FutureTimeoutError: it does not.
        """
        grpc.channel_ready_future(self._channel).result(timeout=CONNECTION)

    def running(self, name: str = "") -> list[str]:
        """Ids of the jobs of a name that have not ended; without a name, of all jobs.

        Raises:
          grpc.RpcError: the service does not answer.
        """
        jobs = self._stub.GetJobs(api.GetJobsRequest(), timeout=_ANSWER).job_info
        # Beam's Python client names every job `job`, and passes the real name as an option.
        return [
            job.job_id
            for job in jobs
            if job.state not in _ENDED
            and name in ("", job.job_name, job.pipeline_options.fields[_NAME].string_value)
        ]

    def cancel(self, name: str) -> int:
        """Cancels the jobs of a name that have not ended, waits for their end, and counts them.

        Raises:
          TimeoutError: a job goes on.
          grpc.RpcError: the service does not answer.
        """
        until = time.monotonic() + _END
        jobs = self.running(name)
        for job in jobs:
            self._stub.Cancel(api.CancelJobRequest(job_id=job), timeout=_ANSWER)
        while jobs and self.running(name):
            if time.monotonic() > until:
                raise TimeoutError(f"it has not ended {_END:.0f} s after it was cancelled")
            time.sleep(0.2)
        return len(jobs)


def endpoint_of(options: PipelineOptions) -> str:
    """Address of the job service; empty for runners that have none, or start their own."""
    endpoint = options.view_as(PortableOptions).job_endpoint or ""
    return "" if endpoint == "embed" else endpoint


def flink_of(options: PipelineOptions) -> str:
    """Address of Flink's REST API; empty if the options do not have it."""
    master = options.view_as(FlinkRunnerOptions).flink_master or ""
    if not master or master.startswith("["):  # [auto], [local]
        return ""
    return master if master.startswith("http") else f"http://{master}"


class Flink:
    """A Flink cluster, at the address of its REST API."""

    def __init__(self, address: str) -> None:
        # Not through a proxy of the environment, because the cluster is near its client.
        self._client = httpx.Client(base_url=address, timeout=_ANSWER, trust_env=False)

    def cancel(self, name: str, *, awaited: bool) -> int:
        """Cancels the jobs of a name that have not ended, waits for their end, and counts them.

        Args:
          awaited: whether a job was submitted that Flink may not list yet.

        Raises:
          TimeoutError: a job goes on.
          httpx.HTTPError, ValueError, KeyError: Flink does not answer.
        """
        began = time.monotonic()
        jobs = self._jobs(name)
        while awaited and not jobs and time.monotonic() < began + _APPEAR:
            time.sleep(0.2)
            jobs = self._jobs(name)
        running = [job for job, state in jobs.items() if state not in _FLINK_ENDED]
        for job in running:
            answer = self._client.patch(f"jobs/{job}", params={"mode": "cancel"})
            if answer.status_code not in _ENDED_BY_ITSELF:
                answer.raise_for_status()
        while running and any(state not in _FLINK_ENDED for state in self._jobs(name).values()):
            if time.monotonic() > began + _END:
                raise TimeoutError(f"Flink has not ended it {_END:.0f} s after it was cancelled")
            time.sleep(0.2)
        return len(running)

    def _jobs(self, name: str) -> dict[str, str]:
        """States of the jobs of a name, by id."""
        jobs = self._client.get("jobs/overview").raise_for_status().json()["jobs"]
        return {job["jid"]: job["state"] for job in jobs if job["name"] == name}
