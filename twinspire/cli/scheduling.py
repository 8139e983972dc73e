"""What a scheduler asks around the stages of a day: which day it is, whether its logs are there,
whether it is its turn, and how it ended.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinspire.cli.options import (
    Date,
    JsonLine,
    PipelineFile,
    Run,
    console,
    end_with_json,
    json_on_error,
    open_pipeline,
    parse_date,
    resolve_day,
    say,
)
from twinspire.cli.show_days import needing_attention
from twinspire.cli.terminal_tables import terminal_table
from twinspire.runs import notifications, run_leases, runner
from twinspire.runs.day_run import DayRun
from twinspire.runs.stages import REFRESH, STAGES
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.display.quality_tables import quality_table
from twinspire_core.errors import NothingToDo, TwinspireError, UsageError, format_message

if TYPE_CHECKING:
    from twinspire_core.display.served_figure import ServedFigure

_CLOSED = (
    "It was closed while it was under way: its command was killed or gave up, as its log tells."
)
"""Why a run ended that did not end itself."""
DayOption = Annotated[
    str | None, typer.Option("--date", metavar="DATE", help="The day; yesterday by default.")
]
Instant = Annotated[
    str | None,
    typer.Option(
        "--instant",
        metavar="ISO",
        help="A moment, as 2017-10-16T03:00:00+00:00, that lies in the day.",
    ),
]
Wait = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        help="Wait so long while one earlier day is left.",
    ),
]


def which_day(
    pipeline: PipelineFile,
    date: DayOption = None,
    instant: Instant = None,
    as_json: JsonLine = False,
) -> None:
    """Tell which day a run is about. Opens nothing."""
    with _of_day("which-day", pipeline, date, instant, as_json) as (p, chosen, result):
        result |= _state(p, chosen)
        say(f"{chosen}: {result['state'] or 'not run yet'}.")


def open_day(
    pipeline: PipelineFile,
    date: DayOption = None,
    instant: Instant = None,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """Check that the day's logs are there and plausible; with --run, open the day, so that later
    ones wait for it.

    Exit codes: 75 the logs are late, 99 the day is empty, 3 the day is suspiciously small.
    """
    with _of_day("open-day", pipeline, date, instant, as_json) as (p, chosen, result):
        checked = runner.check_source(DayRun(p, chosen, lease=run))
        usual = checked["usual_rows"]
        as_usual = f"; {usual:,.0f} are usual on its weekday" if usual else ""
        say(f"{chosen} has {checked['rows']:,} events{as_usual}.")
        result |= {**_state(p, chosen), "input": checked}


def await_turn(
    pipeline: PipelineFile,
    date: DayOption = None,
    instant: Instant = None,
    wait: Wait = 0,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """Tell whether all earlier days have ended.

    Exit codes: 75 not yet, 2 none of them ended for as long as train.wait.
    """
    with _of_day("await-turn", pipeline, date, instant, as_json) as (p, chosen, result):
        run_leases.ask_turn(p, chosen, run, timedelta(seconds=wait))
        say(f"All days before {chosen} have ended.")
        result |= _state(p, chosen)


def close_day(
    pipeline: PipelineFile,
    date: DayOption = None,
    instant: Instant = None,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """End what is open of the day, so that later days go on.

    With --run only the run of this name is ended; without a day, whatever day it is of.
    """
    with json_on_error("close-day", as_json) as known:
        p = open_pipeline(pipeline)
        # A scheduler knows its run, but not the day, where the task that resolves it was killed.
        chosen = None
        if date or instant or not run:
            chosen = resolve_day(p, date, instant)
            known["day"] = str(chosen)
        days = [chosen] if chosen else attempts.days(p)
        closed = run_leases.end_runs(p, days, run, _CLOSED)
        say(f"Closed: {', '.join(closed)}." if closed else "No run was open.")
        state = _state(p, chosen) if chosen else {}
        end_with_json({**state, "closed": closed}, as_json)


@contextmanager
def _of_day(
    command: str, file: str, day: str | None, instant: str | None, as_json: bool
) -> Iterator[tuple[Pipeline, date, dict[str, Any]]]:
    """Does what a command does about a day; its last line names the day, also if it fails.

    Yields:
      The pipeline, the day, and what the last line holds, for the command to add to.
    """
    with json_on_error(command, as_json) as known:
        pipeline = open_pipeline(file)
        chosen = resolve_day(pipeline, day, instant)
        known["day"] = str(chosen)
        result: dict[str, Any] = {}
        yield pipeline, chosen, result
        end_with_json(result, as_json)


def _state(pipeline: Pipeline, day: date) -> dict[str, Any]:
    return {"day": str(day), "state": run_leases.state(pipeline, day)}


def summary(pipeline: PipelineFile, date: Date, as_json: JsonLine = False) -> None:
    """Summarise a day: its version, its metrics next to the baselines, its cost, and days of that
    week that need attention.
    """
    p = open_pipeline(pipeline)
    chosen = parse_date(date)
    newest = {name: attempts.latest(p, chosen, name) for name in (*STAGES, REFRESH.name)}
    result: dict[str, Any] = {
        "day": str(chosen),
        "state": run_leases.state(p, chosen),
        "stages": {name: attempt.summary for name, attempt in newest.items() if attempt},
    }
    if result["state"] == run_leases.SKIPPED:
        result["reason"] = _why_skipped(p, chosen)
    if measure := newest["measure"]:
        published = newest["publish"].summary if newest["publish"] else {}
        figure = _tell_quality(p, chosen, DayMetrics.read(measure.uri), published.get("version"))
        result["served"] = figure.as_json() if figure else None
    result["attention"] = needing_attention(p, chosen)
    _tell_summary(result)
    end_with_json(result, as_json)


def _tell_summary(result: dict[str, Any]) -> None:
    """The day's state, its version and why it was skipped, in a line."""
    text = f"{result['day']}: {result['state'] or 'not run yet'}"
    if version := result["stages"].get("publish", {}).get("version"):
        text += f", version {version}"
    if reason := result.get("reason"):
        text += f". {format_message(reason)}"
    say(text)


def _tell_quality(
    pipeline: Pipeline, day: date, metrics: DayMetrics, version: str | None
) -> "ServedFigure | None":
    """Tells people how good the lists were that were served on a day, then all that was measured.

    Args:
      metrics: what was measured on it.
      version: the day's; None before it is published.
    """
    from index_builder.registry.quality_history import quality_of
    from index_builder.registry.registry import Registry

    figure, serves_before, serves = None, None, None
    if version:
        registry = Registry(pipeline.registry.root, pipeline.name)
        quality = quality_of(registry, registry.log(), [version])[version]
        figure = quality.served_on_its_day(pipeline.gate.metric)
        serves_before, serves = quality.parent_gate.serves, quality.gate.serves
    if figure:
        console.print(f"{day} {figure.text}", highlight=False, soft_wrap=True)
    ks = pipeline.evaluation.ks
    table = quality_table(metrics, day, ks, serves_before=serves_before, serves=serves)
    console.print(terminal_table(table))
    return figure


def _why_skipped(pipeline: Pipeline, day: date) -> str:
    from beam_jobs.ingest import day_files

    try:
        day_files.check(pipeline, day)
    except NothingToDo as error:
        return str(error)
    # Why it was skipped then was written to the task's log alone.
    return "The day had no logs when it was run; now it has: run it again."


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
