"""The parts of a day's run as commands for schedulers: find the day, check its logs, wait for earlier days,
run each stage, close the day.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Annotated, Any

import typer

from twinspire.cli.run_days import (
    tell_stage,
    tell_version,
)
from twinspire.cli.shared import (
    Date,
    Force,
    JsonLine,
    Late,
    ModeOption,
    PipelineFile,
    PromoteOption,
    Run,
    last_line,
    open_pipeline,
    parse_date,
    resolve_day,
    say,
)
from twinspire.runs import run_leases, runner
from twinspire.runs.day_run import DayRun
from twinspire.runs.stages import FEATURES, STAGES
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.native_code import never_import

# The reason that is recorded for a run that did not record its own end
_CLOSED = "It was closed while it was under way: its command was killed or gave up. See its log."


DayOption = Annotated[
    str | None, typer.Option("--date", metavar="DATE", help="The day. Default: yesterday.")
]


Instant = Annotated[
    str | None,
    typer.Option(
        "--instant",
        metavar="ISO",
        help="A moment of the day, such as 2017-10-16T03:00:00+00:00, instead of --date.",
    ),
]


Wait = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        help="How many seconds to wait if only one earlier day is left.",
    ),
]


def which_day(
    pipeline: PipelineFile,
    date: DayOption = None,
    instant: Instant = None,
    as_json: JsonLine = False,
) -> None:
    """Print the day of a run, and the day's state. Nothing is recorded."""
    with _of_day("which-day", pipeline, date, instant, as_json) as (p, day, line):
        line["state"] = run_leases.state(p, day)
        say(f"{day}: {line['state'] or 'not run yet'}.")


def open_day(
    pipeline: PipelineFile,
    date: DayOption = None,
    instant: Instant = None,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """Check that the day's logs are there and plausible. With --run, later days wait until
    this day has ended.

    Exit codes: 75 if the logs are late, 99 if the day is empty, 3 if it is suspiciously small.
    """
    with _of_day("open-day", pipeline, date, instant, as_json) as (p, day, line):
        checked = runner.check_source(DayRun(p, day, lease=run))
        usual = checked["usual_rows"]
        compared = f"; {usual:,.0f} are usual on this weekday" if usual else ""
        say(f"{day} has {checked['rows']:,} events{compared}.")
        line |= {"state": run_leases.state(p, day), "input": checked}


def await_turn(
    pipeline: PipelineFile,
    date: DayOption = None,
    wait: Wait = 0,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """Check whether all earlier days have ended.

    Exit codes: 75 if an earlier day is still running, 2 if no earlier day has ended within
    train.wait.
    """
    with _of_day("await-turn", pipeline, date, None, as_json) as (p, day, line):
        run_leases.ask_turn(p, day, run, timedelta(seconds=wait))
        say(f"All days before {day} have ended.")
        line["state"] = run_leases.state(p, day)


def close_day(
    pipeline: PipelineFile,
    date: DayOption = None,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """End the open runs of a day, so that later days can run.

    With --run, only the run with this name is ended. Without --date, it may be a run of any day.
    """
    with last_line("close-day", as_json) as line:
        p = open_pipeline(pipeline)
        days = attempts.days(p)
        # If the task that finds the day was killed, a scheduler knows its run but not the day
        if date or not run:
            days = [resolve_day(p, date, None)]
            line["day"] = str(days[0])
        line["closed"] = run_leases.end_runs(p, days, run, _CLOSED)
        say(f"Closed: {', '.join(line['closed']) or 'no run was open'}.")


@contextmanager
def _of_day(
    command: str, file: str, given: str | None, instant: str | None, as_json: bool
) -> Iterator[tuple[Pipeline, date, dict[str, Any]]]:
    """Frames a command about a day, so that its last line names the day even if it fails.

    Yields:
      The pipeline, the day, and the fields of the last line, to which the command adds.
    """
    with last_line(command, as_json) as line:
        pipeline = open_pipeline(file)
        day = resolve_day(pipeline, given, instant)
        line["day"] = str(day)
        yield pipeline, day, line


def features(
    pipeline: PipelineFile,
    date: Date,
    mode: ModeOption = "incremental",
    force: Force = False,
    late: Late = False,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """Make the day's training examples, corpus, queries, transform graph and statistics with Beam.

    A cache in WORK_ROOT/PIPELINE/partials keeps the records of each day, so that a later run only
    reads the logs of its own day.
    """
    _stage("features", pipeline, date, as_json, run=run, mode=mode, force=force, late=late)


def train(
    pipeline: PipelineFile,
    date: Date,
    mode: ModeOption = "incremental",
    force: Force = False,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """Train on the day. Write both towers, and the vectors that `measure` needs."""
    _stage("train", pipeline, date, as_json, mode=mode, force=force, run=run)


def measure(
    pipeline: PipelineFile,
    date: Date,
    force: Force = False,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """Measure the parent and the new version on the day. Fit the ranker and the weights of the sources."""
    _stage("measure", pipeline, date, as_json, force=force, run=run)


def embed(
    pipeline: PipelineFile,
    date: Date,
    force: Force = False,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """Compute the vectors of all items and of a sample of users with Beam."""
    _stage("embed", pipeline, date, as_json, force=force, run=run)


def index(
    pipeline: PipelineFile,
    date: Date,
    force: Force = False,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """Build the nearest-neighbour index and measure its recall.

    The settings of the index are kept from the day before, as long as they reach the required
    recall.
    """
    _stage("index", pipeline, date, as_json, force=force, run=run)


def publish(
    pipeline: PipelineFile,
    date: Date,
    promote: PromoteOption = "auto",
    force: Force = False,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """Let the gate judge the new version, and publish it.

    Exit code: 4 if the gate refused the version.
    """
    _stage("publish", pipeline, date, as_json, promote=promote, force=force, run=run)


def _stage(
    name: str, file: str, date: str, as_json: bool, *, run: str | None, **options: Any
) -> None:
    # Arrow, Beam and Matplotlib load pandas, which only TensorFlow Transform needs. `run` has all stages in
    # one process, and so does not block it
    if name != FEATURES.name:
        never_import("pandas")
    with last_line(name, as_json) as line:
        line["day"] = date  # as typed, because it may not be a date
        # A named run is a scheduler's. If it waited here, it would take a slot from earlier days
        day_run = DayRun(
            open_pipeline(file), parse_date(date), lease=run, gives_way=run is not None
        )
        line |= runner.run_stage(day_run, name, **options)
        tell_stage(line)
        if STAGES[name].publishes:
            tell_version(line)
