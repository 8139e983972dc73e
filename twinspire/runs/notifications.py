"""Telling somebody that a day needs them: `notify.command` of the pipeline file.

What is told is on the command's standard input, as one JSON object. The command never stops a day:
what goes wrong with it is said, and that is all.
"""

import json
import os
import signal
import subprocess
from datetime import date

from rich.console import Console

from twinspire_core.config.pipeline import Pipeline
from twinspire_core.messages import format_message

_SHOWN = 500

console = Console(stderr=True, highlight=False, markup=False)


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
      day: the day.
      reason: why, for people.
      stage: the stage that it happened in.
      exit_code: what that ends with, if it has ended.
      command: what helps, as it is typed.

    Returns:
      Whether the command ended well; False also without one.
    """
    if not pipeline.notify.command:
        return False
    told = {
        "event": event,
        "pipeline": pipeline.name,
        "day": str(day),
        "stage": stage,
        "exit_code": exit_code,
        "reason": format_message(reason),
        "command": format_message(command),
    }
    problem = _run(
        pipeline.notify.command, json.dumps(told), pipeline.notify.timeout.total_seconds()
    )
    if problem:
        console.print(
            f"notify.command could not tell of {event!r} of {day}: {problem}", soft_wrap=True
        )
    return not problem


def _run(command: str, told: str, seconds: float) -> str:
    """What went wrong with the command; empty if nothing did."""
    process = subprocess.Popen(
        ["sh", "-c", command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,  # the last line of ours is a stage's result
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that what it started is ended with it
    )
    try:
        _, errors = process.communicate(told, timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"it did not end within notify.timeout = {seconds:.0f} s"
    if process.returncode:
        return f"it ended with exit code {process.returncode}. {errors.strip()[-_SHOWN:]}"
    return ""
