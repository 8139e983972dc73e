"""The state of each day (`status`, `summary`), the check of the live version, and `notify`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from index_builder.registry.version_log import version_date
from twinspire.cli.day_steps import DayOption, Instant
from twinspire.cli.shared import (
    STATES,
    AsJson,
    Date,
    JsonLine,
    PipelineFile,
    days_between,
    end_with_json,
    last_line,
    open_pipeline,
    parse_date,
    print_json,
    resolve_day,
    say,
    terminal_table,
)
from twinspire.runs import notifications, run_leases
from twinspire.runs.day_status import DayStatus, day_statuses
from twinspire.runs.stages import REFRESH, STAGES
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.display.quality_tables import quality_table
from twinspire_core.display.table import Cell, Table
from twinspire_core.errors import (
    TwinspireError,
    Unwell,
    UsageError,
    format_message,
    with_full_stop,
)
from twinspire_core.terminal import console, doing, out

if TYPE_CHECKING:
    from twinspire_core.display.served_figure import ServedFigure


_MOST = 30


def status(
    pipeline: PipelineFile,
    first: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="DATE",
            help=f"The first day. Default: {_MOST} days before the newest day that was run.",
        ),
    ] = None,
    last: Annotated[
        str | None,
        typer.Option("--to", metavar="DATE", help="The last day. Default: the newest day."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Check the live version instead: its age (registry.max_age) and its lists.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the days with their state, their size on disk, and the command that helps.

    A *stale* day would give another result now, because its logs or the pipeline file have
    changed, late events have arrived, or an earlier missing day was run. A *missing* day has
    logs but was never run.

    With --check the command loads the live version and makes lists with it; no server is needed.
    The check fails if a list is empty, or if more than half of the users get the same list. If the
    check fails, the command runs notify.command.

    Exit codes of --check: 5 if something is wrong, 99 if no version is live yet.
    """
    if check:
        if first or last:
            raise UsageError("--check looks at the live version only: leave out --from and --to.")
        _check(pipeline, as_json)
        return
    p = open_pipeline(pipeline)
    start = parse_date(first) if first else None
    end = parse_date(last) if last else None
    if first and last:
        days_between(first, last)
    days = []
    with doing("looking at the days") as update:
        for day in day_statuses(p, start, end, most=_MOST):
            update(f"looking at the days: {day.day}")
            days.append(day)
    if as_json:
        print_json({"pipeline": p.name, "days": [_as_json(day) for day in days]})
        return
    if not days:
        between = " between these days" if start or end else ""
        out.print(f"{p.name} has no logs and no working files{between} yet.", soft_wrap=True)
        return
    rows = list(stretches(days))
    cells = [_cells(row) for row in rows]
    table = Table(head=["day", "state", "version", "MB"], rows=cells, names=(0, 1, 2))
    out.print(terminal_table(table))
    for row in rows:
        if text := _sentence(row):
            out.print(text, soft_wrap=True)
    work, partials, versions = (
        sum(getattr(day, name) for day in days) / 1e6
        for name in ("work_bytes", "partial_bytes", "version_bytes")
    )
    out.print(
        f"On disk: {work:,.0f} MB of working files, {partials:,.1f} MB of caches of logs (partials),"
        f" {versions:,.0f} MB of versions. To see what can be deleted:"
        f" {format_message('twinspire prune PIPELINE')}",
        soft_wrap=True,
    )


def _check(file: str, as_json: bool) -> None:
    with last_line("status", as_json) as line:
        p = open_pipeline(file)
        with doing("checking the live version"):
            from serving.answers.live_check import check_live, live_version

            line["version"] = live = live_version(p)
            checks = check_live(p, live)
        line["checks"] = [{"passed": not check.problem, "text": check.text} for check in checks]
        for check in checks:
            if not check.problem:
                say(f"Passed: {check.text}.")
        problems = [check for check in checks if check.problem]
        if problems:
            reason = "\n".join(
                f"{with_full_stop(one.text)} {one.remedy}: {one.command}" for one in problems
            )
            notifications.notify(
                p,
                "unwell",
                version_date(live),
                reason,
                stage="status",
                exit_code=Unwell.exit_code,
                command="twinspire status PIPELINE --check",
            )
            raise Unwell(reason)
        line["status"] = "well"


