"""A day's lists of every source, made before the day is trained on, and kept."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from beam_jobs.features.raw_features_job import write_raw
from benchmarks.quality.prepare import override
from benchmarks.sources.cases import ALL, K, Log
from model.evaluation.day_data import NEXT_DAY, DayData, read_day, read_table
from model.evaluation.source_lists import queries_with
from model.evaluation.tower_lists import load_both, rank_with_towers
from model.fusion_fitting.source_constants import ConstantsFit, constants_before
from twinspire.runs import stages
from twinspire_core.config.source_names import TWO_TOWER
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.source_constants import SourceConstants
from twinspire_core.contracts.stage_context import Parent, StageContext
from twinspire_core.fusion.fuse import DEPTH
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.registry import tables_of


def run_day(log: Log, n: int, *, towers: bool) -> None:
    """Lists of the n-th day, then its version, if there are towers; 0 is the day of the first
    version.
    """
    home = log.folder / "days" / str(n)
    if (home / "done").exists():
        return
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    mode = "full" if towers else "incremental"
    context: dict[str, Any] = {"day": log.first + timedelta(days=n), "mode": mode}
    before = None
    if n and towers:
        before = log.folder / "days" / str(n - 1) / "train"
        context["mode"] = "incremental"
        context["parent"] = Parent(
            day=log.first + timedelta(days=n - 1),
            version=str(n - 1),
            home=str(before),
            train=str(before),
        )
    mixed = override(log.p, {"mix.sources": ALL})
    features = home / "features"
    ctx = StageContext(**context, pipeline=mixed, out=str(features), inputs={})
    if towers:
        stages.FEATURES.load()(ctx)
    else:
        write_raw(ctx, lambda rows: None)  # without a transform graph, which only towers need
    _keep_lists(ctx, features, before, home)
    if towers:
        _train(log, context, home)
    shutil.rmtree(features)
    if before and n > 1:
        shutil.rmtree(before)
    (home / "done").touch()


def _train(log: Log, context: Mapping[str, Any], home: Path) -> None:
    # What the train stage itself would mix or rank is of no use here.
    unused = {"mix.sources": (), "ranking.enabled": False, "evaluation.resamples": 0}
    p = override(log.p, unused)
    inputs = {"features": str(home / "features")}
    stages.TRAIN.load()(StageContext(**context, pipeline=p, out=str(home / "train"), inputs=inputs))


def _keep_lists(ctx: StageContext, features: Path, towers: Path | None, home: Path) -> None:
    """Writes the day's lists, by the towers of the day before, and its constants for the days after."""
    place = home.parent / str(int(home.name) - 1) / SourceConstants.FILE
    inherited = SourceConstants()
    if place.exists():
        inherited = SourceConstants.parse(place.read_bytes())
    day = read_day(ctx, features)
    tables = {
        name: read_table(features / name / feature_schema.AT_START) for name in tables_of(ALL)
    }
    constants = constants_before(inherited, ALL)
    sources = CandidateSources.of(day.corpus, tables, constants)
    fit = ConstantsFit(
        sources=sources, names=ALL, inherited=inherited, day=ctx.day, k=K, min_users=100
    )
    fitted = fit.fit(day.evaluation_sets[NEXT_DAY])
    (home / SourceConstants.FILE).write_bytes(fitted.dump())
    _write_lists(day, sources, towers, home, constants)


def _write_lists(
    day: DayData,
    sources: CandidateSources,
    towers: Path | None,
    home: Path,
    constants: Mapping[str, str],
) -> None:
    asked = day.evaluation_sets[NEXT_DAY]
    known = {}
    if towers is not None:
        both = load_both(towers)
        known[TWO_TOWER] = rank_with_towers(both, day.corpus, {NEXT_DAY: asked}, DEPTH)[NEXT_DAY]
    # Without towers their lists are empty, which no weight makes longer.
    lists = sources.retrieve(ALL, queries_with(asked, known), DEPTH)
    np.savez_compressed(
        home / "lists.npz",
        user=np.array(asked.queries["_user"].to_pylist()),
        past_events=asked.past_events,
        headline=asked.headline,
        taken=asked.truth.values,
        taken_by=asked.truth.row,
        constants=json.dumps(dict(constants)),
        **{name: found.items.astype(np.int32) for name, found in lists.items()},
    )


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What is kept of a day."""

    user: np.ndarray
    past_events: np.ndarray
    headline: np.ndarray
    taken: Ragged
    lists: Mapping[str, np.ndarray]
    constants: Mapping[str, str]


def read_lists(log: Log, n: int) -> Kept:
    """The lists of the n-th day."""
    found = np.load(log.folder / "days" / str(n) / "lists.npz")
    return Kept(
        user=found["user"],
        past_events=found["past_events"],
        headline=found["headline"],
        taken=Ragged(found["taken"], found["taken_by"], len(found["user"])),
        lists={name: found[name].astype(np.int64) for name in ALL},
        constants=json.loads(str(found["constants"])),
    )
