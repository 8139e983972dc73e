"""Brings the live version's catalogue up to a day without training: a refresh.

A refresh is made when somebody types `twinspire refresh`, when a version is published whose catalogue
is older than the live one's, and when the gate refused a day.

A refresh of day D depends on the pipeline file, on D, on the logs and snapshots up to D, and on the
trained version whose towers it takes. It makes a version of that version's day. Later days therefore
go on from each other as if the refresh did not exist.
docs/decisions/0025-between-trainings.md
"""

import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

from index_builder.registry.version_log import version_date
from index_builder.registry.versions import find_version
from twinspire.runs.day_run import DayRun, find_start
from twinspire.runs.notifications import notify_of_error
from twinspire.runs.stage_tasks import StageTask, complete, is_current, source_digests
from twinspire.runs.stages import REFRESH, StageFunction, digest
from twinspire_core import storage
from twinspire_core.config.feature_kinds import KINDS
from twinspire_core.contracts import attempts
from twinspire_core.contracts.attempts import Promote, Reuse, StageContext
from twinspire_core.contracts.version_manifest import Manifest
from twinspire_core.errors import (
    GateRefused,
    RunnerFailed,
    TryAgain,
    TwinspireError,
    UsageError,
    format_message,
)
from twinspire_core.storage.disk import explain
from twinspire_core.terminal import console, doing

if TYPE_CHECKING:
    from beam_jobs.ingest.day_files import Table


def refresh(
    run: DayRun,
    *,
    force: bool = False,
    promote: Promote = "auto",
    version: str | None = None,
    unasked: bool = False,
) -> dict[str, Any]:
    """Publishes the live version's towers with the catalogue as of the end of a day, unless that is
    done.

    Args:
      run: of the day. Events up to it count. Items are those of the newest snapshot up to it.
      force: make it again even if it is done for the same inputs.
      promote: as for a version that is trained.
      version: the version whose towers to take; by default the live one.
      unasked: whether it follows a refused day and nobody asked for it. The gate is stricter then.

    Returns:
      The summary: `new` and `withdrawn` items, what the index and the gate
      measured, the version.

    Raises:
      GateRefused: the version was stored but does not go live; or the day brings nothing new, and
        nothing was made.
      TryAgain: other towers went live meanwhile.
      UsageError: the day or the features do not fit the towers.
      BadData: a snapshot, or the version, is damaged.
    """
    began = time.monotonic()
    run.read_log()
    try:
        task = plan_refresh(run, version, promote, unasked=unasked)
        with doing(f"{run.day} {REFRESH.name}"):
            result = complete(run, task, force=force, began=began)
    except Exception as error:
        cause = explain(error) or error
        if _needs_somebody(cause, unasked=unasked):
            notify_of_error(run.pipeline, run.day, REFRESH.name, cause)
        if cause is not error:
            raise cause from error
        raise
    made = result["version"]
    # Equal content is the same version, which may have been rolled back before.
    if run.state.fate.get(made) == "rolled back":
        again = format_message(f'twinspire promote PIPELINE {made} --despite-gate "REASON"')
        console.print(f"{made} was rolled back, and does not go live. To make it live: {again}")
    return result


def catch_up(run: DayRun, version: str) -> dict[str, Any]:
    """Gives a trained version the live version's catalogue, if only its older catalogue keeps it from
    going live.

    Args:
      run: of the version's day; its log has been read after the version was published.

    Returns:
      What replaces the version's publication in the summary; empty if there is nothing to do.
    """
    state = run.state
    # With its own, older catalogue, items that were withdrawn since would come back
    if state.live is None or version not in state.accepted or state.behind(version) != "catalogue":
        return {}
    day = state.corpus_date(state.live)
    console.print(
        f"{version} has an older catalogue than {state.live}: its towers go live with the catalogue"
        f" of {day}."
    )
    result = refresh(run.of_day(day), version=version)
    replaced = ("version", "live", "folder", "report")
    return {
        "trained": version,
        "refresh": result,
        **{key: result[key] for key in replaced if key in result},
    }


