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

# Seconds after which the command is killed, so that it never stops a day
_TIMEOUT = 30.0
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
    """Runs `notify.command`, if the pipeline file sets it.

    Args:
      event: what has happened. `failed`: a stage ended by an error, or was killed. `refused`: the gate
        refused a version. `late`: the logs are not there yet, which is reported once. `gap`: days
        between the day and its parent were left out. `late_events`: events came after the day was run.
        `unwell`: the live version is too old, or its lists are bad. `test`: somebody tries the command.
      reason: why it has happened, in sentences.
      stage: the stage that it happened in.
      exit_code: the stage's, if it has ended.
      command: the command that helps.

    Returns:
      Whether the command ended well; False also if it is not set.
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
            f"notify.command failed to report {event!r} of {day}: {problem}", soft_wrap=True
        )
    return not problem


def notify_of_error(pipeline: Pipeline, day: date, stage: str, error: BaseException) -> None:
    """Notifies of an error that ended a stage."""
    # An empty day is no problem, and whoever stops a stage by Ctrl-C or a scheduler knows about it
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
            stdout=subprocess.DEVNULL,  # the last line of our output is a stage's result
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that processes that it starts are killed with it
        )
    except OSError as error:
        return f"it could not be started: {error}"
    try:
        _, errors = process.communicate(message.encode(), timeout=_TIMEOUT)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):  # it has ended in this moment
            os.killpg(process.pid, signal.SIGKILL)
        # Not `communicate`: a process that it started in another session may hold its streams open
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
    """The text without the values of variables in the command."""
    # Addresses of web hooks hold keys, and `curl` shows them in its errors
    named = set(re.findall(r"\$\{?(\w+)", command))
    secrets = {
        name: value
        for name, value in os.environ.items()
        # Loading the pipeline file has replaced its variables by their values
        if len(value) >= _SHORTEST_SECRET and (name in named or value in command)
    }
    for name, value in sorted(secrets.items(), key=lambda one: -len(one[1])):
        text = text.replace(value, f"${name}")
    return text
