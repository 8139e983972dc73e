"""Changes to published versions: `promote` and `rollback` choose the live one, `pin` and `prune` which are
kept.
"""

import time
from collections.abc import Collection, Iterator
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Annotated

import typer

from index_builder.registry.parents import parent_of
from index_builder.registry.registry import Registry, prunable, unpublished
from index_builder.registry.version_log import State, version_date
from twinspire.cli.shared import (
    JsonLine,
    PipelineFile,
    end_with_json,
    open_pipeline,
    say,
)
from twinspire.runs import run_leases
from twinspire.runs.day_run import DayRun
from twinspire.runs.mlflow_tracking import record_in_mlflow
from twinspire.runs.stages import MEASURE, REFRESH, STAGES, TRAIN
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.contracts.day_metrics import DayMetrics

# Seconds without a new file after which a publication was certainly killed: it takes minutes
_ABANDONED = 24 * 3600
# How long a backfill may pause between two days. The next day goes on from the version of the last
_FILLING_IN = timedelta(days=1)
VersionArgument = Annotated[
    str,
    typer.Argument(
        metavar="VERSION",
        help="A version's id, the beginning of its id, or its day if that has only one version.",
    ),
]
Reason = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="The reason, for the log of versions."),
]


def registry_of(pipeline: Pipeline) -> Registry:
    """The registry that a pipeline publishes to."""
    return Registry(pipeline.registry.root, pipeline.name)


def promote(
    pipeline: PipelineFile,
    version: VersionArgument,
    despite_gate: Annotated[
        str | None,
        typer.Option(
            "--despite-gate",
            metavar="REASON",
            help="Make the version live although it was refused or rolled back, for this reason.",
        ),
    ] = None,
    reason: Reason = None,
    as_json: JsonLine = False,
) -> None:
    """Make a stored version live."""
    p = open_pipeline(pipeline)
    registry = registry_of(p)
    why = despite_gate or reason or "promoted by hand"
    chosen = registry.find(version, to_change=True)
    entry = registry.promote(chosen, reason=why, despite_gate=despite_gate is not None)
    record_in_mlflow(p)
    say(f"{entry.version} is live.")
    end_with_json(entry.model_dump(mode="json"), as_json)


def rollback(
    pipeline: PipelineFile,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="VERSION",
            help="The version to go back to: its id, the beginning of its id, or its day if that has only"
            " one version. Default: the version that was live before.",
        ),
    ] = None,
    reason: Reason = None,
    as_json: JsonLine = False,
) -> None:
    """Go back to an earlier version. Later days do not continue from rolled-back versions."""
    p = open_pipeline(pipeline)
    registry = registry_of(p)
    before = registry.live()
    target = registry.find(to, to_change=True) if to else None
    entry = registry.rollback(target, reason=reason or "rolled back by hand")
    undone = ", ".join(entry.rolled_back) or "none"
    record_in_mlflow(p)
    say(f"{entry.version} is live instead of {before}. Rolled back: {undone}.")
    end_with_json(entry.model_dump(mode="json"), as_json)


def pin(
    pipeline: PipelineFile,
    version: VersionArgument,
    remove: Annotated[bool, typer.Option("--remove", help="Unpin the version.")] = False,
    as_json: JsonLine = False,
) -> None:
    """Pin a version, so that `prune` never deletes it."""
    registry = registry_of(open_pipeline(pipeline))
    chosen = registry.find(version, to_change=True)
    registry.pin(chosen, remove=remove)
    say(f"{chosen} {'is no longer pinned' if remove else 'is pinned: prune keeps it'}.")
    end_with_json({"version": chosen, "pinned": not remove}, as_json)


def prune(
    pipeline: PipelineFile,
    keep: Annotated[
        int | None,
        typer.Option(help="Newest versions to keep. Default: registry.keep_versions.", min=0),
    ] = None,
    keep_days: Annotated[
        int | None,
        typer.Option(help="Newest days to keep. Default: registry.keep_days.", min=0),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete. Without --yes, only list what would be deleted.")
    ] = False,
    as_json: JsonLine = False,
) -> None:
    """Delete old versions and working files. Without --yes, only list what would be deleted.

    Days are counted back from the newest day that was run. These are never deleted: the live
    version; pinned versions; the best accepted version of the last 30 days; the training state of
    kept versions; files of running jobs; the newest version of a backfill, for one day.

    Files of killed publications are deleted after a day. Caches of logs are deleted when no lookback
    window needs them.
    """
    p = open_pipeline(pipeline)
    registry = registry_of(p)
    today = datetime.now(p.zone).date()
    as_of = _day_to_come(p, registry, today)
    keep = p.registry.keep_versions if keep is None else keep
    keep_days = p.registry.keep_days if keep_days is None else keep_days
    old = prunable(registry, keep=keep, keep_days=keep_days, as_of=as_of)
    kept = [one.version for one in registry.statuses() if one.stored and one.version not in old]
    in_use = versions_in_use(p, kept, today, datetime.now(p.zone) - _FILLING_IN)
    old = [version for version in old if version not in in_use]
    # Training files stay as long as the versions that were made from them, however old they are
    files = unused_working_files(p, _needed(p, registry, old), keep_days=keep_days, as_of=as_of)
    # The same moment for listing and for deleting, so that nothing else is deleted than was listed
    before = time.time() - _ABANDONED
    abandoned = unpublished(registry, before=before)
    partials_to_delete = _old_partials(p)
    listed = [*old, *abandoned, *files, *partials_to_delete]
    for place in listed:
        say(f"{'deleting' if yes else 'would delete'} {place}")
    if yes:
        # Versions last: their deletion is logged first, and a full disk may have no room for an entry before
        for uri in partials_to_delete:
            storage.delete_tree(uri)
        for uri in files:
            attempts.delete(uri)
        for version in abandoned:
            registry.discard(version, before=before)
        for version in old:
            registry.delete(version)
    if not listed:
        say("Nothing is old enough to be deleted.")
    elif not yes:
        say("Nothing was deleted. To delete what is listed, add --yes.")
    result = {
        "deleted": yes,
        "versions": old,
        "unpublished": abandoned,
        "working_files": files,
        "partials": partials_to_delete,
    }
    end_with_json(result, as_json)