def follow(run: DayRun) -> str | None:
    """Gives the live version's towers the catalogue of a day whose own version the gate refused, so that
    the server knows the day's items and events. If that fails, the live version stays as it is.

    Args:
      run: of the refused day.

    Returns:
      The version that is live instead; None if there was nothing to do, or it failed.
    """
    live: str | None = None
    try:
        run.read_log()
        live = run.state.live
        if live is None or _has_catalogue(run, live):
            return None
        console.print(
            f"{live} gets the catalogue of {run.day}, and serves it until a later day is accepted."
        )
        result = refresh(run.of_day(run.day), unasked=True)
    except Exception as error:
        # Even a bug must not hide why the day was refused, which is the error that people must see
        if not isinstance(error, TwinspireError):
            traceback.print_exception(error)
        if isinstance(error, TryAgain | RunnerFailed):
            # A scheduler tries again before it notifies anybody, but nothing tries this again
            notify_of_error(run.pipeline, run.day, REFRESH.name, error)
        why = format_message(str(error) or type(error).__name__)
        console.print(f"{live or 'What is live'} keeps its catalogue: {why}", soft_wrap=True)
        return None
    return result["version"] if result["live"] else None


def _has_catalogue(run: DayRun, live: str) -> bool:
    """Whether the live version has a day's whole catalogue, or a later one."""
    corpus = run.state.corpus_date(live)
    if corpus != run.day or version_date(live) == run.day:
        return corpus >= run.day
    # It may have been refreshed during the day, before all of the day's logs had come
    made = attempts.latest(run.pipeline, run.day, REFRESH.name)
    if made is None or made.summary["version"] != live:
        return False
    tasks = (plan_refresh(run, None, "auto", unasked=unasked) for unasked in (False, True))
    return any(is_current(run, task, made) for task in tasks)


def _needs_somebody(error: BaseException, *, unasked: bool) -> bool:
    """Whether somebody is notified of an error that ended a refresh."""
    # A scheduler tries these again
    if isinstance(error, TryAgain | RunnerFailed):
        return False
    # There was a notification of the refused day already, and of changed features or an older refusal
    is_known = isinstance(error, UsageError) or (isinstance(error, GateRefused) and error.is_found)
    return not (unasked and is_known)


def plan_refresh(
    run: DayRun,
    version: str | None,
    promote: Promote,
    *,
    unasked: bool = False,
) -> StageTask:
    """Finds out what a refresh is made from. Its arguments are those of `refresh`.

    Raises:
      UsageError: nothing is live, the version was not accepted, or the day or the features do not fit
        the towers.
      GateRefused: the day brings nothing new, and `promote` is not `yes`.
    """
    trained, holder = _find_towers(run, version)
    # A day that the gate refused had logs, or it would have been skipped
    if promote != "yes" and not unasked:
        _check_news(run)
    _check_features(run, holder)
    digests = source_digests(run, "served")
    facts: dict[str, Any] = {
        "day": str(run.day),
        "trained": trained,
        "holder": holder.version,
        "promote": promote,
        "source": digest(digests),
    }
    # Late events count in a catalogue. No later day goes on from it, so they can make it stale
    if run.pipeline.source.late_days:
        from beam_jobs.ingest.day_files import later_files
        from beam_jobs.point_in_time import job

        later = later_files(run.pipeline, run.day)
        if late := job.find_late_events(run.pipeline, run.day, later).digest_of_all:
            facts["late"] = late
    if unasked:
        facts["unasked"] = True  # the gate judges it more strictly
    return StageTask(
        stage=REFRESH,
        facts=facts,
        context=StageContext(
            pipeline=run.pipeline,
            day=run.day,
            mode="incremental",
            out="",
            promote=promote,
            reuse=Reuse(partials=attempts.partials_folder(run.pipeline), digests=digests),
        ),
        load=lambda: _load(run, trained, holder, unasked=unasked),
        parent=trained,
    )


