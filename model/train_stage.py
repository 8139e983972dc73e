"""The train stage: measure the parent on the new day, train on it, measure the result on users held
out of it.
"""

import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import tensorflow as tf
from rich.console import Console

from model.data.parent_inputs import unread
from model.evaluation import als_baseline
from model.evaluation.diagnostics import draw, pick_examples
from model.evaluation.evaluate import headline
from model.evaluation.evaluation_set import (
    CLICKS,
    DAY,
    HELD,
    HELD_CLICKS,
    EvaluationSet,
    day_evaluation_sets,
)
from model.evaluation.popularity_lift import lifts_after, measure_lift, popular_today
from model.evaluation.queries import SelectedRows, shares_after
from model.evaluation.ranked_lists import RankedLists
from model.evaluation.tower_lists import (
    Encoded,
    encode,
    labelled_clicks,
    load_both,
    metrics,
    rank_all,
)
from model.fusion_fitting.day_fusion import DayFusion
from model.fusion_fitting.source_lists import rank_co_occurrence, rank_near
from model.towers.auxiliary_head import LabelledClicks, check, measure_head
from model.training.tensorboard import write_events
from model.training.train import Trained, train_towers, write
from twinspire_core import storage
from twinspire_core.contracts import example_lists, feature_schema, model_bundle
from twinspire_core.contracts.day_metrics import AuxiliaryFigures, DayMetrics, FusionMeasures
from twinspire_core.contracts.fusion_file import FusionFile
from twinspire_core.contracts.measures import Measures
from twinspire_core.contracts.stage_context import StageContext
from twinspire_core.contracts.timings import TrainTimings
from twinspire_core.errors import UsageError
from twinspire_core.fusion.fuse import DEPTH, Fusion
from twinspire_core.sources.candidate_sources import CO_OCCURRENCE, CandidateSources

_FEATURES = (
    feature_schema.TRANSFORM,
    feature_schema.TRANSFORMED,
    feature_schema.EVALUATION,
    feature_schema.CORPUS_START,
)

MOST_BESIDE = 200_000
"""Items up to which the parent is measured while its child is trained: memory then holds the tables
of both.
"""


def run(ctx: StageContext) -> dict[str, Any]:
    """Runs the stage; twinspire_core/contracts/model_bundle.py says what it leaves under `ctx.out`.

    Raises:
      UsageError: today's shapes are not the parent's, the parent's state is gone, or the loss is no
      number.
      BadData: the features are not what the pipeline file declares.
    """
    _check(ctx)
    if ctx.pipeline.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    with tempfile.TemporaryDirectory() as scratch:
        parts = [
            *_FEATURES,
            storage.join(feature_schema.EXAMPLES, feature_schema.day_folder(ctx.day)),
        ]
        parts += [feature_schema.PASTS] if ctx.pipeline.evaluation.als else []
        parts += [feature_schema.CO_OCCURRENCE_START] if ctx.pipeline.mix.uses_co_occurrence else []
        features = _local(ctx.inputs["features"], parts, Path(scratch) / "features")
        parent = (
            _local(ctx.parent.home, [*model_bundle.TOWERS.values()], Path(scratch) / "parent")
            if ctx.parent
            else None
        )
        start = None
        if ctx.parent and ctx.mode == "incremental":
            state = _local(ctx.parent.train, (model_bundle.STATE,), Path(scratch) / "state")
            start = state / model_bundle.STATE
        out = Path(scratch) / "out" if storage.is_remote(ctx.out) else Path(ctx.out)
        measured, timings = _train(ctx, features, parent, start, out)
        measured.write(out)
        write_events(out / model_bundle.TENSORBOARD, measured)
        timings.write(out)
        if storage.is_remote(ctx.out):
            storage.upload_tree(out, ctx.out)
    return {**_summary(ctx, measured), **timings.model_dump()}


def _check(ctx: StageContext) -> None:
    if ctx.pipeline.evaluation.als:
        als_baseline.check()
    if ctx.mode == "full":
        return
    if ctx.parent and not storage.exists(storage.join(ctx.parent.train, model_bundle.STATE)):
        raise UsageError(
            f"A warm start needs its parent's training state; that of {ctx.parent.version} is no"
            f" longer at {ctx.parent.train}. Its working files were probably removed: train from"
            " scratch with --mode full."
        )


