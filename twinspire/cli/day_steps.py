"""The parts of a day's run as commands, for schedulers: which day it is, whether its logs are there,
whether it is its turn, its stages, and how it is closed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Annotated, Any

import typer

from twinspire.cli.options import (
    Date,
    Force,
    JsonLine,
    Late,
    ModeOption,
    NoReuse,
    PipelineFile,
    PromoteOption,
    Run,
    open_pipeline,
    parse_date,
    resolve_day,
)
from twinspire.cli.output import end_with_json, json_on_error, say
from twinspire.cli.run_days import (
    addresses_of,
    tell_stage,
    tell_version,
    with_addresses_of_refused,
)
from twinspire.runs import run_leases, runner
from twinspire.runs.day_run import DayRun
from twinspire.runs.stages import STAGES
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.library_loading import never_import

_CLOSED = (
    "It was closed while it was under way: its command was killed or gave up, as its log tells."
)
"""The reason that is recorded for a run that did not end itself."""


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
    """Print the day of a run, and its state. The day is not opened."""
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
    """Check whether all earlier days have ended.

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
    """End open runs of the day, so that later days go on.

    With --run only the run of this name is ended; without a day, on whichever day it is.
    """
    with json_on_error("close-day", as_json) as known:
        p = open_pipeline(pipeline)
        # If the task that finds the day was killed, a scheduler knows its run but not the day
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
    """Frames a command about a day: its last line names the day, also if it fails.

    Yields:
      The pipeline, the day, and the fields of the last line; the command adds to them.
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


def features(
    pipeline: PipelineFile,
    date: Date,
    mode: ModeOption = "incremental",
    force: Force = False,
    late: Late = False,
    no_reuse: NoReuse = False,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """Make the day's examples, corpus, queries, transform graph and statistics (Beam).

    What is read of a day's logs is kept (WORK_ROOT/PIPELINE/partials), by the digest of the files and
    the settings it depends on, so that the days after it read no logs but their own.
    """
    options = {"mode": mode, "force": force, "late": late, "reuse": not no_reuse}
    _stage("features", pipeline, date, as_json, run=run, **options)


def train(
    pipeline: PipelineFile,
    date: Date,
    mode: ModeOption = "incremental",
    force: Force = False,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """Train on the day; write both towers, and vectors of what is to be measured."""
    _stage("train", pipeline, date, as_json, mode=mode, force=force, run=run)


def measure(
    pipeline: PipelineFile,
    date: Date,
    force: Force = False,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """Measure the parent and the day's version on the day; fit what orders candidates."""
    _stage("measure", pipeline, date, as_json, force=force, run=run)


def embed(
    pipeline: PipelineFile,
    date: Date,
    force: Force = False,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """Embed the corpus and a sample of users (Beam)."""
    _stage("embed", pipeline, date, as_json, force=force, run=run)


def index(
    pipeline: PipelineFile,
    date: Date,
    force: Force = False,
    run: Run = None,
    as_json: JsonLine = False,
) -> None:
    """Build the nearest-neighbour index, with the settings of the day before while these reach the
    recall asked for; measure its recall.
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
    """Judge the day's version by the gate and publish it; exit 4 when refused."""
    _stage("publish", pipeline, date, as_json, promote=promote, force=force, run=run)


def _stage(
    name: str, file: str, date: str, as_json: bool, *, run: str | None, **options: Any
) -> None:
    # Arrow, Beam and Matplotlib would load it needlessly. Not in `run`: there all stages are one process
    if not STAGES[name].needs_pandas:
        never_import("pandas")
    with json_on_error(name, as_json) as known:
        known["day"] = date  # as typed: it may be no date
        # A named run is a scheduler's: if it waited here, it would take a slot from earlier days
        gives_way = run is not None
        day_run = DayRun(open_pipeline(file), parse_date(date), lease=run, gives_way=gives_way)
        with with_addresses_of_refused(day_run, known):
            result = runner.run_stage(day_run, name, **options)
        if STAGES[name].publishes:
            result |= addresses_of(day_run.pipeline, result["version"])
        tell_stage(result)
        if STAGES[name].publishes:
            tell_version(result)
        end_with_json(result, as_json)
