"""Brings the catalogue of the live version up to date between trainings: `twinspire refresh`.

A refresh of day D is a function of the pipeline file, D, the logs and snapshots up to D, and of the
version whose towers it takes: the trained one, however often that was refreshed before. What it
makes is a version of that one's day, so that days go on from each other as if it had never been.
docs/decisions/0025-refresh.md
"""

import time
from dataclasses import replace
from datetime import date
from typing import Any, NamedTuple

from rich.console import Console

from index_builder.registry.registry import Registry
from twinspire.runs.cache_keys import DEFAULTS, config_digest, digest, stage_key
from twinspire.runs.lineage import find_start_of_refresh, is_kept, is_live
from twinspire.runs.runner import raise_if_refused
from twinspire.runs.stages import REFRESH
from twinspire_core import storage
from twinspire_core.blocked_imports import block_tensorflow_extras
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.contracts.attempts import Attempt
from twinspire_core.contracts.manifest import Manifest
from twinspire_core.contracts.stage_context import Promote, StageContext
from twinspire_core.errors import UsageError
from twinspire_core.messages import format_message
from twinspire_core.native_stderr import suppress_native_stderr

console = Console(stderr=True, highlight=False, markup=False)


class _Towers(NamedTuple):
    """Where the towers come from.

    Attributes:
      trained: the version that they were trained for.
      holder: the stored version that has them: that one, or where it was pruned a refresh of it.
      live: the trained version whose towers are live.
    """

    trained: str
    holder: Manifest
    live: str


def refresh(
    pipeline: Pipeline,
    day: date,
    *,
    force: bool = False,
    promote: Promote = "auto",
    version: str | None = None,
) -> dict[str, Any]:
    """Publishes the live version's towers with the catalogue as of the end of a day, or finds that
    done.

    Args:
      pipeline: whose.
      day: events up to it count, and the items are those of the newest snapshot at or before it.
      force: do it again.
      promote: as for a version that is trained.
      version: whose towers to take; by default the live version's.

    Returns:
      The summary: `new`, `changed`, `withdrawn` and `reused` items, what the index and the gate
      measured, the version.

    Raises:
      GateRefused: the version was stored, and is not live. TryAgain: other towers went live
      meanwhile. UsageError: the day or the features are not those of the towers. BadData: a
      snapshot, or the version, is damaged.
    """
    from beam_jobs.ingest import day_files

    started, registry = time.monotonic(), Registry(pipeline.registry.root, pipeline.name)
    towers = _towers(registry, version)
    _check(pipeline, day, towers.holder)
    config = config_digest(pipeline, REFRESH)
    key = stage_key(
        REFRESH,
        day=str(day),
        config=config,
        trained=towers.trained,
        holder=towers.holder.version,
        promote=promote,
        source=digest(day_files.fingerprint(pipeline, day, "catalogue")),
        **_late(pipeline, day),
    )
    done = attempts.latest(pipeline, day, REFRESH.name)
    fresh = (
        force or done is None or done.key != key or not is_kept(pipeline, done.summary["version"])
    )
    if fresh or done is None:  # the second for the type checker
        registry.verify(towers.holder.version)
        done = _make(pipeline, day, towers, promote, key=key, config=config)
    raise_if_refused(done)
    made = done.summary["version"]
    if registry.state().fate.get(made) == "rolled back":
        again = format_message(f'twinspire promote PIPELINE {made} --despite-gate "REASON"')
        console.print(f"{made} was rolled back and stays so. To make it live again: {again}")
    return {
        "stage": REFRESH.name,
        "day": str(day),
        "status": "done" if fresh else "already done",
        "attempt": done.uri,
        "seconds": round(time.monotonic() - started, 1),
        **done.summary,
        "live": is_live(pipeline, made),
    }


def catch_up(pipeline: Pipeline, version: str) -> dict[str, Any]:
    """Gives a version that was trained the live version's catalogue, if only an older one keeps it
    from going live.

    What was withdrawn since its day would come back otherwise.

    Returns:
      What is to be told instead of the version's publication; empty when there is nothing to do.
    """
    state = Registry(pipeline.registry.root, pipeline.name).state()
    if state.live is None or version not in state.accepted or state.behind(version) != "catalogue":
        return {}
    day = state.corpus_date(state.live)
    console.print(
        f"{version} has an older catalogue than {state.live}: its towers go live with that of"
        f" {day}."
    )
    told = refresh(pipeline, day, version=version)
    return {"trained": version, "version": told["version"], "live": told["live"], "refresh": told}


