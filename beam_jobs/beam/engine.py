"""Runs Beam jobs: in this process, offline, or on the runner that `beam.options` in the pipeline file name.

A job on another runner is cancelled when its client is stopped, and fails in one message. A step
signals bad input by raising a `TwinspireError` in a worker. Runners hand such an error over in
different forms; here it becomes itself again (failures.py).
"""

import io
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult
from rich.console import Console

from beam_jobs.beam import failures, job_service
from beam_jobs.beam.job_service import JobService, job_name
from twinspire_core import storage
from twinspire_core.errors import RunnerFailed, TwinspireError, UsageError

# Beam's DirectRunner first tries to download Prism. FnApiRunner, which it falls back to, needs no network.
_LOCAL = (None, "DirectRunner", "FnApiRunner")
_BEAM_LOG = logging.getLogger("apache_beam.runners.common")
LOG = "job.log"
"""File below the stage's output with all that the runner printed about a job that failed."""
_LOOK = 1.0  # seconds between two looks for the note that a failing step leaves


def runner_of(options: Sequence[str]) -> str | None:
    """The runner that options name; None for that of this process."""
    name: str | None = PipelineOptions(list(options)).view_as(StandardOptions).runner
    return None if name in _LOCAL else name


def run_job(
    options: Sequence[str],
    build: Callable[[beam.Pipeline], None],
    out: str,
    limit: float | None = None,
) -> None:
    """Builds a job, runs it, and waits for its end.

    Args:
      options: Beam's, as on its command line.
      build: adds the job's steps to the pipeline that it is given.
      out: URI of the stage's output.
      limit: seconds that a job on another runner may take.

    Raises:
      TwinspireError: as raised by a step; for a job on another runner else as `failures.explain` says.
      RunnerFailed: the job service does not answer, or the job took longer than `limit`.
    """
    if runner_of(options) is None:
        pipeline = beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions(list(options)))
        build(pipeline)
        _run_here(pipeline)
    else:
        # Its import may have been blocked, where Beam was loaded for a job of this process.
        with suppress(ImportError):
            import apache_beam.io.gcp.gcsfilesystem  # noqa: F401
        parsed = PipelineOptions(named(options, out))
        pipeline = beam.Pipeline(options=parsed)
        build(pipeline)
        _run_remotely(pipeline, parsed, out, limit)


def _run_here(pipeline: beam.Pipeline) -> None:
    # Beam logs an error of a step with its traceback, before the error is raised here.
    _BEAM_LOG.addFilter(_unforeseen)
    try:
        pipeline.run().wait_until_finish()
    except Exception as e:
        if error := next(failures.own_errors(e), None):
            raise error from e
        raise
    finally:
        _BEAM_LOG.removeFilter(_unforeseen)


def _unforeseen(record: logging.LogRecord) -> bool:
    """Whether Beam's log entry is not about an error of this project, which is shown once, by its message."""
    return not (record.exc_info and isinstance(record.exc_info[1], TwinspireError))


def endpoint_of(options: PipelineOptions) -> str:
    """Address of the job service; empty for runners that have none, or start their own."""
    endpoint = options.view_as(PortableOptions).job_endpoint or ""
    return "" if endpoint == "embed" else endpoint


def named(options: Sequence[str], out: str) -> list[str]:
    """The user's options, with the name of the job that writes `out`."""
    # Beam takes the time that the service has for an answer as the limit of the whole job, too. So it
    # is unlimited here, and whether the service answers is checked before. Of an option that is given
    # twice, the last value holds.
    unlimited = 10 * 365 * 24 * 3600
    return [*options, f"--job_name={job_name(out)}", f"--job_server_timeout={unlimited}"]


def _run_remotely(
    pipeline: beam.Pipeline, options: PipelineOptions, out: str, limit: float | None = None
) -> None:
    """Runs a job, and waits for its end; cancels it if the client is stopped."""
    job = _Job(out, endpoint_of(options), job_service.address_of(options))
    with job.recorded(), job.watched(limit), _collected_output() as output:
        try:
            job.reach_service()
            job.result = pipeline.run()
            job.result.wait_until_finish()
        except BaseException as error:
            # Also after Ctrl-C and SIGTERM: else the job would go on, and nobody would wait for it.
            job.cancel()
            if not isinstance(error, Exception):
                raise
            raise job.reason(error, output.getvalue()) from error


class _Job:
    """A job, from before it is handed over until it has ended."""

    def __init__(self, out: str, endpoint: str, flink: str = "") -> None:
        self.name = job_name(out)
        self.result: PipelineResult | None = None
        # Bound to the present stderr, which is redirected while the job runs.
        self._console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
        self._out = out
        self._endpoint = endpoint
        self._flink = flink
        self._may_go_on = False
        self._took_longer_than: float | None = None

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Cancels jobs of clients that are gone, and keeps the record by which a later client finds this
        job.
        """
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
                # Repeated until there is a job to cancel: the service may not have it yet.
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
        """Cancels the job if it has not ended; returns whether there was one."""
        cancelled = False
        self._may_go_on = True  # true as well if the client is stopped before the answer comes
        try:
            if self._endpoint:
                # By name: a client that is stopped while it hands the job over knows no id yet.
                outcome = job_service.cancel(self.name, self._endpoint, self._flink)
                if outcome:
                    self._console.print(outcome)
                cancelled = bool(outcome)
            elif self.result:
                self.result.cancel()
                cancelled = True
            self._may_go_on = False
        except (
            Exception
        ) as error:  # runners raise errors of any kind, and people must know of the job
            self._console.print(f"{self.name} may go on: {job_service.reason_of(error)}.")
        return cancelled

    def _note(self) -> TwinspireError | None:
        """The error that a step left in a note; None also while the store does not answer."""
        try:
            return failures.read_note(self._out)
        except Exception:  # stores raise errors of any kind, and the next look may succeed
            return None

    def reason(self, error: Exception, output: str) -> TwinspireError:
        """The error to raise in place of the runner's, whose output is written to `LOG`."""
        if known := self._note() or next(failures.own_errors(error), None):
            return known
        if isinstance(error, grpc.RpcError | grpc.FutureTimeoutError):
            return RunnerFailed(
                f"The job service of beam.options answers; {self._endpoint} did not"
                f" ({job_service.reason_of(error)}). Start it, or correct --job_endpoint, and run the same"
                " command again."
            )
        if self._took_longer_than:
            return RunnerFailed(
                f"A job ends in {self._took_longer_than:.0f} s; {self.name} had not, and"
                " its runner was told to cancel it. Probably no worker took it: look at the runner's workers."
            )
        log = storage.join(self._out, LOG)
        text = "".join(traceback.format_exception(error))
        storage.write_bytes(log, f"{output}\n{text}".encode())
        if self.result is None:
            return UsageError(
                f"beam.options name a runner that takes the job; it was not handed over:"
                f" {failures.last_line(text)}. All of the text is in {log}."
            )
        return failures.explain(self.name, str(error), log)


@contextmanager
def _collected_output() -> Iterator[io.StringIO]:
    """Collects what libraries log and print meanwhile: else they would report a failure a second time,
    with all tracebacks.
    """
    text = io.StringIO()
    handlers = logging.root.handlers[:]
    logging.root.handlers[:] = [logging.StreamHandler(text)]
    try:
        with redirect_stderr(text):
            yield text
    finally:
        logging.root.handlers[:] = handlers
