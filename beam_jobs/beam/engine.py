"""Runs Beam jobs: in this process and offline, or on the runner that `beam.options` of the pipeline file
names.

A job on another runner is cancelled when its client is stopped, and fails in one message.

A step signals bad input by raising a `TwinspireError` in a worker. Runners report errors in different forms,
remote ones as text. This module restores the original error. Runners that restart jobs report nothing until
they give up. So a step whose input breaks a rule (`fails_fast`) writes a note for the client into the job's
output.
"""

import functools
import io
import json
import logging
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineResult
from rich.console import Console

from beam_jobs.beam import job_service
from twinspire_core import errors, storage
from twinspire_core.errors import (
    BadData,
    JobFailed,
    RunnerFailed,
    TwinspireError,
    UsageError,
    with_full_stop,
)

# Beam's DirectRunner first tries to download Prism. FnApiRunner, which it falls back to, needs no network.
_LOCAL = (None, "DirectRunner", "FnApiRunner")
_BEAM_LOG = logging.getLogger("apache_beam.runners.common")
LOG = "job.log"
"""File below the stage's output with the runner's whole output about a failed job."""
_LOOK = 1.0  # seconds between two checks for the note of a failing step
NOTE = "FAILURE.json"
"""File below the stage's output with the first error that a restart cannot solve."""

_RAISED = re.compile(r"twinspire_core\.errors\.(\w+): (.*)")
_BEAM_SUFFIX = re.compile(r" \[(?:while running|\d+ lines? of traceback).*$")
_JAVA_FRAME = re.compile(r"at [\w.$/<>]+\(|\.\.\. \d+ (?:more|common frames omitted)")
_MISSING = re.compile(r"(?:ModuleNotFoundError|ImportError): ")
_CHAINED = "The above exception was the direct cause of the following exception:"
# Beam's error about the error before it.
_RETOLD = "RuntimeError: Bundle processing associated with "
_LONGEST_LINE = 400  # characters


def runner_of(options: Sequence[str]) -> str | None:
    """The runner in the options; None for the runner in this process."""
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
      TwinspireError: the error of a step; for other failures on another runner, the error of `explain`.
      RunnerFailed: the job service does not answer, or the job took longer than `limit`.
    """
    if runner_of(options) is None:
        pipeline = beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions(list(options)))
        build(pipeline)
        _run_here(pipeline)
    else:
        job = _Job(options, out)
        pipeline = beam.Pipeline(options=job.options)
        build(pipeline)
        job.run(pipeline, limit)


def _run_here(pipeline: beam.Pipeline) -> None:
    # Beam logs an error of a step with its traceback, before the error is raised here.
    _BEAM_LOG.addFilter(_unforeseen)
    try:
        pipeline.run().wait_until_finish()
    except Exception as e:
        if error := next(own_errors(e), None):
            raise error from e
        raise
    finally:
        _BEAM_LOG.removeFilter(_unforeseen)


def _unforeseen(record: logging.LogRecord) -> bool:
    """Whether Beam's log entry is not about an error of this project, which is shown once, by its message, nor
    about Ctrl-C.
    """
    foreseen = TwinspireError | KeyboardInterrupt
    return not (record.exc_info and isinstance(record.exc_info[1], foreseen))


class _Job:
    """A job on another runner, from before it is handed over until it has ended."""

    def __init__(self, options: Sequence[str], out: str) -> None:
        self.name = job_service.job_name(out)
        # Beam uses the timeout of the service also as the limit of the whole job. So it is unlimited here,
        # and a check before the job makes sure that the service answers. If an option is given twice, the
        # last value counts.
        unlimited = f"--job_server_timeout={10 * 365 * 24 * 3600}"
        self.options = PipelineOptions([*options, f"--job_name={self.name}", unlimited])
        self.result: PipelineResult | None = None
        # Bound to the current stderr, which is redirected while the job runs.
        self._console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
        self._out = out
        self._endpoint = job_service.endpoint_of(self.options)
        self._flink = job_service.flink_of(self.options)
        self._took_longer_than: float | None = None

    def run(self, pipeline: beam.Pipeline, limit: float | None) -> None:
        """Runs the job, and waits for its end; cancels it if the client is stopped."""
        with self._watched(limit), _collected_output() as output:
            try:
                # If no service runs yet, the runner starts one.
                if self._endpoint:
                    job_service.JobService(self._endpoint).wait()
                self.result = pipeline.run()
                self.result.wait_until_finish()
            except BaseException as error:
                # Also after Ctrl-C and SIGTERM. Otherwise the job would continue, and nobody would wait for
                # it.
                self.cancel()
                if not isinstance(error, Exception):
                    raise
                raise self._reason(error, output.getvalue()) from error

    @contextmanager
    def _watched(self, limit: float | None) -> Iterator[None]:
        """Cancels the job as soon as a step leaves a note, or when its time is over."""
        stopped = threading.Event()
        end = time.monotonic() + limit if limit else float("inf")

        def watch() -> None:
            while not stopped.wait(_LOOK):
                late = time.monotonic() > end
                if late:
                    self._took_longer_than = limit
                # Repeated until there is a job to cancel, because the service may not have it yet.
                if (late or self._note()) and self.cancel():
                    return

        threading.Thread(target=watch, name="job-watch", daemon=True).start()
        try:
            yield
        finally:
            stopped.set()

    def cancel(self) -> bool:
        """Cancels the job if it has not ended; returns whether there was one."""
        cancelled = False
        try:
            if self._endpoint:
                # By name, because a client that is stopped while it submits the job has no id yet.
                outcome = job_service.cancel(self.name, self._endpoint, self._flink)
                if outcome:
                    self._console.print(outcome)
                cancelled = bool(outcome)
            elif self.result:
                self.result.cancel()
                cancelled = True
        except (
            Exception
        ) as error:  # runners raise errors of any kind, and the user must know about the job
            self._console.print(
                f"{self.name} could not be cancelled and may still run: {job_service.reason_of(error)}."
            )
        return cancelled

    def _note(self) -> TwinspireError | None:
        """The error in a step's note; None if there is no note, or if the store does not answer."""
        try:
            return read_note(self._out)
        except Exception:  # stores raise errors of any kind, and the next check may succeed
            return None

    def _reason(self, error: Exception, output: str) -> TwinspireError:
        """The error to raise in place of the runner's, whose output is written to `LOG`."""
        if step_error := self._note() or next(own_errors(error), None):
            return step_error
        if isinstance(error, grpc.RpcError | grpc.FutureTimeoutError):
            return RunnerFailed(
                f"The job service in beam.options does not answer at {self._endpoint}"
                f" ({job_service.reason_of(error)}). Start it, or correct --job_endpoint. Then run the same"
                " command again."
            )
        if self._took_longer_than:
            return RunnerFailed(
                f"{self.name} did not end within {self._took_longer_than:.0f} s, so it was cancelled."
                " Probably no worker started it. Check the runner's workers."
            )
        log = storage.join(self._out, LOG)
        text = "".join(traceback.format_exception(error))
        storage.write_bytes(log, f"{output}\n{text}".encode())
        # Without a result, `pipeline.run` itself raised the error.
        if self.result is None:
            return UsageError(
                f"The runner in beam.options did not accept the job: {last_line(text)}. The full"
                f" output is in {log}."
            )
        return explain(self.name, str(error), log)


