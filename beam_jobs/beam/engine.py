"""Runs Beam jobs: in this process, offline, unless the pipeline file's `beam.options` name another
runner.

Jobs signal bad input by raising a `TwinspireError` in a worker. Runners hand such an error over in
different forms; here it becomes itself again.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_jobs.beam import failures, remote_job
from twinspire_core.errors import TwinspireError

# Beam's DirectRunner tries to download Prism first; the runner that it falls back to needs nothing
# from the network.
_LOCAL = (None, "DirectRunner", "FnApiRunner")
_BEAM_LOG = logging.getLogger("apache_beam.runners.common")


class _Options(PipelineOptions):
    """Beam's options. Beam asks for a view of them at each step that it adds, and would parse them
    again each time.
    """

    def view_as(self, cls: type[PipelineOptions]) -> PipelineOptions:
        """The options of one of Beam's classes; all views share their values."""
        views = self.__dict__.setdefault("_views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]


def runner_of(options: Sequence[str]) -> str | None:
    """The runner that options name; None for that of this process."""
    name: str | None = _Options(list(options)).view_as(StandardOptions).runner
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
      TwinspireError: as raised by a step, or as `remote_job.run` says.
    """
    if runner_of(options) is None:
        pipeline = beam.Pipeline(runner=FnApiRunner(), options=_Options(list(options)))
        build(pipeline)
        _run_here(pipeline)
    else:
        with suppress(ImportError):  # left out where Beam was loaded for a job of this process
            import apache_beam.io.gcp.gcsfilesystem  # noqa: F401
        parsed = _Options(remote_job.named(options, out))
        pipeline = beam.Pipeline(options=parsed)
        build(pipeline)
        remote_job.run(pipeline, parsed, out, limit)


def _run_here(pipeline: beam.Pipeline) -> None:
    # Beam logs what a step raises with a traceback of its own, before it is raised here.
    _BEAM_LOG.addFilter(_unforeseen)
    try:
        pipeline.run().wait_until_finish()
    except Exception as e:
        own = next(failures.own_errors(e), None)
        if own is None:
            raise
        raise own from e
    finally:
        _BEAM_LOG.removeFilter(_unforeseen)


def _unforeseen(record: logging.LogRecord) -> bool:
    """Whether Beam's log entry is about anything but an error of the project, which is reported
    once, by its message.
    """
    if not record.exc_info:
        return True
    return not isinstance(record.exc_info[1], TwinspireError)
