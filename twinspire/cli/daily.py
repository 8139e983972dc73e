"""The daily run: its day, its stages, all of them in order, and what came of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.table import Table

from twinspire.cli.options import (
    Date,
    Force,
    ModeOption,
    PipelineFile,
    PromoteOption,
    Run,
    console,
    open_pipeline,
    parse_date,
    print_json,
)
from twinspire.runs import day_order, run_leases, runner
from twinspire.runs.refresh import catch_up
from twinspire.runs.stages import STAGES
from twinspire_core.blocked_imports import leave_out
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.errors import GateRefused, NothingToDo, TryAgain, TwinspireError, UsageError
from twinspire_core.messages import format_message

_ENDS: dict[type[TwinspireError], tuple[str, str]] = {
    TryAgain: ("late", "yellow"),
    NothingToDo: ("skipped", "yellow"),
    GateRefused: ("refused", "red"),
}
"""How a day ends that makes no version that goes live, without ending the days after it."""


def day(
    pipeline: PipelineFile,
    date: Annotated[
        str | None, typer.Option("--date", metavar="DATE", help="The day; yesterday by default.")
    ] = None,
    instant: Annotated[
        str | None,
        typer.Option(
            metavar="ISO", help="A moment, as 2017-10-16T03:00:00+00:00, that lies in the day."
        ),
    ] = None,
    turn: Annotated[
        bool,
        typer.Option(
            help="Only tell whether all earlier days have ended: 0; 75 not yet; 2 after train.wait."
        ),
    ] = False,
    wait: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="With --turn: wait so long while one earlier day is left.",
        ),
    ] = 0,
    close: Annotated[
        bool,
        typer.Option(
            help=(
                "End what is open of the day, or only --run (on any day), so that later days go on."
            )
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check", help="Without: only tell which day it is; open nothing."
        ),
    ] = True,
    run: Run = None,
) -> None:
    """Resolve the day of a run, check that its logs are there, and open it.

    Exit codes: 75 the logs are late, 99 the day is empty, 3 the day is suspiciously small.
    """
    with json_on_error("day") as told:
        p = open_pipeline(pipeline)
        if close and run and not (date or instant):
            print_json({"closed": run_leases.end_runs(p, attempts.days(p), run)})
            return
        chosen = resolve_day(p, date, instant)
        told["day"], found = str(chosen), dict[str, Any]()
        if close:
            found["closed"] = run_leases.end_runs(p, [chosen], run)
        elif turn:
            day_order.ask_turn(p, chosen, run, timedelta(seconds=wait))
        elif check:
            found["input"] = runner.check_source(p, chosen, run)
        print_json({"day": str(chosen), "state": run_leases.state(p, chosen), **found})


def resolve_day(pipeline: Pipeline, day: str | None, instant: str | None) -> date:
    """The day asked for: given, or that of an instant in the pipeline's zone, or yesterday there.

    Raises:
      UsageError: both are given, or the instant has no offset.
    """
    if day and instant:
        raise UsageError("A run has one day: give --date or --instant, not both.")
    if day:
        return parse_date(day)
    if not instant:
        return datetime.now(pipeline.zone).date() - timedelta(days=1)
    moment = datetime.fromisoformat(instant)
    if moment.tzinfo is None:
        raise UsageError(
            f"An instant needs its offset, as in 2017-10-16T03:00:00+00:00; found {instant!r}."
        )
    return moment.astimezone(pipeline.zone).date()


def features(
    pipeline: PipelineFile,
    date: Date,
    mode: ModeOption = "incremental",
    force: Force = False,
    run: Run = None,
) -> None:
    """Make the day's examples, corpus, queries, transform graph and statistics (Beam)."""
    _stage("features", pipeline, date, mode=mode, force=force, run=run)


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
    """Build the nearest-neighbour index, with the settings of the day before while they do; measure
    its recall.
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


def _stage(name: str, file: str, date: str, **options: Any) -> None:
    if name != "features":  # where TensorFlow Transform needs it
        leave_out("pandas")  # Arrow, Beam and Matplotlib would load it
    with json_on_error(name) as told:
        told["day"] = date
        print_json(_run_stage(open_pipeline(file), parse_date(date), name, **options))


def _run_stage(pipeline: Pipeline, day: date, name: str, **options: Any) -> dict:
    """Runs a stage; a version that only its older catalogue keeps from going live gets the live
    one's.
    """
    told = runner.run_stage(pipeline, day, name, **options)
    caught_up = name == "publish" and options["promote"] == "auto" and not told["live"]
    return told | (catch_up(pipeline, told["version"]) if caught_up else {})


@contextmanager
def json_on_error(stage: str) -> Iterator[dict]:
    """A stage's standard output ends with a JSON line whatever happens; what is put into the
    dictionary is added.
    """
    told: dict = {"stage": stage}
    try:
        yield told
    except TwinspireError as e:
        print_json(
            {
                **told,
                "status": type(e).__name__,
                "exit_code": e.exit_code,
                "reason": format_message(e),
            }
        )
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
    promote: PromoteOption = "auto",
) -> None:
    """Run all stages of a day, or of a range of days oldest first, without Airflow.

    What is done for the same inputs is skipped. A day that is late, empty or refused does not stop
    later ones; any other failure does.
    """
    p = open_pipeline(pipeline)
    outcomes = [
        _run_day(p, d, mode=mode, force=force, promote=promote)
        for d in _range(p, date, first, last)
    ]
    console.print(_outcome_table(outcomes))
    print_json({"pipeline": p.name, "days": outcomes})
    for outcome, error in (("refused", GateRefused), ("late", TryAgain)):
        if any(o["outcome"] == outcome for o in outcomes):
            raise typer.Exit(error.exit_code)


def _range(pipeline: Pipeline, day: str | None, first: str | None, last: str | None) -> list[date]:
    if bool(first) != bool(last) or (day and first):
        raise UsageError("Give --date, or both --from and --to.")
    if not first:
        return [resolve_day(pipeline, day, None)]
    start, end = parse_date(first), parse_date(last or first)
    if end < start:
        raise UsageError(f"--from is at or before --to, found {start} and {end}.")
    return [start + timedelta(days=n) for n in range((end - start).days + 1)]


def _run_day(pipeline: Pipeline, day: date, **options: Any) -> dict:
    with run_leases.own_run(pipeline, day) as name:
        return _run_stages(pipeline, day, run=name, **options)


def _run_stages(pipeline: Pipeline, day: date, **options: Any) -> dict:
    seconds: dict[str, float] = {}
    last: dict[str, Any] = {}
    for name in STAGES:
        try:
            last = _run_stage(pipeline, day, name, **options)
        except KeyboardInterrupt:
            console.print(
                f"Interrupted in {name} of {day}. What is done is kept: the same command goes on"
                " from there."
            )
            raise
        except (TryAgain, NothingToDo, GateRefused) as e:
            if isinstance(e, TryAgain) and name != "features":
                raise
            reason = format_message(e)
            outcome, colour = _ENDS[type(e)]
            console.print(f"[{colour}]{outcome}[/] {reason}", highlight=False)
            return {"day": str(day), "outcome": outcome, "reason": reason, "seconds": seconds}
        seconds[name] = last["seconds"]
        console.print(
            f"[bold]{day}[/] {name} [green]{last['status']}[/] in {last['seconds']} s",
            highlight=False,
        )
    for note in last.get("notes", []):
        console.print(f"{day} gate: {note}", highlight=False)
    return {"day": str(day), "outcome": "published", "seconds": seconds, **_headline(last)}


def _headline(summary: dict) -> dict:
    return {key: summary.get(key) for key in ("version", "live", "parent")}


def _outcome_table(outcomes: list[dict]) -> Table:
    table = Table("outcome", "version or day", *STAGES, caption="seconds by stage")
    table.columns[1].no_wrap = True
    for o in outcomes:
        times = [str(o["seconds"].get(name, "")) for name in STAGES]
        outcome = (
            "live" if o.get("live") else "not live" if o["outcome"] == "published" else o["outcome"]
        )
        table.add_row(outcome, o.get("version") or o["day"], *times)
    return table
