"""From a features attempt to trained towers: builds them, warm-starts them or not, and trains
the days.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from model.data import negative_corpus, training_rows
from model.data.negative_corpus import NegativeCorpus
from model.item_fingerprint import fingerprint
from model.losses.sampling_probability import StreamingFrequency
from model.towers.auxiliary_head import Head
from model.towers.design import design
from model.towers.export import export
from model.towers.transform_module import Transform, transforms, vocabularies
from model.towers.two_tower import TwoTower
from model.training import checkpoint, loop
from model.training.checkpoint import TableState, TrainingState
from model.training.first_version import towers_before_last_day
from model.training.loop import LoopResult, run_training
from model.training.training_days import day_folders, days_in_parts, earlier_days
from model.training.untrained_rows import zero_untrained_rows
from model.training.warm_start import warm_start
from twinspire_core.config.tables.training import TrainConfig
from twinspire_core.contracts import feature_schema, model_bundle
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.day_metrics import TrainingFigures
from twinspire_core.contracts.model_bundle import Tower
from twinspire_core.contracts.trained_day import TrainTimings
from twinspire_core.storage import parquet_files
from twinspire_core.terminal import console

WARM_EPOCHS = 1
"""Passes over the day when training goes on: more fit its few users at everybody's cost."""
MAX_ARCHIVED_ROWS = 1_000_000
"""The most rows kept per table for ids that have left the vocabulary, in case they come back."""

HASHES = 2
"""Independent hash functions, each with an array: an item is wrong only where both its buckets are shared
(section 3 of the paper).
"""
LEAST_INITIAL_GAP = 100_000
"""The fewest rows between two hits that are assumed of an item that was hit once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """Trained towers, with what the next day's training starts from.

    Attributes:
      model: the towers.
      transforms: what turns raw features into the towers', by side.
      frequency: the frequency estimate.
      archive: rows of ids that have left the vocabulary, by table.
      result: what the loop did.
      days: the days trained on.
      inherited_head: the auxiliary head as the parent left it, or as it was before the last day of
        a first version; None without a head, or without either.
      warning: what to say of training that was over too soon, or of a frequency estimate that is
        too small; None if there is nothing to say.
    """

    model: TwoTower
    transforms: Mapping[str, Transform]
    frequency: StreamingFrequency
    archive: Mapping[str, TableState]
    result: LoopResult
    days: Sequence[date]
    inherited_head: Head | None
    warning: str | None

    def figures(self) -> TrainingFigures:
        """What metrics.json says of training."""
        return TrainingFigures(
            first_day=str(self.days[0]),
            last_day=str(self.days[-1]),
            days=len(self.days),
            rows=self.result.rows,
            steps=self.result.steps,
            loss=self.result.curve,
            warning=self.warning,
            tables={name: spec.rows for name, spec in self.model.architecture.tables.items()},
        )

    def auxiliary(self) -> dict[str, Any] | None:
        """What metrics.json says of how the auxiliary head was trained; None without a head."""
        head = self.model.head
        if head is None:
            return None
        return {
            "labels": self.result.labels,
            "mean": head.seen.mean,
            "curve": self.result.auxiliary,
        }

    def timings(self) -> TrainTimings:
        """What timings.json says of training."""
        return TrainTimings(
            training_seconds=round(self.result.seconds, 2),
            examples_per_second=round(self.result.rate),
        )


def train_towers(
    ctx: StageContext,
    features: Path,
    parent: Path | None,
    measure: Callable[[Mapping[str, Tower]], None] | None = None,
) -> Trained:
    """Trains on the days of a features attempt.

    Args:
      ctx: says which days, and with which settings.
      features: local folder of the attempt.
      parent: local folder of the training state to start from; None starts from scratch.
      measure: of a first version: called with its towers as they are before the last day is trained
        on, which then comes after all others (model/training/training_days.py). Not called where
        there is but one day.
    """
    settings = ctx.pipeline.train
    state = checkpoint.load(parent) if parent else None
    if state:
        settings = settings.model_copy(update={"epochs": WARM_EPOCHS})
    towers_transforms = transforms(features / feature_schema.TRANSFORM, ctx.pipeline)
    # Fresh weights, for today's features and vocabularies; a parent's overwrite them below.
    tokens = vocabularies(features / feature_schema.TRANSFORM, ctx.pipeline)
    widths = state.widths if state else None
    model = TwoTower(design(ctx.pipeline, tokens, widths), settings.seed)
    folders = day_folders(ctx, features / feature_schema.TRANSFORMED)
    frequency = _frequency_estimate(settings, folders, state, features)
    archive = _inherit(model, state, ctx.day, settings)
    # Copied before training: it is to be measured on the day as the parent left it.
    inherited_head = model.head.copy() if state and model.head else None
    corpus = _negative_corpus(settings, features, towers_transforms["item"], model)
    days, last = days_in_parts(ctx, folders, model.architecture, last_apart=measure is not None)

    def measure_before_last_day() -> None:
        nonlocal inherited_head
        inherited_head = model.head.copy() if model.head else None
        if measure:
            before = earlier_days(folders, ctx.day)
            measure(towers_before_last_day(model, towers_transforms, ctx.pipeline, before))

    with loop.shown(len(folders)) as report:
        result = run_training(
            model,
            frequency,
            days,
            settings,
            corpus=corpus,
            step=state.step if state else 0,
            report=report,
            last=last,
            before_last=measure_before_last_day,
        )
    # Rows of an inherited table were given their meaning by the training that started it.
    fresh_tables = [name for name in model.tables if not state or name not in state.tables]
    zero_untrained_rows(model, settings.seed, fresh_tables)
    return Trained(
        model=model,
        transforms=towers_transforms,
        frequency=frequency,
        archive=archive,
        result=result,
        days=list(folders),
        inherited_head=inherited_head,
        warning=_warn(result, settings, frequency),
    )


def _inherit(
    model: TwoTower, state: TrainingState | None, day: date, settings: TrainConfig
) -> Mapping[str, TableState]:
    """Goes on from the parent's weights, if there is a parent; rows of ids that have left, by table."""
    if state is None:
        return {}
    return warm_start(model, state, day=day, keep=MAX_ARCHIVED_ROWS, slot_decay=settings.slot_decay)


