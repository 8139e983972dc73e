"""Runs Beam jobs: in this process, offline, unless the pipeline file's `beam.options` name another
runner.

Jobs signal bad input by raising a `TwinspireError` in a worker. Runners hand such an error over in
different forms, the remote ones as text; here it becomes itself again.
"""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from twinspire_core import errors
from twinspire_core.errors import BadData, TwinspireError

# Beam's DirectRunner tries to download Prism first; the runner that it falls back to needs nothing
# from the network.
_LOCAL = (None, "DirectRunner", "FnApiRunner")
_RAISED = re.compile(r"twinspire_core\.errors\.(\w+): (.*)")
_BEAM_LOG = logging.getLogger("apache_beam.runners.common")
_BEAM_SUFFIX = re.compile(r" \[(?:while running|\d+ lines? of traceback).*$")


class _Options(PipelineOptions):
    """Beam's options. Beam asks for a view of them at each step that it adds, and would parse them
    anew each time.
    """

    def view_as(self, cls: type[PipelineOptions]) -> PipelineOptions:
        """The options of one of Beam's classes; all views share their values."""
        views = self.__dict__.setdefault("_views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]


def run_job(options: Sequence[str], build: Callable[[beam.Pipeline], None]) -> None:
    """Builds a job, runs it, and waits for its end.

    Args:
      options: Beam's, as on its command line.
      build: adds the job's steps to the pipeline that it is given.

    Raises:
      TwinspireError: as raised by a step.
    """
    parsed = _Options(list(options))
    name = parsed.view_as(StandardOptions).runner
    if name not in _LOCAL:
        with suppress(ImportError):  # left out where Beam was loaded for a job of this process
            import apache_beam.io.gcp.gcsfilesystem  # noqa: F401
    runner = FnApiRunner() if name in _LOCAL else None
    pipeline = beam.Pipeline(runner=runner, options=parsed)
    build(pipeline)
    # Beam logs what a step raises with a traceback of its own, before it is raised here.
    _BEAM_LOG.addFilter(_unforeseen)
    try:
        pipeline.run().wait_until_finish()
    except Exception as e:
        own = next(_own_errors(e), None)
        if own is None:
            raise
        raise own from e
    finally:
        _BEAM_LOG.removeFilter(_unforeseen)


def _unforeseen(record: logging.LogRecord) -> bool:
    """Whether Beam's log entry is of anything but an error of the project, which is told once, by
    its message.
    """
    if not record.exc_info:
        return True
    return not isinstance(record.exc_info[1], TwinspireError)


def _own_errors(error: BaseException | None) -> Iterator[TwinspireError]:
    """The project's errors in a chain of causes; last, one recognised in the text of a remote
    traceback.
    """
    outer = error
    while error is not None:
        # Of the same class with the message alone: Beam has added where it was running to it.
        if isinstance(error, TwinspireError):
            yield type(error)(_BEAM_SUFFIX.sub("", str(error)))
        error = error.__cause__ or error.__context__
    # Runners in other processes hand over text: the class is found by its name in the traceback.
    for kind, message in _RAISED.findall(str(outer).replace("\\n", "\n")):
        yield getattr(errors, kind, BadData)(_BEAM_SUFFIX.sub("", message))
