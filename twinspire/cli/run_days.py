"""Running days: `run` runs all stages of one or more days, `refresh` only renews the live catalogue."""

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from index_builder.registry.registry import Registry
from twinspire.cli.shared import (
    Date,
    Force,
    JsonLine,
    Late,
    ModeOption,
    PipelineFile,
    PromoteOption,
    days_between,
    end_with_json,
    last_line,
    open_pipeline,
    parse_date,
    resolve_day,
    say,
    terminal_table,
)
from twinspire.runs import live_catalogue, run_leases, runner
from twinspire.runs.day_run import DayRun
from twinspire.runs.notifications import notify_of_error
from twinspire.runs.stages import FEATURES, STAGES
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.display.table import Table, number
from twinspire_core.errors import (
    GateRefused,
    LogsLate,
    NothingToDo,
    RunnerFailed,
    TryAgain,
    TwinspireError,
    UsageError,
    format_message,
)
from twinspire_core.terminal import console

if TYPE_CHECKING:
    from twinspire_core.display.served_figure import ServedFigure


_WITHOUT_FIGURES = (
    "The lists that are served are not measured yet (–): the next day that is run measures them. Run more"
    " days."
)
_WITHOUT_USERS = (
    "Nothing is measured (–): no user of these days had an earlier event, so nobody shows how good"
    " the lists are. If users never come back, or their ids change with each visit, lists can only be"
    " of popular and similar items. Otherwise run more days."
)
# The errors after which later days are still run, each with the day's outcome and its colour
_ENDS: dict[type[TwinspireError], tuple[str, str]] = {
    LogsLate: ("late", "yellow"),
    NothingToDo: ("skipped", "yellow"),
    GateRefused: ("refused", "red"),
}


def run(
    pipeline: PipelineFile,
    date: Annotated[
        str | None, typer.Option("--date", metavar="DATE", help="The day. Default: yesterday.")
    ] = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="The first day of a range.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="DATE", help="The last day of the range.")
    ] = None,
    mode: ModeOption = "incremental",
    force: Force = False,
    late: Late = False,
    promote: PromoteOption = "auto",
    as_json: JsonLine = False,
) -> None:
    """Run all stages of a day without Airflow. With --from and --to, run a range of days, oldest first.

    Stages that are already done with the same inputs are skipped. If a day is late, empty or
    refused, the later days are still run. Any other failure ends the command.
    """
    p = open_pipeline(pipeline)
    options = {"mode": mode, "force": force, "late": late, "promote": promote}
    outcomes = run_each(p, _range(p, date, first, last), as_json, **options)
    end_with_json({"pipeline": p.name, "days": outcomes}, as_json)
    ends = {of_day["outcome"] for of_day in outcomes}
    for outcome, kind in (("refused", GateRefused), ("late", LogsLate)):
        if outcome in ends:
            raise typer.Exit(kind.exit_code)


def run_each(
    pipeline: Pipeline, days: list[date], as_json: bool = False, **options: Any
) -> list[dict[str, Any]]:
    """Runs all stages of some days, and prints how each day ended.

    Args:
      days: oldest first.
      as_json: whether the JSON of a failure also goes to a terminal.
      options: keyword arguments of `runner.run_stage`, the same for each stage.

    Returns: The outcome of each day, for the caller's JSON.
    """
    outcomes: list[dict[str, Any]] = []
    try:
        for day in days:
            # This process holds the lease, so that later days notice if it is killed
            with run_leases.own_run(pipeline, day) as lease:
                outcomes.append(_run_stages(DayRun(pipeline, day, lease), **options))
    except TwinspireError as error:
        failed, left = days[len(outcomes)], days[len(outcomes) + 1 :]
        outcomes.append(
            {
                "day": str(failed),
                "outcome": "failed",
                "reason": format_message(error),
                "seconds": {},
            }
        )
        _tell(pipeline, outcomes)
        end_with_json({"pipeline": pipeline.name, "days": outcomes}, as_json)
        if left:
            say(
                f"{failed} failed. The days after it, up to {left[-1]}, were not run. Correct the"
                " error, then type the same command again to go on from there."
            )
        raise
    _tell(pipeline, outcomes)
    return outcomes


def _tell(pipeline: Pipeline, outcomes: list[dict[str, Any]]) -> None:
    figures = _served(pipeline, [date.fromisoformat(of_day["day"]) for of_day in outcomes])
    for of_day in outcomes:
        figure = figures.get(date.fromisoformat(of_day["day"]))
        of_day["served"] = figure.as_json() if figure else None
    console.print(terminal_table(_outcome_table(outcomes)))
    if figures:
        newest = max(figures)
        say(f"{newest} {figures[newest].text}")
    elif published := [one["version"] for one in outcomes if one["outcome"] == "published"]:
        with suppress(TwinspireError):  # the store may not answer now
            say(_WITHOUT_FIGURES if _has_users(pipeline, published) else _WITHOUT_USERS)


def _has_users(pipeline: Pipeline, versions: list[str]) -> bool:
    """Whether any of the versions was measured on held-out users."""
    from twinspire_core.contracts.day_metrics import DayMetrics

    registry = Registry(pipeline.registry.root, pipeline.name)
    found = (DayMetrics.find(registry.folder(version)) for version in versions)
    return any(metrics and metrics.holdout.users for metrics in found)


def _served(pipeline: Pipeline, days: list[date]) -> "dict[date, ServedFigure]":
    """How good the lists were that were served on each day; empty if the store does not answer."""
    from index_builder.registry.quality_history import served_on_days

    registry = Registry(pipeline.registry.root, pipeline.name)
    try:
        return served_on_days(registry, days, pipeline.gate.metric)
    except TwinspireError:
        return {}  # the days are done, even if the store does not answer now