def _frequency_estimate(
    settings: TrainConfig, folders: Mapping[date, Path], state: TrainingState | None, features: Path
) -> StreamingFrequency:
    """The frequency estimate, which goes on from the parent's."""
    # An item that was hit once is assumed to come once a day.
    rows = sum(training_rows.count(folder) for folder in folders.values())
    frequency = StreamingFrequency(
        buckets=settings.frequency.buckets,
        hashes=HASHES,
        alpha=settings.frequency.alpha,
        initial_gap=float(max(LEAST_INITIAL_GAP, rows // len(folders))),
    )
    if state is None or settings.correction == "none":
        return frequency
    if frequency.fits(state.frequency):
        frequency.restore(state.frequency)
    else:
        corpus = str(features / feature_schema.CORPUS_START)
        items = parquet_files.read_folder(corpus, ["_item"])["_item"]
        frequency.adopt(state.frequency, fingerprint(items))
    return frequency


def _negative_corpus(
    settings: TrainConfig, features: Path, transform: Transform, model: TwoTower
) -> NegativeCorpus | None:
    if not settings.negatives.uniform:
        return None
    folder = features / feature_schema.CORPUS_START
    return negative_corpus.read(folder, transform, model.architecture.columns["item"])


def _warn(result: LoopResult, settings: TrainConfig, frequency: StreamingFrequency) -> str | None:
    """Prints the warnings of this training. Returns them as one text; None if there are none."""
    checked = (loop.few_steps(result, settings), loop.full_buckets(frequency))
    warnings = [warning for warning in checked if warning]
    for warning in warnings:
        console.print(f"Warning: {warning}", soft_wrap=True)
    return " ".join(warnings) or None


def write(ctx: StageContext, trained: Trained, out: Path) -> dict[str, Tower]:
    """Writes both towers and the training state into a local folder; returns the towers by side, from
    memory.
    """
    towers = {
        side: export(trained.model, trained.transforms[side], side, out / name)
        for side, name in model_bundle.TOWERS.items()
    }
    state = checkpoint.capture(
        trained.model,
        trained.frequency.state(),
        day=ctx.day,
        step=trained.result.step,
        archive=trained.archive,
    )
    checkpoint.save(state, out / model_bundle.STATE)
    return towers
