"""Telling somebody by `notify.command` of the pipeline file."""

from typing import Annotated

import typer

from twinspire.cli.options import (
    JsonLine,
    PipelineFile,
    end_with_json,
    open_pipeline,
    resolve_day,
    say,
)
from twinspire.cli.scheduling import DayOption, Instant
from twinspire.runs import notifications
from twinspire_core.errors import TwinspireError, UsageError


def notify(
    pipeline: PipelineFile,
    date: DayOption = None,
    instant: Instant = None,
    event: Annotated[
        str, typer.Option(metavar="EVENT", help="What has happened: failed, say.")
    ] = "test",
    stage: Annotated[
        str | None, typer.Option(metavar="NAME", help="The stage or task that it happened in.")
    ] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why.")] = "This is a test.",
    as_json: JsonLine = False,
) -> None:
    """Run notify.command of the pipeline file, as for a day that needs somebody; by default, to try
    it.

    Stages run it by themselves when a day fails, is refused, is late or leaves a gap. A scheduler
    runs it for a stage that was killed, which cannot.
    """
    p = open_pipeline(pipeline)
    if not p.notify.command:
        raise UsageError(
            "notify.command is not set in the pipeline file; set it to send notifications."
        )
    day = resolve_day(p, date, instant)
    again = f"twinspire run PIPELINE --date {day}"
    told = notifications.notify(p, event, day, reason, stage=stage, command=again)
    end_with_json({"day": str(day), "event": event, "told": told}, as_json)
    if not told:
        raise TwinspireError("notify.command did not end well; standard error says why.")
    say("notify.command ended well.")
