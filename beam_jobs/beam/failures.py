"""Errors of steps that ran in other processes: how the client learns of them, and what they become.

Runners hand an error over in different forms, the remote ones as text. And those that restart jobs
say nothing of it until they give up, so a step whose input breaks a rule leaves a note for the
client in the job's output.
"""

import functools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from twinspire_core import errors, storage
from twinspire_core.errors import (
    BadData,
    JobFailed,
    RunnerFailed,
    TwinspireError,
    UsageError,
    with_full_stop,
)

NOTE = "FAILURE.json"
"""The first error that no restart can mend, below the stage's output."""

_RAISED = re.compile(r"twinspire_core\.errors\.(\w+): (.*)")
_BEAM_SUFFIX = re.compile(r" \[(?:while running|\d+ lines? of traceback).*$")
_JAVA_FRAME = re.compile(r"at [\w.$/<>]+\(|\.\.\. \d+ (?:more|common frames omitted)")
_MISSING = re.compile(r"(?:ModuleNotFoundError|ImportError): ")
_CHAINED = "The above exception was the direct cause of the following exception:"
_RETOLD = "RuntimeError: Bundle processing associated with "  # Beam's, of an error before it
_LONGEST_LINE = 400  # characters


def fails_fast(process: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    """Makes the `process` of a `DoFn` leave a note for the client, if its input breaks a rule.

    Args:
      process: of a `DoFn` with an attribute `out`, the URI of the stage's output.
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
    """The error that a step has left a note of, or None."""
    try:
        note = json.loads(storage.read_bytes(storage.join(out, NOTE)))
    except FileNotFoundError:
        return None
    return _of_class(note["error"], note["message"])


def own_errors(error: BaseException | None) -> Iterator[TwinspireError]:
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
        yield _of_class(kind, _BEAM_SUFFIX.sub("", message))


def _of_class(name: str, message: str) -> TwinspireError:
    kind: type[TwinspireError] = getattr(errors, name, BadData)
    return kind(message)


def explain(job: str, text: str, log: str) -> TwinspireError:
    """What to do about a job that a runner ended, by what the runner said.

    Args:
      job: its name, and where it ran.
      log: where people find all of the text.
    """
    line = last_line(text)
    said = f"{job} failed: {with_full_stop(line)}"
    more = f"All that the runner said is in {log}."
    if _MISSING.match(line):
        return UsageError(
            f"{said} Workers have what the client has: install this package and its libraries there,"
            f" in the client's versions (twinspire doctor PIPELINE compares them). {more}"
        )
    # Python's, of a step. What else runners tell is of their own parts.
    if "Traceback (most recent call last)" in text:
        return JobFailed(
            f"{said} If the versions of libraries differ there, that may be why: twinspire doctor"
            f" PIPELINE compares them. {more}"
        )
    return RunnerFailed(
        f"{said} Nothing of it is used. Run the same command again; a restart strategy lets the"
        f" runner do so itself. {more}"
    )


def last_line(text: str) -> str:
    """What a long text of a runner comes down to: its last line that is no place in Java's code, nor
    Beam's error about the one before it.
    """
    first, _, second = text.rpartition(_CHAINED)
    if _RETOLD in second:
        text = first
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if line and not _JAVA_FRAME.match(line)]
    last = said[-1] if said else "it gave no reason"
    return last.removeprefix("Caused by: ")[:_LONGEST_LINE]
