"""Brings the catalogue of the live version up to date between trainings: `twinspire refresh`.

A refresh of day D is a function of the pipeline file, D, the logs and snapshots up to D, and of the
version whose towers it takes: the trained one, however often that was refreshed before. What it
makes is a version of that one's day, so that days go on from each other as if it had never been.
docs/decisions/0025-between-trainings.md
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

from index_builder.registry.versions import find_version
from twinspire.runs.cache_keys import config_digest, digest, stage_key
from twinspire.runs.day_run import DayRun
from twinspire.runs.index_start import find_start_of_refresh
from twinspire.runs.stage_tasks import StageTask, source_digests
from twinspire.runs.stages import REFRESH, StageFunction
from twinspire_core import storage
from twinspire_core.config.feature_kinds import KINDS
from twinspire_core.contracts import attempts, partials
from twinspire_core.contracts.artifact import Manifest
from twinspire_core.contracts.attempts import Promote, Reuse, StageContext
from twinspire_core.errors import GateRefused, UsageError

if TYPE_CHECKING:
    from beam_jobs.ingest.day_files import Table

_CHANGES = ("new", "changed", "withdrawn", "reused")


class Towers(NamedTuple):
    """Where the towers come from.

    Attributes:
      trained: the version that they were trained for.
      holder: the stored version that has them: that one, or where it was pruned a refresh of it.
      live: the trained version whose towers are live.
    """

    trained: str
    holder: Manifest
    live: str


def plan_refresh(
    run: DayRun,
    version: str | None,
    promote: Promote,
    *,
    reuse: bool = True,
    unasked: bool = False,
) -> StageTask:
    """Finds what a refresh is made from.

    Args:
      run: of the catalogue's day; its log has just been read.
      version: whose towers to take; by default the live version's.
      reuse: whether what earlier runs made of logs is used, and added to.
      unasked: whether it follows a refused day, and nobody asked for it.

    Raises:
      UsageError: nothing is live, the version is not one that a day may inherit from, or the day or
        the features are not those of the towers.
      GateRefused: the day brings nothing new, and `promote` is not `yes`.
    """
    towers = _find_towers(run, version)
    _check_day(run, towers.holder)
    if promote != "yes" and not unasked:
        _check_news(run)
    _check_features(run, towers.holder)
    digests = source_digests(run, "served")
    facts: dict[str, Any] = {
        "day": str(run.day),
        "trained": towers.trained,
        "holder": towers.holder.version,
        "promote": promote,
        "source": digest(digests),
    }
    # Late events count in a catalogue, and no later day goes on from it: with others it is made
    # again.
    if late := _late_events(run):
        facts["late"] = late
    if unasked:
        facts["unasked"] = True  # it is judged more strictly
    return StageTask(
        stage=REFRESH,
        facts=facts,
        context=StageContext(
            pipeline=run.pipeline,
            day=run.day,
            mode="incremental",
            out="",
            promote=promote,
            reuse=Reuse(partials=partials.place(run.pipeline), digests=digests) if reuse else None,
        ),
        load=lambda: _load(run, towers, facts),
        parent=towers.trained,
    )


def _find_towers(run: DayRun, version: str | None) -> Towers:
    state = run.state
    live = state.live or run.registry.find()  # which says that there is none
    wanted = live
    if version:
        wanted = find_version(version, state, run.pipeline.name)
    if wanted not in state.accepted:
        raise UsageError(
            f"A refresh takes the towers of an accepted version; {wanted} was {state.fate[wanted]}."
            " Name another one, or leave --version out for the live one."
        )
    # Always the version that was trained, so that a refresh of a refresh is one of the same towers.
    trained = state.trained(wanted)
    holder = wanted if trained in state.pruned else trained
    return Towers(trained, run.registry.usable(holder), state.trained(live))


def _check_day(run: DayRun, holder: Manifest) -> None:
    if run.day < holder.date:
        raise UsageError(
            f"A refresh is of a day that its towers have seen, or of a later one; {holder.version}"
            f" was trained up to {holder.date}, and asked for is {run.day}. To go back to an"
            " earlier version: twinspire rollback PIPELINE"
        )


def _check_news(run: DayRun) -> None:
    """Refuses a day later than the live catalogue's that has neither logs nor a newer snapshot: windows
    would move on without it, until nothing is counted in them.
    """
    live = str(run.state.live)
    catalogue = run.state.corpus_date(live)
    if run.day <= catalogue:
        return
    logs = _newest(run, "events", catalogue)
    if logs == run.day or _newest(run, "items", catalogue) or _newest(run, "users", catalogue):
        return
    remedy = f"Refresh {logs}, the newest day with logs" if logs else ""
    raise GateRefused(
        f"A refresh takes up logs or snapshots that are newer than the live catalogue, which is of"
        f" {catalogue}; {run.day} has no logs, and no snapshot is newer. {live} stays live."
        f" {remedy or 'Wait for the logs'}, or overrule this with --promote yes."
    )


def _newest(run: DayRun, table: "Table", after: date) -> date | None:
    """The newest day after another, up to the run's, of which a table has any rows."""
    from beam_jobs.ingest import day_files

    p = run.pipeline
    for day in reversed(day_files.folder_days(p, table)):
        files = day_files.files(p, table, day) if after < day <= run.day else ()
        # One file after the other: the first with rows is enough.
        if any(day_files.count_rows(p.source.format, [file]) for file in files):
            return day
    return None