def needing_attention(pipeline: Pipeline, day: date) -> list[dict[str, Any]]:
    """Prints the days of the week up to `day` that need attention, and returns them for JSON."""
    # Days before the first one that was run do not count
    first = min(attempts.days(pipeline), default=day)
    week = day_statuses(pipeline, max(first, day - timedelta(days=6)), day)
    days = [status for status in week if status.remedy() and status.state != "under way"]
    for row in stretches(days):
        console.print(_sentence(row), soft_wrap=True)
    return [_as_json(status) for status in days]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Days in a row with the same state, reason and version."""

    days: Sequence[DayStatus]

    @property
    def name(self) -> str:
        """The day, or the first and the last."""
        if len(self.days) == 1:
            return str(self.days[0].day)
        return f"{self.days[0].day} to {self.days[-1].day}"

    def remedy(self) -> str:
        """The command that helps all of them."""
        first, last = self.days[0], self.days[-1]
        if first is last:
            return first.remedy()
        return first.remedy().replace(f"--date {first.day}", f"--from {first.day} --to {last.day}")


def stretches(days: Sequence[DayStatus]) -> Iterator[Stretch]:
    """Groups days, which come oldest first."""
    # In days that follow each other, the date minus the position in the list stays the same
    groups = groupby(
        enumerate(days),
        lambda pair: (
            pair[1].day.toordinal() - pair[0],
            pair[1].state,
            pair[1].reason,
            pair[1].version,
        ),
    )
    for _, group in groups:
        yield Stretch([day for _, day in group])


def _cells(row: Stretch) -> list[str | Cell]:
    one = row.days[0]
    size = sum(day.work_bytes + day.partial_bytes + day.version_bytes for day in row.days) / 1e6
    state = "live" if one.live and one.state == "published" else one.state
    return [
        row.name,
        Cell(state, STATES.get(state)),
        one.version or "",
        f"{size:,.1f}" if size else "",
    ]


def _sentence(row: Stretch) -> str:
    """The reason for the days' state and the command that helps; empty if there is neither."""
    parts = [format_message(row.days[0].reason), format_message(row.remedy())]
    text = " ".join(part for part in parts if part)
    return f"{row.name} {row.days[0].state}: {text}" if text else ""


def _as_json(one: DayStatus) -> dict[str, Any]:
    return {
        "day": str(one.day),
        "state": one.state,
        "reason": format_message(one.reason),
        "version": one.version,
        "live": one.live,
        "late_events": one.late_events,
        "work_bytes": one.work_bytes,
        "version_bytes": one.version_bytes,
        "partial_bytes": one.partial_bytes,
        "command": format_message(one.remedy()),
    }


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
    reason = ""
    if result["state"] == "skipped":
        # The recorded reason begins with the name of the stage
        reason = result["reason"] = run_leases.last_reason(p, chosen).partition(": ")[2]
    if measure := newest["measure"]:
        published = newest["publish"].summary if newest["publish"] else {}
        figure = _tell_quality(p, chosen, DayMetrics.read(measure.uri), published.get("version"))
        result["served"] = figure.as_json() if figure else None
    result["attention"] = needing_attention(p, chosen)
    version = result["stages"].get("publish", {}).get("version")
    made = f", version {version}" if version else ""
    state = f"{chosen}: {result['state'] or 'not run yet'}{made}"
    say(f"{state}. {reason}" if reason else state)
    end_with_json(result, as_json)


def _tell_quality(
    pipeline: Pipeline, day: date, metrics: DayMetrics, version: str | None
) -> "ServedFigure | None":
    """Prints how good the lists were that were served on a day, then everything that was measured.

    Args:
      version: the day's version; None before it is published.
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


def notify(
    pipeline: PipelineFile,
    date: DayOption = None,
    instant: Instant = None,
    event: Annotated[
        str, typer.Option(metavar="EVENT", help="What has happened, for example failed.")
    ] = "test",
    stage: Annotated[
        str | None, typer.Option(metavar="NAME", help="The stage or task in which it happened.")
    ] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why it happened.")] = (
        "This is a test."
    ),
    as_json: JsonLine = False,
) -> None:
    """Run notify.command of the pipeline file. Without options, this is a test of the command.

    Stages run notify.command themselves when a day fails, is refused, is late or leaves a gap. A
    killed stage cannot do this, so the scheduler runs `twinspire notify` for it.
    """
    p = open_pipeline(pipeline)
    if not p.notify.command:
        raise UsageError(
            "notify.command is not set in the pipeline file; set it to send notifications."
        )
    day = resolve_day(p, date, instant)
    again = f"twinspire run PIPELINE --date {day}"
    ended_well = notifications.notify(p, event, day, reason, stage=stage, command=again)
    end_with_json({"day": str(day), "event": event, "told": ended_well}, as_json)
    if not ended_well:
        raise TwinspireError("notify.command failed; standard error says why.")
    say("notify.command succeeded.")
