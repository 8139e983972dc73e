"""Changes to published versions: which one is live (`promote`, `rollback`), which are kept (`pin`, `prune`)."""

import time
from collections.abc import Collection, Iterable, Iterator
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Annotated

import typer

from index_builder.registry.parents import parent_of
from index_builder.registry.registry import Registry, prunable, unpublished
from index_builder.registry.version_log import State, version_date
from twinspire.cli.options import JsonLine, PipelineFile, open_pipeline
from twinspire.cli.output import end_with_json, say
from twinspire.runs import run_leases
from twinspire.runs.day_run import DayRun
from twinspire.runs.stages import MEASURE, REFRESH, STAGES, TRAIN
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts, partials
from twinspire_core.contracts.day_metrics import DayMetrics

_ABANDONED = 24 * 3600
"""Seconds since the last file was written, after which a publication has ended: it takes minutes.
"""
_FILLING_IN = timedelta(days=1)
"""How long after an old day was run the one after it may be begun, which goes on from its version."""
VersionArgument = Annotated[
    str,
    typer.Argument(metavar="VERSION", help="Id, a beginning of it, or a day that has one version."),
]
Reason = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Why; kept in the log.")
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
            help="Overrule the gate, or a rollback, and say why.",
        ),
    ] = None,
    reason: Reason = None,
    as_json: JsonLine = False,
) -> None:
    """Make a stored version live."""
    registry = registry_of(open_pipeline(pipeline))
    why = despite_gate or reason or "promoted by hand"
    chosen = registry.find(version, to_change=True)
    entry = registry.promote(chosen, reason=why, despite_gate=despite_gate is not None)
    say(f"{entry.version} is live.")
    end_with_json(entry.model_dump(mode="json"), as_json)


def rollback(
    pipeline: PipelineFile,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="VERSION",
            help="Id, a beginning of it, or a day that has one version; by default the one live before.",
        ),
    ] = None,
    reason: Reason = None,
    as_json: JsonLine = False,
) -> None:
    """Go back to an earlier version; later days do not go on from those rolled back."""
    registry = registry_of(open_pipeline(pipeline))
    before = registry.live()
    target = registry.find(to, to_change=True) if to else None
    entry = registry.rollback(target, reason=reason or "rolled back by hand")
    undone = ", ".join(entry.rolled_back) or "none"
    say(f"{entry.version} is live, {before} was. Not inherited from any more: {undone}.")
    end_with_json(entry.model_dump(mode="json"), as_json)


def pin(
    pipeline: PipelineFile,
    version: VersionArgument,
    remove: Annotated[bool, typer.Option("--remove", help="Unpin it.")] = False,
    as_json: JsonLine = False,
) -> None:
    """Keep a version from being pruned."""
    registry = registry_of(open_pipeline(pipeline))
    chosen = registry.find(version, to_change=True)
    registry.pin(chosen, remove=remove)
    say(f"{chosen} {'may be pruned again' if remove else 'is kept by prune'}.")
    end_with_json({"version": chosen, "pinned": not remove}, as_json)


def prune(
    pipeline: PipelineFile,
    keep: Annotated[
        int | None,
        typer.Option(help="Newest versions kept; registry.keep_versions by default.", min=0),
    ] = None,
    keep_days: Annotated[
        int | None, typer.Option(help="Days kept; registry.keep_days by default.", min=0)
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete. Without it, only say what would be deleted.")
    ] = False,
    as_json: JsonLine = False,
) -> None:
    """Delete old versions and working files; a dry run unless --yes.

    Days are counted back from the newest that was run. Never deleted: the live version; pinned
    versions; the best accepted version of the last 30 days; training state of kept versions; files of
    running jobs; a backfill's newest version, for one day.

    Leftovers of killed publications go once they are a day old, and caches of logs once no lookback
    window needs them.
    """
    p = open_pipeline(pipeline)
    registry = registry_of(p)
    today = datetime.now(p.zone).date()
    as_of = _day_to_come(p, registry, today)
    if keep is None:
        keep = p.registry.keep_versions
    if keep_days is None:
        keep_days = p.registry.keep_days
    old = prunable(registry, keep=keep, keep_days=keep_days, as_of=as_of)
    kept = [one.version for one in registry.statuses() if one.stored and one.version not in old]
    in_use = versions_in_use(p, kept, today, datetime.now(p.zone) - _FILLING_IN)
    old = [version for version in old if version not in in_use]
    # Training files stay as long as the versions made from them, however old they are
    needed = _needed(p, registry, old)
    files = unused_working_files(p, needed, keep_days=keep_days, as_of=as_of)
    # One time for both questions: what is abandoned now has to be so when it is deleted
    before = time.time() - _ABANDONED
    abandoned = unpublished(registry, before=before)
    forgotten = _old_partials(p)
    verb = "deleting" if yes else "would delete"
    for place in [*old, *abandoned, *files, *forgotten]:
        say(f"{verb} {place}")
    if yes:
        for version in old:
            registry.delete(version)
        for version in abandoned:
            registry.discard(version, before=before)
        delete_working_files(files)
        for place in forgotten:
            storage.delete_tree(place)
    if not [*old, *abandoned, *files, *forgotten]:
        say("Nothing is old enough to be deleted.")
    elif not yes:
        say("Nothing was deleted. To delete what is listed, add --yes.")
    told = {"versions": old, "unpublished": abandoned, "working_files": files}
    end_with_json({"deleted": yes, **told, "partials": forgotten}, as_json)


