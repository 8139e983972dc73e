"""The train stage: measures the parent on the new day, trains on the day, and measures the result
on users who were held out of it.
"""

import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from model.evaluation.day_data import HELD_OUT, DayData, read_day
from model.evaluation.diagnostics import pick_examples
from model.evaluation.evaluate import headline
from model.evaluation.tower_lists import Towers
from model.evaluation.version_evaluation import (
    EarlierVersions,
    ParentEvaluation,
    evaluate_before_last_day,
    evaluate_best,
    evaluate_parent,
    evaluate_version,
)
from model.measure_day import list_depth, measure_day
from model.training.tensorboard import write_events
from model.training.train import Trained, train_towers, write
from twinspire_core import storage
from twinspire_core.contracts import example_lists, feature_schema, model_bundle
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.contracts.measures import Measures
from twinspire_core.contracts.stage_context import StageContext
from twinspire_core.errors import UsageError
from twinspire_core.sources.registry import tables_of

MAX_ITEMS_BESIDE = 200_000
"""Items up to which the parent is measured while its child is trained: memory then holds the tables
of both.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    """Local folders that the stage reads.

    Attributes:
      features: attempt of the features stage.
      parent: holds the parent's towers; None without a parent.
      best: holds the towers of the best accepted version; None where that is the parent.
      state: training state to start from; None to train from scratch.
    """

    features: Path
    parent: Path | None
    best: Path | None
    state: Path | None


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
        inputs = _fetch_inputs(ctx, Path(scratch))
        out = Path(scratch) / "out" if storage.is_remote(ctx.out) else Path(ctx.out)
        day = read_day(ctx, inputs.features)
        if ctx.parent is None:
            before, trained, towers = _train_first_version(ctx, inputs, day, out)
        else:
            before, trained, towers = _train_beside_earlier_versions(ctx, inputs, day, out)
        version = evaluate_version(towers, day, list_depth(ctx))
        examples = pick_examples(
            ctx.pipeline, day.evaluation_sets[HELD_OUT], version.lists[HELD_OUT], day.corpus
        )
        timings = trained.timings()
        metrics = measure_day(ctx, inputs.features, day, before, trained, version, out)
        (out / example_lists.FILE).write_bytes(example_lists.dump(examples))
        metrics.write(out)
        write_events(out / model_bundle.TENSORBOARD, metrics)
        timings.write(out)
        if storage.is_remote(ctx.out):
            storage.upload_tree(out, ctx.out)
    return {**_summary(ctx, metrics), **timings.model_dump()}


def _check(ctx: StageContext) -> None:
    """Refuses, before anything costly, what could not end well."""
    if ctx.mode == "full" or ctx.parent is None:
        return
    if not model_bundle.has_state(ctx.parent.train):
        raise UsageError(
            f"A warm start needs its parent's training state; that of {ctx.parent.version} is no"
            f" longer at {ctx.parent.train}. Its working files were probably removed: train from"
            " scratch with --mode full."
        )


def _fetch_inputs(ctx: StageContext, scratch: Path) -> _Inputs:
    """Finds the stage's inputs; what is remote is downloaded first."""
    folders = [
        feature_schema.TRANSFORM,
        feature_schema.TRANSFORMED,
        feature_schema.EVALUATION,
        feature_schema.CORPUS_START,
        storage.join(feature_schema.EXAMPLES, feature_schema.day_folder(ctx.day)),
    ]
    for name in tables_of(ctx.pipeline.mix.sources):
        folders.append(storage.join(name, feature_schema.AT_START))
    parent = None
    state = None
    if ctx.parent:
        parent = _local(ctx.parent.home, [*model_bundle.TOWERS.values()], scratch / "parent")
        if ctx.mode == "incremental":
            attempt = _local(ctx.parent.train, [model_bundle.STATE], scratch / "state")
            state = attempt / model_bundle.STATE
    best = None
    if ctx.besides:
        best = _local(ctx.besides.home, [*model_bundle.TOWERS.values()], scratch / "best")
    return _Inputs(
        features=_local(ctx.inputs["features"], folders, scratch / "features"),
        parent=parent,
        best=best,
        state=state,
    )


def _local(uri: str, names: Sequence[str], folder: Path) -> Path:
    """The place itself if it is local; else `folder`, with the named parts downloaded into it."""
    if not storage.is_remote(uri):
        return Path(uri)
    for name in names:
        storage.localize(storage.join(uri, name), folder / name)
    return folder


def _train_beside_earlier_versions(
    ctx: StageContext, inputs: _Inputs, day: DayData, out: Path
) -> tuple[EarlierVersions, Trained, Towers]:
    """Trains the day, and writes the towers and the state, while the parent and the best accepted
    version are measured.

    Building the graph of a training step keeps one core busy; those have the others.
    """
    thread = ThreadPoolExecutor(1)
    try:
        evaluation = thread.submit(_evaluate_earlier_versions, ctx, inputs, day)
        if day.corpus.num_rows > MAX_ITEMS_BESIDE:
            evaluation.result()
        trained = train_towers(ctx, inputs.features, inputs.state)
        towers = write(ctx, trained, out)
        before = evaluation.result()
    finally:
        # Whoever stops the stage must not wait for the measurement: the day's lease is to be
        # released first.
        thread.shutdown(wait=False)
    return before, trained, towers


def _evaluate_earlier_versions(ctx: StageContext, inputs: _Inputs, day: DayData) -> EarlierVersions:
    """One after the other, so that memory holds the towers of one of them."""
    parent = evaluate_parent(ctx.pipeline, inputs.parent, day, list_depth(ctx))
    best = evaluate_best(ctx.pipeline, inputs.best, day, max(ctx.pipeline.evaluation.ks))
    return EarlierVersions(parent=parent, best=best)


def _train_first_version(
    ctx: StageContext, inputs: _Inputs, day: DayData, out: Path
) -> tuple[EarlierVersions, Trained, Towers]:
    """Trains the window and writes the towers and the state; measures on the window's last day what
    was trained before that day.

    The last day is trained on meanwhile.
    """
    thread = ThreadPoolExecutor(1)
    evaluations: list[Future[ParentEvaluation]] = []

    def measure(towers: Towers) -> None:
        depth = list_depth(ctx)
        evaluation = thread.submit(evaluate_before_last_day, ctx.pipeline, towers, day, depth)
        evaluations.append(evaluation)
        if day.corpus.num_rows > MAX_ITEMS_BESIDE:
            evaluation.result()

    try:
        trained = train_towers(ctx, inputs.features, inputs.state, measure)
        written = write(ctx, trained, out)
        # In a window of one day nothing was trained before it.
        before = evaluations[0].result() if evaluations else ParentEvaluation()
        return EarlierVersions(parent=before), trained, written
    finally:
        thread.shutdown(wait=False)


def _summary(ctx: StageContext, metrics: DayMetrics) -> dict[str, Any]:
    """What the last line of the stage's output says."""

    def short(measures: Measures | None) -> dict[str, float] | None:
        if measures is None:
            return None
        shown = headline(measures.values, ctx.pipeline.evaluation.ks)
        return {name: round(value, 5) for name, value in shown.items()}

    losses = metrics.train.loss
    return {
        "rows": metrics.train.rows,
        "steps": metrics.train.steps,
        "loss": losses[-1][1] if losses else None,
        "progressive": short(metrics.progressive),
        "holdout": {
            "users": metrics.holdout.users,
            "candidate": short(metrics.holdout.candidate),
            "baseline": short(metrics.holdout.baseline),
        },
    }
