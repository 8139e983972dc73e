"""Beam's job service, which portable runners have: which jobs run there, and their end.

A client that is killed cannot cancel its job, which would go on writing and hold the workers that
the next one waits for. So the client keeps a record beside what the job writes, and says in it again
and again that it is alive. The next client of the same stage finds a record that is silent, and
cancels the job that it names: never one of somebody else.
"""

import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import grpc
from apache_beam.portability.api import beam_job_api_pb2 as api
from apache_beam.portability.api import beam_job_api_pb2_grpc as api_grpc

from beam_jobs.beam import flink_rest
from beam_jobs.beam.flink_rest import Flink
from twinspire_core import storage
from twinspire_core.terminal import console

RECORD = "JOB.json"
"""The client's record, below the stage's output, while its job runs."""
HEARTBEAT = 10.0
"""Seconds between two signs of life of a client."""
SILENCE = 35.0
"""Seconds without one, after which a client is taken for dead."""

CONNECTION = 30.0
"""Seconds that a job service has to be there."""
NOT_CANCELLED = (grpc.RpcError, TimeoutError, *flink_rest.UNREACHABLE)
"""What `cancel` raises."""

_ANSWER = 10.0  # seconds that the service has for an answer
_END = 60.0  # seconds that a cancelled job has to end
_NAME = "beam:option:job_name:v1"
_ENDED = (api.JobState.DONE, api.JobState.DRAINED, api.JobState.FAILED, api.JobState.CANCELLED)

_log = logging.getLogger(__name__)


def job_name(out: str) -> str:
    """A name that no other job has: pipeline, day, stage and attempt of the output it writes."""
    words = out.rstrip("/").rsplit("/", 4)[1:]
    return re.sub(r"[^a-z0-9]+", "-", "-".join(["twinspire", *words]).lower())


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
        """Ids of the jobs of a name that have not ended; without one, of all jobs.

        Raises:
          grpc.RpcError: the service does not answer.
        """
        jobs = self._stub.GetJobs(api.GetJobsRequest(), timeout=_ANSWER).job_info
        # Beam's Python client calls every job `job`, and passes its name as an option.
        return [
            job.job_id
            for job in jobs
            if job.state not in _ENDED
            and name in ("", job.job_name, job.pipeline_options.fields[_NAME].string_value)
        ]

    def cancel(self, name: str) -> int:
        """Cancels the jobs of a name that have not ended, waits for their end, and counts them.

        Raises:
          TimeoutError: one goes on.
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


@contextmanager
def recorded(out: str, endpoint: str, flink: str = "") -> Iterator[None]:
    """Keeps the record of a job, with signs of life, while the block runs. It stays afterwards.

    Args:
      out: URI of what the job writes.
      endpoint: of the job service.
      flink: address of Flink's REST API, if it is known.
    """
    stopped = threading.Event()
    place = storage.join(out, RECORD)

    def keep() -> None:
        beat = 0
        while not stopped.wait(HEARTBEAT if beat else 0):
            record = {"name": job_name(out), "endpoint": endpoint, "flink": flink, "beat": beat}
            try:
                storage.write_bytes(place, json.dumps(record).encode())
            except Exception:  # whatever a store may raise: the next sign of life may be written
                _log.warning("%s could not be written", place, exc_info=True)
            beat += 1

    keeper = threading.Thread(target=keep, name="job-record", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        stopped.set()
        keeper.join()


def cancel_orphans(out: str) -> None:
    """Cancels jobs of earlier attempts whose clients are silent.

    Args:
      out: URI of this attempt. Its neighbours are the earlier ones.
    """
    stage, _, own = out.rstrip("/").rpartition("/")
    places = [
        storage.join(stage, name, RECORD) for name in storage.list_names(stage) if name != own
    ]
    found = {place: record for place in places if (record := _read(place))}
    if not found:
        return
    console.print(f"Listening for {SILENCE:.0f} s whether the client of an earlier job is alive …")
    time.sleep(SILENCE)
    for place, record in found.items():
        if _read(place) == record:
            _cancel_orphan(place, **json.loads(record))


def _cancel_orphan(place: str, name: str, endpoint: str, flink: str = "", **_: object) -> None:
    try:
        told = cancel(name, endpoint, flink)
    except NOT_CANCELLED as error:
        console.print(f"{name}, which a client left at {endpoint}, may run on: {reason(error)}.")
    else:
        storage.delete_file(place)
        console.print(f"A client left a job. {told or f'{name} has ended.'}")


def cancel(name: str, endpoint: str, flink: str = "") -> str:
    """Cancels the jobs of a name that have not ended, and waits for their end.

    Args:
      endpoint: of the job service.
      flink: address of Flink's REST API, if it is known.

    Returns: what is known of them now, in a sentence; nothing if none was running.

    Raises:
      TimeoutError: one goes on.
      grpc.RpcError: the service does not answer, or one of `flink_rest.UNREACHABLE`: Flink.
    """
    # Beam's service for Flink ends its own side alone (docs/operations.md).
    by_service = f"{name} is cancelled, says the job service at {endpoint};"
    if not flink:
        found = JobService(endpoint).cancel(name)
        return f"{by_service} its engine may go on with it." if found else ""
    found = 0
    # A service that was restarted, or is gone, knows of no job; what counts is what Flink says.
    with suppress(grpc.RpcError, TimeoutError):
        found = JobService(endpoint).cancel(name)
    if Flink(flink).cancel(name, awaited=found > 0):
        return f"{name} is cancelled, says Flink at {flink}."
    return f"{by_service} Flink at {flink} runs none of that name." if found else ""


def reason(error: Exception) -> str:
    """Why a job service did not do what it was asked, in a line."""
    if isinstance(error, grpc.Call):
        return f"{error.code().name}, {error.details()}"
    return str(error) or type(error).__name__


def _read(place: str) -> bytes | None:
    try:
        return storage.read_bytes(place)
    except (FileNotFoundError, NotADirectoryError):  # neighbours that are no attempts
        return None
