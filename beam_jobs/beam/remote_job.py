"""A job on a runner of `beam.options`: cancelled with its client, and failing in one message."""

import io
import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.runners.runner import PipelineResult
from rich.console import Console

from beam_jobs.beam import failures, flink_rest, job_service
from beam_jobs.beam.job_service import JobService, job_name
from twinspire_core import storage
from twinspire_core.errors import RunnerFailed, TwinspireError, UsageError

LOG = "job.log"
"""All that the runner said of a job that failed, below the stage's output."""

_LOOK = 1.0  # seconds between two looks for a step's note


def endpoint_of(options: PipelineOptions) -> str:
    """Where the job service answers; empty for runners that have none, or start their own."""
    endpoint = options.view_as(PortableOptions).job_endpoint or ""
    return "" if endpoint == "embed" else endpoint


def named(options: Sequence[str], out: str) -> list[str]:
    """A user's options for the job that writes `out`, by which it is found again."""
    # Beam also takes the time that the service has for an answer for the longest time of a job:
    # whether it answers is looked at before. The last of an option's values holds.
    unlimited = 10 * 365 * 24 * 3600
    return [*options, f"--job_name={job_name(out)}", f"--job_server_timeout={unlimited}"]


def run(
    pipeline: beam.Pipeline, options: PipelineOptions, out: str, limit: float | None = None
) -> None:
    """Runs a job that is built, and waits for its end; cancels it if the client is stopped.

    Args:
      options: its options, as `named` makes them.
      out: URI of the output, a place that all workers share.
      limit: seconds that it may take.

    Raises:
      TwinspireError: as raised by a step; else as `failures.explain` says. RunnerFailed: the job
        service does not answer, or the job took longer than it may.
    """
    job = _Job(out, endpoint_of(options), flink_rest.address_of(options))
    with job.recorded(), job.watched(limit), _collected_output() as output:
        try:
            job.reach_service()
            job.result = pipeline.run()
            job.result.wait_until_finish()
        except BaseException as error:
            # Also of Ctrl-C and SIGTERM: else the job would go on, and nobody would wait for it.
            job.cancel()
            if not isinstance(error, Exception):
                raise
            raise job.reason(error, output.getvalue()) from error


class _Job:
    """A job, from before it is handed over until it has ended."""

    def __init__(self, out: str, endpoint: str, flink: str = "") -> None:
        self.name = job_name(out)
        self.result: PipelineResult | None = None
        # Bound to the stream of now: while the job runs, another one takes its place.
        self._console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
        self._out = out
        self._endpoint = endpoint
        self._flink = flink
        self._may_go_on = False
        self._took_longer_than: float | None = None

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Keeps the record by which the next client finds the job, and cancels what it finds."""
        if not self._endpoint:
            yield
            return
        job_service.cancel_orphans(self._out)
        try:
            with job_service.recorded(self._out, self._endpoint, self._flink):
                yield
        finally:
            if not self._may_go_on:
                storage.delete_file(storage.join(self._out, job_service.RECORD))

    @contextmanager
    def watched(self, limit: float | None) -> Iterator[None]:
        """Cancels the job as soon as a step leaves a note, or when its time is over."""
        stopped = threading.Event()
        end = time.monotonic() + limit if limit else float("inf")

        def watch() -> None:
            while not stopped.wait(_LOOK):
                late = time.monotonic() > end
                if late:
                    self._took_longer_than = limit
                # Again and again: the service may not have the job yet.
                if (late or self._note()) and self.cancel():
                    return

        threading.Thread(target=watch, name="job-watch", daemon=True).start()
        try:
            yield
        finally:
            stopped.set()

    def reach_service(self) -> None:
        """Waits until the job service answers, if the job goes to one that runs already."""
        if self._endpoint:
            JobService(self._endpoint).wait()

    def cancel(self) -> bool:
        """Cancels the job, if it has not ended; whether there was one."""
        found = False
        self._may_go_on = True  # also if whoever waits for the answer is stopped
        try:
            if self._endpoint:
                # By name: a client that is stopped while it hands the job over knows no id yet.
                told = job_service.cancel(self.name, self._endpoint, self._flink)
                if told:
                    self._console.print(told)
                found = bool(told)
            elif self.result:
                self.result.cancel()
                found = True
            self._may_go_on = False
        except Exception as error:  # whatever a runner may raise: that it runs on has to be told
            self._console.print(f"{self.name} may go on: {job_service.reason(error)}.")
        return found

    def _note(self) -> TwinspireError | None:
        """What a step has left a note of; None also while the store does not answer."""
        try:
            return failures.read_note(self._out)
        except Exception:  # whatever a store may raise: it is looked at again
            return None

    def reason(self, error: Exception, output: str) -> TwinspireError:
        """The error to raise for one of the runner's; what the runner said is written down."""
        own = self._note() or next(failures.own_errors(error), None)
        if own is not None:
            return own
        if isinstance(error, grpc.RpcError | grpc.FutureTimeoutError):
            return RunnerFailed(
                f"The job service of beam.options answers; {self._endpoint} did not"
                f" ({job_service.reason(error)}). Start it, or mend --job_endpoint, and run the same"
                " command again."
            )
        if self._took_longer_than:
            return RunnerFailed(
                f"A job ends in {self._took_longer_than:.0f} s; {self.name} had not, and"
                " its runner was told to cancel it. Probably no worker took it: look at the runner's workers."
            )
        place = storage.join(self._out, LOG)
        text = "".join(traceback.format_exception(error))
        storage.write_bytes(place, f"{output}\n{text}".encode())
        if self.result is None:
            return UsageError(
                f"beam.options name a runner that takes the job; it was not handed over:"
                f" {failures.last_line(text)}. All of the text is in {place}."
            )
        return failures.explain(self.name, str(error), place)


@contextmanager
def _collected_output() -> Iterator[io.StringIO]:
    """Collects what libraries log and print meanwhile: they would report a failure too, with all
    tracebacks.
    """
    text = io.StringIO()
    handlers = logging.root.handlers[:]
    logging.root.handlers[:] = [logging.StreamHandler(text)]
    try:
        with redirect_stderr(text):
            yield text
    finally:
        logging.root.handlers[:] = handlers