@contextmanager
def _collected_output() -> Iterator[io.StringIO]:
    """Collects the output of libraries. Otherwise they would report a failure a second time, with all
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


def fails_fast(process: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    """Makes `process` leave a note for the client if its input breaks a rule. The `DoFn` has an attribute
    `out`, the URI of the stage's output.
    """

    @functools.wraps(process)
    def noting(step: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        try:
            yield from process(step, *args, **kwargs) or ()
        except (BadData, UsageError) as error:
            note = {"error": type(error).__name__, "message": str(error)}
            storage.put_if_absent(storage.join(step.out, NOTE), json.dumps(note).encode())
            raise

    return noting


def read_note(out: str) -> TwinspireError | None:
    """The error in the note of a step, or None."""
    try:
        note = json.loads(storage.read_bytes(storage.join(out, NOTE)))
    except FileNotFoundError:
        return None
    return _of_class(note["error"], note["message"])


def own_errors(error: BaseException | None) -> Iterator[TwinspireError]:
    """The project's errors in a chain of causes; then those in the text of a remote traceback."""
    outer = error
    while error is not None:
        # Created again from the message, because Beam has added the name of the step to it.
        if isinstance(error, TwinspireError):
            yield type(error)(_BEAM_SUFFIX.sub("", str(error)))
        error = error.__cause__ or error.__context__
    # Runners in other processes return text; its traceback has the name of the class.
    for kind, message in _RAISED.findall(str(outer).replace("\\n", "\n")):
        yield _of_class(kind, _BEAM_SUFFIX.sub("", message))


def _of_class(name: str, message: str) -> TwinspireError:
    kind: type[TwinspireError] = getattr(errors, name, BadData)
    return kind(message)


def explain(job: str, text: str, log: str) -> TwinspireError:
    """The error about a failed job, from the runner's report.

    Args:
      job: its name, and where it ran.
      text: the runner's report.
      log: URI of the file with all of its output.
    """
    line = last_line(text)
    failure = f"{job} failed: {with_full_stop(line)}"
    more = f"The runner's full output is in {log}."
    if _MISSING.match(line):
        return UsageError(
            f"{failure} Workers need the same packages as this machine. Install Twinspire and its"
            f" libraries there, in the same versions (twinspire doctor PIPELINE compares them). {more}"
        )
    # Only steps of this project raise errors with a Python traceback. Other failures are the runner's.
    if "Traceback (most recent call last)" in text:
        return JobFailed(
            f"{failure} Different versions of libraries on the workers may be the cause: twinspire doctor"
            f" PIPELINE compares them. {more}"
        )
    return RunnerFailed(
        f"{failure} Its output is not used. Run the same command again. With a restart strategy, the"
        f" runner restarts failed jobs itself. {more}"
    )


def last_line(text: str) -> str:
    """The last informative line of a runner's text: not a frame of Java's stack, and not an error of Beam
    about another error.
    """
    first, _, second = text.rpartition(_CHAINED)
    if _RETOLD in second:
        text = first
    lines = [line.strip() for line in text.splitlines()]
    messages = [line for line in lines if line and not _JAVA_FRAME.match(line)]
    last = messages[-1] if messages else "it gave no reason"
    return last.removeprefix("Caused by: ")[:_LONGEST_LINE]