def _range(pipeline: Pipeline, day: str | None, first: str | None, last: str | None) -> list[date]:
    if bool(first) != bool(last) or (day and first):
        raise UsageError("Give --date, or both --from and --to.")
    if first and last:
        return days_between(first, last)
    return [resolve_day(pipeline, day, None)]


def _run_stages(run: DayRun, **options: Any) -> dict[str, Any]:
    """Runs all stages of a day. Returns its outcome, and the seconds that each stage took."""
    seconds: dict[str, float] = {}
    result: dict[str, Any] = {}
    rejected: dict[str, int] = {}
    for name in STAGES:
        try:
            result = runner.run_stage(run, name, **options)
        except KeyboardInterrupt:
            console.print(
                f"Interrupted in {name} of {run.day}. Finished stages are kept: type the same command"
                " again to go on from there."
            )
            raise
        # Late logs stop this day only. Other errors that may be tried again stop later days, too
        except (LogsLate, NothingToDo, GateRefused) as error:
            reason = format_message(error)
            outcome, colour = _ENDS[type(error)]
            console.print(f"[{colour}]{outcome}[/] {escape(reason)}", markup=True, soft_wrap=True)
            return {
                "day": str(run.day),
                "outcome": outcome,
                "reason": reason,
                "seconds": seconds,
                **error.facts(),
            }
        except (TryAgain, RunnerFailed) as error:
            # A scheduler tries again before it notifies anybody, but nothing tries this again
            notify_of_error(run.pipeline, run.day, name, error)
            raise
        seconds[name] = result["seconds"]
        tell_stage(result)
        if name == FEATURES.name:
            rejected = result["rejected"]
            for line in _rejected_records(result):
                say(line)
    tell_version(result)
    return {
        "day": str(run.day),
        "outcome": "published",
        "seconds": seconds,
        "rejected": rejected,
        **{key: result.get(key) for key in ("version", "live", "parent")},
    }


def _rejected_records(result: dict[str, Any]) -> Iterator[str]:
    """How many records the stage `features` rejected and why, one example, and where they are."""
    counts = [("events", result["day"], result["rejected"], result["rows"])]
    for table, snapshots in result["snapshots"].items():
        for day, rows in snapshots.items():
            rejected = rows["rejected"]
            counts.append((table, day, rejected, rows["rows"] + sum(rejected.values())))
    counts = [count for count in counts if count[2]]
    for table, day, reasons, rows in counts:
        most_frequent = sorted(reasons.items(), key=lambda reason: -reason[1])
        why = "; ".join(f"{n:,}: {reason}" for reason, n in most_frequent)
        yield f"{table} of {day}: {sum(reasons.values()):,} of {rows:,} records were rejected. {why}"
    if not counts:
        return
    from twinspire_core.contracts import feature_schema  # it loads Arrow

    place = storage.join(result["attempt"], feature_schema.REJECTED, "records.jsonl")
    with suppress(FileNotFoundError):  # if the day was done before and has been pruned
        example = json.loads(storage.read_bytes(place).partition(b"\n")[0])
        yield (
            f"One of them is record {example['row']:,} of {example['file']}: {example['reason']},"
            f" found {example['value']}. All: {place}"
        )


def _outcome_table(outcomes: list[dict[str, Any]]) -> Table:
    rows = []
    for of_day in outcomes:
        outcome = of_day["outcome"]
        if outcome == "published":
            outcome = "live" if of_day["live"] else "not live"
        served = of_day["served"] or {}
        values = (number(served.get(name)) for name in ("value", "simple_value", "two_tower"))
        seconds = f"{sum(of_day['seconds'].values()):,.0f}"
        rows.append([outcome, of_day.get("version") or of_day["day"], *values, seconds])
    head = ["outcome", "version or day", "served", "best simple", "two-tower", "seconds"]
    return Table(head=head, rows=rows, names=(0, 1))


def refresh(
    pipeline: PipelineFile,
    date: Date,
    version: Annotated[
        str | None,
        typer.Option(
            "--version",
            metavar="VERSION",
            help="The version with the towers to use. Default: the live version.",
        ),
    ] = None,
    promote: PromoteOption = "auto",
    force: Force = False,
    as_json: JsonLine = False,
) -> None:
    """Publish the live version with the catalogue as of the end of a day, without training.

    The live towers embed the items of the newest snapshot, and withdrawn items are removed.
    Popularity, co-occurrence and stored users include the day's events. The gate checks the index
    and how much of the catalogue changed. A day without logs and without a newer snapshot is
    refused, unless you give --promote yes.

    Exit code: 4 if the gate refused the version.
    """
    with last_line("refresh", as_json) as line:
        line["day"] = date
        run = DayRun(open_pipeline(pipeline), parse_date(date))
        line |= live_catalogue.refresh(run, force=force, promote=promote, version=version)
        tell_stage(line)
        tell_version(line)


def tell_stage(result: dict[str, Any]) -> None:
    """Prints that a stage is done, and how long it took."""
    console.print(
        f"[bold]{result['day']}[/] {result['stage']} [green]{result['status']}[/] in"
        f" {result['seconds']} s",
        markup=True,
    )


def tell_version(result: dict[str, Any]) -> None:
    """Prints whether the version is live, and the gate's notes."""
    for note in result.get("notes", []):
        say(f"{result['day']} gate: {note}")
    say(f"{result['version']} is {'' if result['live'] else 'published, and not '}live.")