def _train(
    ctx: StageContext, features: Path, parent: Path | None, start: Path | None, out: Path
) -> tuple[DayMetrics, TrainTimings]:
    """Everything between local inputs and local outputs; returns the metrics and the timings."""
    ks, corpus = ctx.pipeline.evaluation.ks, _read(features / feature_schema.CORPUS_START)
    examples = _examples(ctx, features)
    asked = day_evaluation_sets(ctx, _evaluation(ctx, features), examples, corpus)
    # On one core the parent is measured while the other lays out the graphs
    beside = ThreadPoolExecutor(1)
    try:
        judging = beside.submit(_judge, ctx, parent, corpus, asked)
        if corpus.num_rows > MOST_BESIDE:
            judging.result()
        learned = train_towers(ctx, features, start)
        towers = write(ctx, learned, out)
        judged = judging.result()
    finally:
        # Whoever stops the stage is not kept waiting: its day has to be closed first
        beside.shutdown(wait=False)
    before = judged.lists
    held = {name: asked[name] for name in (HELD, HELD_CLICKS)}
    encoded = encode(towers, corpus, held)
    after = rank_all(encoded, held, max(*ks, DEPTH))
    examples_of_users = pick_examples(ctx.pipeline, asked[HELD], after[HELD], corpus)
    (out / example_lists.FILE).write_bytes(example_lists.dump(examples_of_users))
    together = (
        _read(features / feature_schema.CO_OCCURRENCE_START)
        if ctx.pipeline.mix.uses_co_occurrence
        else None
    )
    nominators = CandidateSources.of(corpus, together)
    near = {name: rank_near(nominators, asked[name], max(*ks, DEPTH)) for name in (DAY, HELD)}
    others = _others(ctx, features, asked, corpus, near if together is not None else {}, nominators)
    events = examples.narrow
    trained = events.filter(pc.invert(events.column("_holdout")))
    lift = measure_lift(
        ctx,
        asked[HELD],
        after[HELD],
        popular_today(asked[HELD], corpus, trained.column("_item")),
    )
    quality = metrics(asked, before, after, others, ks, lift)
    fusion = DayFusion(
        ctx=ctx,
        corpus=corpus,
        nominators=nominators,
        asked=asked,
        before=before,
        after=after,
        inherited=_inherited(ctx),
        near=near,
    )
    vectors = (encoded.queries(HELD), encoded.items)
    popular, frequency = draw(
        ctx.pipeline,
        asked[HELD],
        vectors,
        after[HELD].kept,
        corpus,
        events,
        learned.frequency,
    )
    measured = DayMetrics(
        progressive=quality.progressive,
        baselines=quality.baselines,
        holdout=quality.holdout,
        next_click=quality.next_click,
        train=learned.figures(),
        leads=lifts_after(ctx, lift),
        mix=_mix(fusion, out),
        parent_unread=judged.unread,
        held_out_shares=shares_after(ctx, learned.days),
        gaps=[gap.told(ctx.pipeline.name) for gap in ctx.gaps],
        auxiliary=_auxiliary(learned, judged.clicks, _labelled(ctx, asked, HELD_CLICKS, encoded)),
        popularity=popular,
        frequency=frequency,
    )
    return measured, learned.timings()


class _Judged(NamedTuple):
    """What the parent makes of the day, on which it was never trained.

    Attributes:
      lists: by exam.
      clicks: that its head is measured on.
      unread: features that are missing for it.
    """

    lists: Mapping[str, RankedLists] = MappingProxyType({})
    clicks: LabelledClicks | None = None
    unread: Sequence[str] = ()


def _judge(
    ctx: StageContext, parent: Path | None, corpus: pa.Table, asked: Mapping[str, EvaluationSet]
) -> _Judged:
    if parent is None:
        return _Judged()
    towers = load_both(parent)
    seen = encode(towers, corpus, asked)
    return _Judged(
        lists=rank_all(seen, asked, max(*ctx.pipeline.evaluation.ks, DEPTH)),
        clicks=_labelled(ctx, asked, CLICKS, seen),
        unread=unread({side: tower.inputs for side, tower in towers.items()}, ctx.pipeline),
    )


def _mix(mixing: DayFusion, out: Path) -> FusionMeasures:
    """Writes the day's mix, if there is one; its figures and its parent's."""
    mix = mixing.fit()
    if mix:
        (out / FusionFile.FILE).write_bytes(mix.dump())
    return mixing.figures(mix)


def _inherited(ctx: StageContext) -> Fusion | None:
    place = storage.join(ctx.parent.home, FusionFile.FILE) if ctx.parent else None
    return Fusion.parse(storage.read_bytes(place)) if place and storage.exists(place) else None