def _towers(registry: Registry, version: str | None) -> _Towers:
    """Finds the towers.

    Raises:
      UsageError: nothing is live, or the version is not one that a day may inherit from.
    """
    state, live = registry.state(), registry.find()
    wanted = registry.find(version) if version else live
    if wanted not in state.accepted:
        raise UsageError(
            f"A refresh takes the towers of an accepted version; {wanted} was {state.fate[wanted]}."
            " Name another one, or leave --version out for the live one."
        )
    trained = state.trained(wanted)
    holder = wanted if trained in state.pruned else trained
    return _Towers(trained, registry.manifest(holder), state.trained(live))


def _check(pipeline: Pipeline, day: date, holder: Manifest) -> None:
    """Raises UsageError if the towers were trained later than the day, or take other features than
    the file has.
    """
    if day < holder.date:
        raise UsageError(
            f"A refresh is of a day that its towers have seen, or of a later one; {holder.version}"
            f" was trained up to {holder.date}, and asked for is {day}. To go back to an earlier"
            " version: twinspire rollback PIPELINE"
        )
    now, then = (
        _features(tables.get("features", {})) for tables in (pipeline.model_dump(), holder.settings)
    )
    changed = sorted(name for name in {*now, *then} if now.get(name) != then.get(name))
    if changed and holder.settings:
        raise UsageError(
            f"A refresh gives towers the features that they were trained with; {', '.join(changed)}"
            f" changed since {holder.version} was. Train a day with the new pipeline file:"
            f" twinspire run PIPELINE --date {day}"
        )


def _late(pipeline: Pipeline, day: date) -> dict[str, str]:
    """Late events count in a catalogue, and no later day goes on from it: with others it is made
    again.
    """
    from beam_jobs.ingest import later_folders

    came = later_folders.look(pipeline, day) if pipeline.source.late_days else None
    return {"late": came.digest_of_all} if came and came.digest_of_all else {}


def _features(table: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {
        name: tuple(feature.get(key) for key in ("kind", "tower", "days"))
        for name, feature in table.items()
    }


def _make(
    pipeline: Pipeline, day: date, towers: _Towers, promote: Promote, *, key: str, config: str
) -> Attempt:
    """Catalogue, vectors, index, version: each step in a folder of the one attempt, committed when
    all is done.
    """
    out = attempts.begin(pipeline, day, REFRESH.name)
    holder = towers.holder
    home = storage.join(pipeline.registry.root, pipeline.name, "versions", holder.version)
    inputs = {"train": home}

    def context(step: str) -> StageContext:
        place = storage.join(out, step) if step else out
        found = StageContext(
            pipeline=pipeline,
            day=day,
            mode="incremental",
            out=place,
            inputs=dict(inputs),
            promote=promote,
        )
        if step:
            inputs[step] = place
        return found

    # Beam's, which only remote workers need
    clouds = () if pipeline.beam.options else ("google.cloud",)
    with suppress_native_stderr(), block_tensorflow_extras(*clouds):  # TensorFlow greets at length
        from beam_jobs import embed_stage
        from beam_jobs.embedding.reused_vectors import KnownVectors
        from beam_jobs.features.raw_features_job import write_catalogue
        from index_builder import index_stage, refresh_stage
        from twinspire_core.contracts import feature_schema
    write_catalogue(context("features"))
    corpus = storage.join(
        attempts.place(pipeline, holder.sources["features"]), feature_schema.CORPUS_END
    )
    embedded = embed_stage.run(
        context("embed"), KnownVectors(corpus, storage.join(home, "vectors"))
    )
    changes = {name: embedded[name] for name in ("new", "changed", "withdrawn", "reused")}
    start = find_start_of_refresh(pipeline, holder.version, day, key)
    indexed = index_stage.run(replace(context("index"), start=start))
    published = refresh_stage.run(context(""), holder, towers.trained, towers.live, changes)
    attempt = Attempt(
        uri=out,
        key=key,
        config=config,
        output=published["version"],
        mode="incremental",
        parent=towers.trained,
        inputs={},
        summary={"trained": towers.trained, **changes, "index": indexed, **published},
        defaults=DEFAULTS,
    )
    attempts.commit(attempt)
    return attempt