_TOWERS = {kind: getattr(model, "tower", None) for kind, model in KINDS.items()}
"""The tower of kinds that are always in the same one."""


def _check_features(run: DayRun, holder: Manifest) -> None:
    """The towers read the features that they were trained with, and no others."""
    if not holder.settings:
        return  # published before versions carried the pipeline file
    now = _features(run.pipeline.model_dump())
    then = _features(holder.settings)
    changed = sorted(name for name in {*now, *then} if now.get(name) != then.get(name))
    if changed:
        raise UsageError(
            f"A refresh gives towers the features that they were trained with; {', '.join(changed)}"
            f" changed since {holder.version} was. Train a day with the new pipeline file:"
            f" twinspire run PIPELINE --date {run.day}"
        )


def _features(tables: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """What of a pipeline file's features makes a tower's input another one."""
    return {
        name: (
            feature["kind"],
            feature.get("tower", _TOWERS.get(feature["kind"])),
            feature.get("days"),
        )
        for name, feature in tables.get("features", {}).items()
    }


def _late_events(run: DayRun) -> str:
    """Digest of the late events of all days that the catalogue counts; empty without any."""
    from beam_jobs.ingest import later_folders

    if not run.pipeline.source.late_days:
        return ""
    return later_folders.look(run.pipeline, run.day).digest_of_all


def _load(run: DayRun, towers: Towers, facts: Mapping[str, Any]) -> StageFunction:
    """Imports what the steps of a refresh need. What it returns raises BadData where the version
    whose towers are taken is damaged.
    """
    holder = towers.holder
    from beam_jobs import embed_stage
    from beam_jobs.embedding.corpus_ranges import KnownVectors
    from beam_jobs.features.raw_features_job import write_served
    from beam_jobs.validation import drift
    from index_builder import index_stage, refresh_stage
    from twinspire_core.contracts import feature_schema

    def make(whole: StageContext) -> dict[str, Any]:
        # Not while importing, when Google's library is blocked: versions may lie on `gs://`.
        run.registry.verify(holder.version)
        home = run.registry.folder(holder.version)
        # A version holds all of these stages that later steps read
        inputs = {"train": home, "measure": home}

        def step(name: str) -> StageContext:
            """One that writes to a folder of its own in the attempt, and reads those before it."""
            context = replace(whole, out=storage.join(whole.out, name), inputs=dict(inputs))
            inputs[name] = context.out
            return context

        write_served(step("features"))
        features = attempts.place(run.pipeline, holder.sources["features"])
        # The catalogue is later than what the towers were trained on.
        far = drift.measure_skew(run.pipeline, inputs["features"], trained=features)
        known = KnownVectors(
            storage.join(features, feature_schema.CORPUS_END), storage.join(home, "vectors")
        )
        # Items whose features are as they were keep their vectors, bit for bit.
        embedded = embed_stage.run(step("embed"), known)
        changes = {name: embedded[name] for name in _CHANGES}
        run.read_log()  # embedding takes its time, and versions may have been rolled back meanwhile
        key = stage_key(REFRESH, config=config_digest(run.pipeline, REFRESH), **facts)
        start = find_start_of_refresh(run, holder.version, key)
        indexed = index_stage.run(replace(step("index"), start=start))
        version = replace(whole, inputs=inputs)
        refreshed = refresh_stage.Refreshed(
            before=holder,
            trained=towers.trained,
            live=towers.live,
            changes=changes,
            skew=far,
            unasked="unasked" in facts,
        )
        published = refresh_stage.run(version, refreshed)
        return {"trained": towers.trained, **changes, "index": indexed, **published}

    return make
