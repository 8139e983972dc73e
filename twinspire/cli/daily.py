"""The stages of a day as commands, all of them in order, and the refresh between two days."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Annotated, Any

import typer

from twinspire.cli.options import (
    Date,
    Force,
    Late,
    ModeOption,
    NoReuse,
    PipelineFile,
    PromoteOption,
    Run,
    console,
    json_on_error,
    open_pipeline,
    parse_date,
    print_json,
    resolve_day,
)
from twinspire.cli.terminal_tables import terminal_table
from twinspire.runs import live_catalogue, run_leases, runner
from twinspire.runs.day_run import DayRun
from twinspire.runs.notifications import notify_of_error
from twinspire.runs.stages import STAGES
from twinspire.runs.version_addresses import addresses_of
from twinspire_core.blocked_imports import never_import
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.display.table import Table
from twinspire_core.errors import (
    GateRefused,
    LogsLate,
    NothingToDo,
    RunnerFailed,
    TryAgain,
    TwinspireError,
    UsageError,
)
from twinspire_core.messages import format_message

_ENDS: dict[type[TwinspireError], tuple[str, str]] = {
    LogsLate: ("late", "yellow"),
    NothingToDo: ("skipped", "yellow"),
    GateRefused: ("refused", "red"),
}
"""How a day ends that makes no version that goes live, without ending the days after it."""


def features(
    pipeline: PipelineFile,
    date: Date,
    mode: ModeOption = "incremental",
    force: Force = False,
    late: Late = False,
    no_reuse: NoReuse = False,
    run: Run = None,
) -> None:
    """Make the day's examples, corpus, queries, transform graph and statistics (Beam).

    What is read of a day's logs is kept (WORK_ROOT/PIPELINE/partials), by the digest of the files and
    the settings it depends on, so that the days after it read no logs but their own.
    """
    options = {"mode": mode, "force": force, "late": late, "reuse": not no_reuse}
    _stage("features", pipeline, date, run=run, **options)


def train(
    pipeline: PipelineFile,
    date: Date,
    mode: ModeOption = "incremental",
    force: Force = False,
    run: Run = None,
) -> None:
    """Measure the parent on the day, then train on it; write both towers."""
    _stage("train", pipeline, date, mode=mode, force=force, run=run)


def embed(pipeline: PipelineFile, date: Date, force: Force = False, run: Run = None) -> None:
    """Embed the corpus and a sample of users (Beam)."""
    _stage("embed", pipeline, date, force=force, run=run)


def index(pipeline: PipelineFile, date: Date, force: Force = False, run: Run = None) -> None:
    """Build the nearest-neighbour index, with the settings of the day before while these reach the
    recall asked for; measure its recall.
    """
    _stage("index", pipeline, date, force=force, run=run)


def publish(
    pipeline: PipelineFile,
    date: Date,
    promote: PromoteOption = "auto",
    force: Force = False,
    run: Run = None,
) -> None:
    """Judge the day's version by the gate and publish it; exit 4 when refused."""
    _stage("publish", pipeline, date, promote=promote, force=force, run=run)


def refresh(
    pipeline: PipelineFile,
    date: Date,
    version: Annotated[
        str | None,
        typer.Option(
            "--version",
            metavar="VERSION",
            help="Whose towers to take; by default the live version's.",
        ),
    ] = None,
    promote: PromoteOption = "auto",
    force: Force = False,
    no_reuse: NoReuse = False,
) -> None:
    """Publish the live version's towers with the catalogue as of the end of a day, without
    training.

    Items are those of the newest snapshot at or before the day: new and changed ones are embedded,
    the others keep their vectors, withdrawn ones are gone. Popularity, co-occurrence and stored
    users count events up to the day, as far as they are there. The gate judges the index and how
    much of the catalogue changed; exit 4 when refused.
    """
    with json_on_error("refresh") as known:
        known["day"] = date
        day_run = DayRun(open_pipeline(pipeline), parse_date(date))
        with _with_addresses_of_refused(day_run, known):
            result = live_catalogue.refresh(
                day_run, force=force, promote=promote, version=version, reuse=not no_reuse
            )
        print_json(result | addresses_of(day_run.pipeline, result["version"]))


def _stage(name: str, file: str, date: str, *, run: str | None, **options: Any) -> None:
    # Arrow, Beam and Matplotlib would load it for nothing. Not so in `run`, where all stages are
    # one process.
    if not STAGES[name].needs_pandas:
        never_import("pandas")
    with json_on_error(name) as known:
        known["day"] = date  # as typed: it may turn out to be no date
        # A named run is a scheduler's: one that waited here would keep a slot from earlier days.
        gives_way = run is not None
        day_run = DayRun(open_pipeline(file), parse_date(date), lease=run, gives_way=gives_way)
        with _with_addresses_of_refused(day_run, known):
            result = runner.run_stage(day_run, name, **options)
        if STAGES[name].publishes:
            result |= addresses_of(day_run.pipeline, result["version"])
        print_json(result)