def _find_towers(run: DayRun, version: str | None) -> tuple[str, Manifest]:
    """The version that the towers of a refresh were trained for, and the stored version that has them: the
    same, or a refresh of it if that was pruned.
    """
    state = run.state
    live = state.live or run.registry.find()  # which raises the error that none is live
    wanted = find_version(version, state, run.pipeline.name) if version else live
    if wanted not in state.accepted:
        raise UsageError(
            f"A refresh needs the towers of an accepted version; {wanted} was {state.fate[wanted]}."
            " Name another version, or leave --version out to use the live one."
        )
    # Not `wanted`, so that a refresh of a refresh has the same towers
    trained = state.trained(wanted)
    holder = wanted if trained in state.pruned else trained
    stored = run.registry.usable(holder)
    if run.day < stored.date:
        raise UsageError(
            f"A refresh cannot be for a day before the training of its towers; {holder} was trained up"
            f" to {stored.date}; found {run.day}. Give a later --date. To go back to an earlier"
            " version: twinspire rollback PIPELINE"
        )
    return trained, stored


def _check_news(run: DayRun) -> None:
    """Refuses a day after the live catalogue's that has neither logs nor a newer snapshot."""
    live = str(run.state.live)
    catalogue = run.state.corpus_date(live)
    if run.day <= catalogue:
        return
    # Otherwise windows would move on over days without events, until they are empty
    logs = _newest(run, "events", catalogue)
    if logs == run.day or _newest(run, "items", catalogue) or _newest(run, "users", catalogue):
        return
    remedy = f"Refresh {logs}, the newest day with logs" if logs else "Wait for the logs"
    raise GateRefused(
        "A refresh needs logs or a snapshot newer than the live catalogue. The catalogue is of"
        f" {catalogue}; {run.day} has no logs, and no snapshot is newer. {live} stays live."
        f" {remedy}, or overrule this with --promote yes."
    )


def _newest(run: DayRun, table: "Table", after: date) -> date | None:
    """The newest day after `after`, and up to the run's, for which a table has rows."""
    from beam_jobs.ingest import day_files

    p = run.pipeline
    for day in reversed(day_files.folder_days(p, table)):
        files = day_files.files(p, table, day) if after < day <= run.day else ()
        # File by file, because the first one with rows is enough
        if any(day_files.count_rows(p.source.format, [file]) for file in files):
            return day
    return None


# The tower of feature kinds that belong to one tower only
_TOWERS = {kind: getattr(model, "tower", None) for kind, model in KINDS.items()}


def _check_features(run: DayRun, holder: Manifest) -> None:
    """Refuses other features than those that the towers were trained with."""
    now = _features(run.pipeline.model_dump())
    then = _features(holder.settings)
    changed = sorted(name for name in {*now, *then} if now.get(name) != then.get(name))
    if changed:
        raise UsageError(
            "A refresh needs the same features that its towers were trained with;"
            f" {', '.join(changed)} changed after {holder.version} was trained. Train a day with the"
            f" new pipeline file: twinspire run PIPELINE --date {run.day}"
        )


def _features(tables: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """By feature, the settings that decide what a tower reads."""
    return {
        name: (
            feature["kind"],
            feature.get("tower", _TOWERS.get(feature["kind"])),
            feature.get("days"),
        )
        for name, feature in tables.get("features", {}).items()
    }


def _load(run: DayRun, trained: str, holder: Manifest, *, unasked: bool) -> StageFunction:
    """Imports what the steps of a refresh need, and returns the function that makes the refresh."""
    from beam_jobs import embed_stage
    from beam_jobs.features_stage import write_served
    from beam_jobs.validation import drift
    from index_builder import index_stage, refresh_stage

    def make(whole: StageContext) -> dict[str, Any]:
        run.registry.verify(holder.version)
        home = run.registry.folder(holder.version)
        # A version holds everything that later steps read of these stages
        inputs = {"train": home, "measure": home}

        def step(name: str) -> StageContext:
            """The context of a step: its own folder, and those of the steps before it."""
            context = replace(whole, out=storage.join(whole.out, name), inputs=dict(inputs))
            inputs[name] = context.out
            return context

        write_served(step("features"))
        features = attempts.place(run.pipeline, holder.sources["features"])
        # The towers were trained on an older catalogue
        far = drift.measure_skew(run.pipeline, inputs["features"], trained=features)
        embed_stage.run(step("embed"))
        indexed = index_stage.run(replace(step("index"), start=find_start(run, holder.version)))
        published = refresh_stage.run(
            replace(whole, inputs=inputs),
            before=holder,
            trained=trained,
            live=run.state.trained(str(run.state.live)),
            skew=far,
            unasked=unasked,
        )
        return {"trained": trained, "index": indexed, **published}

    return make
