"""Notifications: `notify.command` of the pipeline file runs when a day needs somebody.

The command gets one JSON object on its standard input. It never stops a day: if it fails, that is
printed, and the day goes on.
"""

import json
import os
import re
import signal
import subprocess
from contextlib import suppress
from datetime import date

from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import GateRefused, LogsLate, NothingToDo, TwinspireError, format_message
from twinspire_core.terminal import console

_TIMEOUT = 30.0
"""Seconds after which the command is ended: it never stops a day."""
_SHOWN = 500
_SHORTEST_SECRET = 6


def notify(
    pipeline: Pipeline,
    event: str,
    day: date,
    reason: str,
    *,
    stage: str | None = None,
    exit_code: int | None = None,
    command: str = "",
) -> bool:
    """Tells somebody, if the pipeline file says how.

    Args:
      pipeline: whose day it is.
      event: what has happened. `failed`: a stage ended by an error, or was killed; `refused`: by the
        gate; `late`: the logs are not there yet, told once; `gap`: days were left out between the day
        and its parent; `late_events`: events came after the day was run; `test`.
      reason: why, as people read it: a sentence or several.
      stage: the stage that it happened in.
      exit_code: what that ends with, if it has ended.
      command: what helps, as it is typed.

    Returns:
      Whether the command ended well; False also without one.
    """
    if not pipeline.notify.command:
        return False
    message = {
        "event": event,
        "pipeline": pipeline.name,
        "day": str(day),
        "stage": stage,
        "exit_code": exit_code,
        "reason": format_message(reason),
        "command": format_message(command),
    }
    problem = _run(pipeline.notify.command, json.dumps(message))
    if problem:
        console.print(
            f"notify.command could not tell of {event!r} of {day}: {problem}", soft_wrap=True
        )
    return not problem


def notify_of_error(pipeline: Pipeline, day: date, stage: str, error: BaseException) -> None:
    """Tells of an error that ended a stage; not of an empty day, or of one that was stopped from
    outside, by Ctrl-C or a scheduler.
    """
    if isinstance(error, NothingToDo | KeyboardInterrupt | SystemExit):
        return
    event = {GateRefused: "refused", LogsLate: "late"}.get(type(error), "failed")
    notify(
        pipeline,
        event,
        day,
        str(error) or type(error).__name__,
        stage=stage,
        exit_code=error.exit_code if isinstance(error, TwinspireError) else 1,
        command=f"twinspire run PIPELINE --date {day}",
    )


def _run(command: str, message: str) -> str:
    """What went wrong with the command; empty if nothing did."""
    try:
        process = subprocess.Popen(
            ["sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # the last line of ours is a stage's result
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that what it started is ended with it
        )
    except OSError as error:
        return f"it could not be started: {error}"
    try:
        _, errors = process.communicate(message.encode(), timeout=_TIMEOUT)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # Not for the end of its streams: a process that it started in another session may hold them
        process.wait()
        for stream in (process.stdin, process.stderr):
            if stream:
                stream.close()
        return f"it did not end within {_TIMEOUT:.0f} s"
    if process.returncode:
        why = _without_secrets(errors.decode(errors="replace").strip(), command)[-_SHOWN:]
        return f"it ended with exit code {process.returncode}. {why}"
    return ""


def _without_secrets(text: str, command: str) -> str:
    """A text without the values of variables in the command: web hooks hold keys, and errors may show
    them.
    """
    named = set(re.findall(r"\$\{?(\w+)", command))
    secrets = {
        name: value
        for name, value in os.environ.items()
        # Variables of the pipeline file stand in the command as their values
        if len(value) >= _SHORTEST_SECRET and (name in named or value in command)
    }
    for name, value in sorted(secrets.items(), key=lambda one: -len(one[1])):
        text = text.replace(value, f"${name}")
    return text
