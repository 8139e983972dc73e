"""Errors of steps that ran in other processes: how the client learns of them, and what it raises.

Runners hand an error over in different forms, remote ones as text. Runners that restart jobs report
nothing until they give up, so a step whose input breaks a rule leaves a note for the client in the
job's output.
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
"""File below the stage's output with the first error that no restart can cure."""

_RAISED = re.compile(r"twinspire_core\.errors\.(\w+): (.*)")
_BEAM_SUFFIX = re.compile(r" \[(?:while running|\d+ lines? of traceback).*$")
_JAVA_FRAME = re.compile(r"at [\w.$/<>]+\(|\.\.\. \d+ (?:more|common frames omitted)")
_MISSING = re.compile(r"(?:ModuleNotFoundError|ImportError): ")
_CHAINED = "The above exception was the direct cause of the following exception:"
# Beam's error about the error before it.
_RETOLD = "RuntimeError: Bundle processing associated with "
_LONGEST_LINE = 400  # characters


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
        # Made again, with the message alone: Beam has added to it where the step was running.
        if isinstance(error, TwinspireError):
            yield type(error)(_BEAM_SUFFIX.sub("", str(error)))
        error = error.__cause__ or error.__context__
    # Runners in other processes hand over text: the traceback has the name of the class.
    for kind, message in _RAISED.findall(str(outer).replace("\\n", "\n")):
        yield _of_class(kind, _BEAM_SUFFIX.sub("", message))


def _of_class(name: str, message: str) -> TwinspireError:
    kind: type[TwinspireError] = getattr(errors, name, BadData)
    return kind(message)


def explain(job: str, text: str, log: str) -> TwinspireError:
    """The error about a job that failed, by what the runner reported.

    Args:
      job: its name, and where it ran.
      text: what the runner reported.
      log: URI of the file with all of its output.
    """
    line = last_line(text)
    said = f"{job} failed: {with_full_stop(line)}"
    more = f"All that the runner said is in {log}."
    if _MISSING.match(line):
        return UsageError(
            f"{said} Workers have what the client has: install this package and its libraries there,"
            f" in the client's versions (twinspire doctor PIPELINE compares them). {more}"
        )
    # Python's traceback is of a step; all else is about parts of the runner.
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
    """The last line of a runner's text that says what happened: no frame of Java's stack, and no error of
    Beam about another error.
    """
    first, _, second = text.rpartition(_CHAINED)
    if _RETOLD in second:
        text = first
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if line and not _JAVA_FRAME.match(line)]
    last = said[-1] if said else "it gave no reason"
    return last.removeprefix("Caused by: ")[:_LONGEST_LINE]