def _day_to_come(pipeline: Pipeline, registry: Registry, today: date) -> date:
    """The day from which days are counted back: the one after the newest that was run or has a version.

    It is never later than today: with a wrong clock, a folder of a future day would otherwise have all
    others deleted.
    """
    made = [one.corpus_date for one in registry.statuses() if one.stored]
    days = reversed(attempts.days(pipeline))
    run = next((day for day in days if attempts.was_run(pipeline, day)), None)
    newest = max([*made, *([run] if run else [])], default=today)
    return today if newest >= today else newest + timedelta(days=1)


def _old_partials(pipeline: Pipeline) -> list[str]:
    """Folders of partials of days before the longest window of the newest day with logs."""
    from beam_jobs import day_plan
    from beam_jobs.ingest import day_files

    newest = day_files.SnapshotDays(pipeline, "events").at(date.max)
    if newest is None:
        return []  # without logs nothing says what is old
    first = day_plan.make_plan(pipeline, newest, "full", replays=True).first
    folder = partials.place(pipeline)
    return [storage.join(folder, f"dt={day}") for day in partials.by_day(folder) if day < first]


def _needed(pipeline: Pipeline, registry: Registry, pruned: list[str]) -> set[str]:
    """Working files that kept versions, or the next day, are made from."""
    stored = [status.version for status in registry.statuses() if status.stored]
    manifests = [registry.manifest(version) for version in stored if version not in pruned]
    newest = registry.accepted_before(date.max)  # which the next day goes on from
    if newest:
        manifests.append(newest)
    stages = (TRAIN.name, MEASURE.name)
    return {attempts.place(pipeline, one.sources[name]) for one in manifests for name in stages}


def unused_working_files(
    pipeline: Pipeline, needed: set[str], *, keep_days: int, as_of: date
) -> list[str]:
    """Attempts that may be deleted: all of days older than `keep_days` without an open run; on other
    days, those that a newer committed attempt replaced and that no later stage's newest was made from.

    Args:
      needed: URIs of attempts that must stay whatever their age.
      as_of: the day that they are counted back from.

    Returns: URIs of attempt folders.
    """
    unused: list[str] = []
    for day in attempts.days(pipeline):
        # A backfill may be making an old day at this moment
        under_way = run_leases.state(pipeline, day) == run_leases.OPEN
        is_old = (as_of - day).days > keep_days and not under_way
        # Before folders are listed: attempts that are committed in between are not in the lists
        newest = {s: attempts.latest(pipeline, day, s) for s in (*STAGES, REFRESH.name)}
        inputs = {name for last in newest.values() if last for name in last.inputs.values()}
        kept = needed if is_old else needed | {attempts.place(pipeline, name) for name in inputs}
        for stage, last in newest.items():
            home = storage.join(attempts.day_uri(pipeline, day), stage)
            uris = [storage.join(home, name) for name in storage.list_names(home)]
            if not is_old:
                # Attempts after the newest committed one may still be written to.
                uris = uris[: uris.index(last.uri)] if last else []
            unused += [uri for uri in uris if uri not in kept]
    return unused


def delete_working_files(uris: Iterable[str]) -> None:
    """Deletes attempts: first the markers that make them visible, then their files."""
    for uri in uris:
        storage.delete_file(storage.join(uri, attempts.DONE))
        storage.delete_tree(uri)


def versions_in_use(
    pipeline: Pipeline, kept: Collection[str], today: date, since: datetime
) -> set[str]:
    """Versions that other days still need.

    These are the best accepted versions before the next day, before today, and before old days that
    are being filled in; the parents of such old days; and the versions that kept ones were measured
    against, without which the days of these would be run again.

    Args:
      kept: versions that stay, whatever this function returns.
      since: an old day that was run later than this may be followed by the next old day.
    """
    run = DayRun(pipeline, today)
    metrics = (DayMetrics.find(run.registry.folder(version)) for version in kept)
    needed = {one.best.version for one in metrics if one and one.best and one.best.measures}
    newest = parent_of(run.state, date.max)
    if newest:
        filled_in = {*_days_under_way(pipeline), *_days_to_come(run.state, since)}
        days = {version_date(newest) + timedelta(days=1), today, *filled_in}
        needed |= {best.version for day in days if (best := run.of_day(day).best())}
        parents = (parent_of(run.state, day) for day in filled_in)
        needed |= {version for version in parents if version}
    return needed


def _days_under_way(pipeline: Pipeline) -> list[date]:
    days = attempts.days(pipeline)
    return [day for day in days if run_leases.state(pipeline, day) == run_leases.OPEN]


def _days_to_come(state: State, since: datetime) -> Iterator[date]:
    """Days that a backfill may run next: those after old days that were run since then, unless a later
    day was run after them. Between two of its days nothing of a backfill is under way.
    """
    trained = [version for version in state.by_day() if version not in state.refreshes]
    place = {version: n for n, version in enumerate(state.accepted)}
    for version, later in pairwise(trained):
        if place[version] > place[later] and state.last[version].at >= since:
            yield version_date(version) + timedelta(days=1)