def _day_to_come(pipeline: Pipeline, registry: Registry, today: date) -> date:
    """The day from which days are counted back: the one after the newest that was run or has a version."""
    made = [one.corpus_date for one in registry.statuses() if one.stored]
    days = reversed(attempts.days(pipeline))
    run = next((day for day in days if attempts.was_run(pipeline, day)), None)
    newest = max([*made, *([run] if run else [])], default=today)
    # Never later than today: a folder of a future day, by a wrong clock, would have all others deleted
    return min(today, newest + timedelta(days=1))


def _old_partials(pipeline: Pipeline) -> list[str]:
    """Folders of partials of days before the longest window of the newest day with logs."""
    from beam_jobs import day_plan
    from beam_jobs.ingest import day_files

    newest = day_files.SnapshotDays(pipeline, "events").at(date.max)
    if newest is None:
        return []  # without logs no window says what is old
    first = day_plan.make_plan(pipeline, newest, "full", replays=True).first
    folder = attempts.partials_folder(pipeline)
    return [
        storage.join(folder, f"dt={day}") for day in attempts.partials_by_day(folder) if day < first
    ]


def _needed(pipeline: Pipeline, registry: Registry, pruned: list[str]) -> set[str]:
    """Working files from which kept versions were made, or the next day will be made."""
    stored = [status.version for status in registry.statuses() if status.stored]
    manifests = [registry.manifest(version) for version in stored if version not in pruned]
    newest = registry.accepted_before(date.max)  # the next day goes on from it
    if newest:
        manifests.append(newest)
    stages = (TRAIN.name, MEASURE.name)
    return {attempts.place(pipeline, one.sources[name]) for one in manifests for name in stages}


def unused_working_files(
    pipeline: Pipeline, needed: set[str], *, keep_days: int, as_of: date
) -> list[str]:
    """Attempts that may be deleted. Of days older than `keep_days` without an open run, these are all. Of
    other days, these are the attempts that a newer one replaced and from which no newest one was made.

    Args:
      needed: URIs of attempts that must stay whatever their age.
      as_of: the day that days are counted back from.

    Returns: URIs of attempt folders.
    """
    unused: list[str] = []
    for day in attempts.days(pipeline):
        # A backfill may be making an old day at this moment
        under_way = run_leases.state(pipeline, day) == "open"
        is_old = (as_of - day).days > keep_days and not under_way
        # Read before folders are listed, so that an attempt committed in between is not deleted
        newest = {s: attempts.latest(pipeline, day, s) for s in (*STAGES, REFRESH.name)}
        inputs = {name for last in newest.values() if last for name in last.inputs.values()}
        kept = needed if is_old else needed | {attempts.place(pipeline, name) for name in inputs}
        for stage, last in newest.items():
            home = storage.join(attempts.day_uri(pipeline, day), stage)
            uris = [storage.join(home, name) for name in storage.list_names(home)]
            if not is_old:
                # Attempts after the newest committed one may still be written to
                uris = uris[: uris.index(last.uri)] if last else []
            unused += [uri for uri in uris if uri not in kept]
    return unused


def versions_in_use(
    pipeline: Pipeline, kept: Collection[str], today: date, since: datetime
) -> set[str]:
    """Versions that other days still need.

    These are the best accepted versions before the next day, before today, and before old days that a
    backfill is running; the parents of such old days; and the versions against which kept ones were
    measured: without them the days of the kept ones would be stale.

    Args:
      kept: versions that stay, whatever this function returns.
      since: a backfill that ran an old day later than this may still run the next one.
    """
    run = DayRun(pipeline, today)
    metrics = (DayMetrics.find(run.registry.folder(version)) for version in kept)
    needed = {one.best.version for one in metrics if one and one.best and one.best.measures}
    newest = parent_of(run.state, date.max)
    if newest:
        under_way = (
            day for day in attempts.days(pipeline) if run_leases.state(pipeline, day) == "open"
        )
        filled_in = {*under_way, *_days_to_come(run.state, since)}
        days = {version_date(newest) + timedelta(days=1), today, *filled_in}
        needed |= {best.version for day in days if (best := run.of_day(day).best())}
        parents = (parent_of(run.state, day) for day in filled_in)
        needed |= {version for version in parents if version}
    return needed


def _days_to_come(state: State, since: datetime) -> Iterator[date]:
    """Days that a backfill may run next: those after old days that were run since then, unless a later
    day was run after them.
    """
    # Leases do not show them: between two of its days, no run of a backfill is open
    trained = [version for version in state.by_day() if version not in state.refreshes]
    place = {version: n for n, version in enumerate(state.accepted)}
    for version, later in pairwise(trained):
        if place[version] > place[later] and state.last[version].at >= since:
            yield version_date(version) + timedelta(days=1)