@contextmanager
def _with_addresses_of_refused(run: DayRun, known: dict[str, Any]) -> Iterator[None]:
    """Where the gate refuses a version: the last line says where that and its report are."""
    try:
        yield
    except GateRefused as error:
        if error.version:
            known |= addresses_of(run.pipeline, error.version)
        raise


def run(
    pipeline: PipelineFile,
    date: Annotated[
        str | None, typer.Option("--date", metavar="DATE", help="One day; yesterday by default.")
    ] = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="First of a range of days.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="DATE", help="Last of the range.")
    ] = None,
    mode: ModeOption = "incremental",
    force: Force = False,
    late: Late = False,
    promote: PromoteOption = "auto",
    no_reuse: NoReuse = False,
) -> None:
    """Run all stages of a day, or of a range of days oldest first, without Airflow.

    What is done for the same inputs is skipped. A day that is late, empty or refused does not stop
    later ones; any other failure does.
    """
    p = open_pipeline(pipeline)
    options: dict[str, Any] = {"mode": mode, "force": force, "late": late, "promote": promote}
    options["reuse"] = not no_reuse
    outcomes = [_run_day(p, d, **options) for d in _range(p, date, first, last)]
    console.print(terminal_table(_outcome_table(outcomes)))
    print_json({"pipeline": p.name, "days": outcomes})
    ends = {of_day["outcome"] for of_day in outcomes}
    for outcome, error in (("refused", GateRefused), ("late", LogsLate)):
        if outcome in ends:
            raise typer.Exit(error.exit_code)


def _range(pipeline: Pipeline, day: str | None, first: str | None, last: str | None) -> list[date]:
    if bool(first) != bool(last) or (day and first):
        raise UsageError("Give --date, or both --from and --to.")
    if not first:
        return [resolve_day(pipeline, day, None)]
    start = parse_date(first)
    end = parse_date(last or first)
    if end < start:
        raise UsageError(f"--from is at or before --to, found {start} and {end}.")
    return [start + timedelta(days=n) for n in range((end - start).days + 1)]


def _run_day(pipeline: Pipeline, day: date, **options: Any) -> dict[str, Any]:
    # Its own process holds the lease: when that is killed, later days find out.
    with run_leases.own_run(pipeline, day) as lease:
        return _run_stages(DayRun(pipeline, day, lease), **options)


def _run_stages(run: DayRun, **options: Any) -> dict[str, Any]:
    """Runs all stages of a day: its outcome, and the seconds that each took."""
    seconds: dict[str, float] = {}
    result: dict[str, Any] = {}
    for name in STAGES:
        try:
            result = runner.run_stage(run, name, **options)
        except KeyboardInterrupt:
            console.print(
                f"Interrupted in {name} of {run.day}. What is done is kept: the same command goes"
                " on from there."
            )
            raise
        # Logs that are not there yet hold up their day alone; all else that may be tried again, all
        # days after it.
        except (LogsLate, NothingToDo, GateRefused) as error:
            reason = format_message(error)
            outcome, colour = _ENDS[type(error)]
            console.print(f"[{colour}]{outcome}[/] {reason}", highlight=False)
            told = {"outcome": outcome, "reason": reason, "seconds": seconds, **error.facts()}
            return {"day": str(run.day), **told}
        except (TryAgain, RunnerFailed) as error:
            # A scheduler would try again before it tells anybody; here nothing does.
            notify_of_error(run.pipeline, run.day, name, error)
            raise
        seconds[name] = result["seconds"]
        console.print(
            f"[bold]{run.day}[/] {name} [green]{result['status']}[/] in {result['seconds']} s",
            highlight=False,
        )
    for warning in result.get("notes", []):
        console.print(f"{run.day} gate: {warning}", highlight=False)
    headline = {key: result.get(key) for key in ("version", "live", "parent")}
    return {"day": str(run.day), "outcome": "published", "seconds": seconds, **headline}


def _outcome_table(outcomes: list[dict[str, Any]]) -> Table:
    rows = []
    for of_day in outcomes:
        outcome = of_day["outcome"]
        if outcome == "published":
            outcome = "live" if of_day["live"] else "not live"
        times = [str(of_day["seconds"].get(name, "")) for name in STAGES]
        rows.append([outcome, of_day.get("version") or of_day["day"], *times])
    head = ["outcome", "version or day", *STAGES]
    return Table(head=head, rows=rows, note="seconds by stage", names=(0, 1))