def _others(
    ctx: StageContext,
    features: Path,
    asked: Mapping[str, EvaluationSet],
    corpus: pa.Table,
    near: Mapping[str, RankedLists],
    nominators: CandidateSources,
) -> dict[str, dict[str, RankedLists]]:
    """Further lists that the two-tower is held against, by exam."""
    others: dict[str, dict[str, RankedLists]] = {DAY: {}, HELD: {}}
    if ctx.pipeline.evaluation.als:
        others[DAY][als_baseline.ALS] = _als(ctx, features, asked[DAY], corpus)
    k = max(ctx.pipeline.evaluation.ks)
    for name, lists in near.items():
        # Earlier days' answers were paired meanwhile
        if set(asked[name].queries["_day"].to_pylist()) <= {ctx.day}:
            others[name][CO_OCCURRENCE] = rank_co_occurrence(nominators, asked[name], k, lists)
    return others


def _als(ctx: StageContext, features: Path, day: EvaluationSet, corpus: pa.Table) -> RankedLists:
    k, dimension, pasts = (
        max(ctx.pipeline.evaluation.ks),
        ctx.pipeline.train.dimension,
        _read(features / feature_schema.PASTS),
    )
    Console(stderr=True).print(f"Factorising what {pasts.num_rows:,} users had before the day")
    return als_baseline.rank_als(
        pasts, day, day.queries.column("_user"), corpus.column("_item"), k, dimension
    )


def _labelled(
    ctx: StageContext, asked: Mapping[str, EvaluationSet], name: str, encoded: Encoded
) -> LabelledClicks | None:
    """The clicks of an exam that a head is measured on, if there is one."""
    return (
        labelled_clicks(asked[name], name, encoded) if ctx.pipeline.train.auxiliary.weight else None
    )


def _auxiliary(
    learned: Trained, before: LabelledClicks | None, held: LabelledClicks | None
) -> AuxiliaryFigures | None:
    head, inherited, trained = learned.model.head, learned.inherited, learned.auxiliary()
    if head is None or trained is None or held is None:
        return None
    progressive = measure_head(inherited, before) if inherited and before else None
    return AuxiliaryFigures(**trained, progressive=progressive, holdout=measure_head(head, held))


def _evaluation(ctx: StageContext, features: Path) -> SelectedRows:
    kind, narrow = (
        feature_schema.evaluation_schema(ctx.pipeline),
        ["_user", "_day", "_holdout", "_past_events"],
    )
    return SelectedRows(
        features / feature_schema.EVALUATION, narrow, kind.names, kind.empty_table()
    )


def _examples(ctx: StageContext, features: Path) -> SelectedRows:
    """The day's examples, without what is known of the items; none if there are none."""
    kind, folder = (
        feature_schema.example_schema(ctx.pipeline),
        features / feature_schema.EXAMPLES / feature_schema.day_folder(ctx.day),
    )
    auxiliary, label = (
        ctx.pipeline.train.auxiliary,
        [feature_schema.LABEL] if ctx.pipeline.train.auxiliary.weight else [],
    )
    narrow = ["_user", "_item", "_time", "_holdout", *label]
    columns = [column.name for column in feature_schema.query_columns(ctx.pipeline)]
    found = SelectedRows(folder, narrow, [*narrow, *columns], kind.empty_table())
    if label:
        labels = found.narrow.column(feature_schema.LABEL).to_numpy()
        check(labels, auxiliary.loss, ctx.pipeline.columns.label, str(ctx.day))
    return found


def _read(folder: Path, columns: list[str] | None = None) -> pa.Table:
    return ds.dataset(folder, format="parquet").to_table(columns=columns)


def _local(uri: str, names: Sequence[str], folder: Path) -> Path:
    """The place itself, or the folders named downloaded from it."""
    if not storage.is_remote(uri):
        return Path(uri)
    for name in names:
        storage.localize(storage.join(uri, name), folder / name)
    return folder


def _summary(ctx: StageContext, measured: DayMetrics) -> dict[str, Any]:
    def short(measures: Measures | None) -> dict[str, float] | None:
        if measures is None:
            return None
        shown = headline(measures.values, ctx.pipeline.evaluation.ks)
        return {name: round(value, 5) for name, value in shown.items()}

    train, held = measured.train, measured.holdout
    return {
        "rows": train.rows,
        "steps": train.steps,
        "loss": train.loss[-1][1] if train.loss else None,
        "progressive": short(measured.progressive),
        "holdout": {
            "users": held.users,
            "candidate": short(held.candidate),
            "baseline": short(held.baseline),
        },
    }
