"""From a features attempt to trained towers: lays them out, warm-starts or not, trains the days,
writes the result.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds

from model.data import negative_corpus, training_rows
from model.data.training_rows import Rows
from model.item_fingerprint import fingerprint
from model.losses.sampling_probability import StreamingFrequency
from model.towers.architecture import Architecture, FeatureColumn, design
from model.towers.auxiliary_head import Head, check
from model.towers.export import export
from model.towers.transform_module import Transform, transforms, vocabularies
from model.towers.two_tower import TwoTower
from model.towers.untrained_rows import zero_untrained_rows
from model.training import checkpoint, progress
from model.training.checkpoint import State, TableState
from model.training.loop import LoopResult, run_training
from model.training.warm_start import warm_start
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.tables.training import TrainConfig
from twinspire_core.contracts import feature_schema, model_bundle
from twinspire_core.contracts.day_metrics import TrainingFigures
from twinspire_core.contracts.model_bundle import Tower
from twinspire_core.contracts.stage_context import StageContext
from twinspire_core.contracts.timings import TrainTimings
from twinspire_core.errors import BadData

ARCHIVED_ROWS = 1_000_000
"""The most rows kept per table for ids that have left, in case they come back."""

LEAST_GAP = 100_000
"""Examples between two hits that are assumed of an item met once, at the least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """Trained towers with what goes into the next day's start.

    Attributes:
      model: the towers.
      transforms: what turns raw features into theirs, by side.
      frequency: the frequency estimate.
      archive: rows of ids that have left, by table.
      learned: what training did.
      days: the days trained on.
      inherited: the auxiliary head as the parent left it; None without a parent or a head.
      warning: what to say of training that was over too soon, or of a frequency estimate that is
        too small.
    """

    model: TwoTower
    transforms: Mapping[str, Transform]
    frequency: StreamingFrequency
    archive: Mapping[str, TableState]
    learned: LoopResult
    days: Sequence[date]
    inherited: Head | None
    warning: str | None

    def figures(self) -> TrainingFigures:
        """What metrics.json tells of training."""
        learned = self.learned
        return TrainingFigures(
            first_day=str(self.days[0]),
            last_day=str(self.days[-1]),
            days=len(self.days),
            rows=learned.rows,
            steps=learned.steps,
            total_steps=learned.step,
            loss=learned.curve,
            warning=self.warning,
            tables={name: spec.rows for name, spec in self.model.layout.tables.items()},
        )

    def auxiliary(self) -> dict[str, Any] | None:
        """What metrics.json tells of how the auxiliary head was trained; None without one."""
        head, told = self.model.head, self.learned
        return (
            {
                "loss": head.kind,
                "labels": told.labels,
                "mean": head.seen.mean,
                "curve": told.auxiliary,
            }
            if head
            else None
        )

    def timings(self) -> TrainTimings:
        """What timings.json tells of training."""
        return TrainTimings(
            training_seconds=round(self.learned.seconds, 2),
            examples_per_second=round(self.learned.rate),
        )


def train_towers(ctx: StageContext, features: Path, parent: Path | None) -> Trained:
    """Trains on the days of a features attempt.

    Args:
      ctx: pipeline, day and mode.
      features: local folder of the attempt.
      parent: local folder of the state to start from; None starts from scratch.
    """
    settings = ctx.pipeline.train
    start = checkpoint.load(parent) if parent else None
    if start:
        settings = settings.model_copy(update={"epochs": settings.warm_epochs})
    transform = features / feature_schema.TRANSFORM
    tokens, raw = vocabularies(transform, ctx.pipeline), transforms(transform, ctx.pipeline)
    model = TwoTower(design(ctx.pipeline, tokens, start.widths if start else None), settings.seed)
    folders = _day_folders(ctx, features / feature_schema.TRANSFORMED)
    frequency = _frequency(settings, folders, start, features)
    archive: Mapping[str, TableState] = {}
    if start:
        archive = warm_start(model, start, day=ctx.day, keep=ARCHIVED_ROWS)
    inherited = model.head.copy() if model.head and start else None
    drawn_from = None
    if settings.negatives.uniform:
        drawn_from = negative_corpus.read(
            features / feature_schema.CORPUS_START, raw["item"], model.layout.parts["item"]
        )
    with progress.shown(len(folders)) as report:
        days = _days(ctx.pipeline, folders, model.layout)
        learned = run_training(
            model,
            frequency,
            days,
            settings,
            catalogue=drawn_from,
            step=start.step if start else 0,
            report=report,
        )
    zero_untrained_rows(
        model,
        settings.seed,
        [name for name in model.tables if not start or name not in start.tables],
    )
    warnings = [
        w for w in (progress.few_steps(learned, settings), progress.full_buckets(frequency)) if w
    ]
    for warning in warnings:
        progress.warn(warning)
    return Trained(
        model=model,
        transforms=raw,
        frequency=frequency,
        archive=archive,
        learned=learned,
        days=list(folders),
        inherited=inherited,
        warning=" ".join(warnings) or None,
    )


def write(ctx: StageContext, trained: Trained, out: Path) -> dict[str, Tower]:
    """Writes both towers and the state.

    Args:
      ctx: the day.
      trained: what is written.
      out: local folder.

    Returns: the towers by side, from memory.
    """
    towers = {
        side: export(trained.model, trained.transforms[side], side, out / name)
        for side, name in model_bundle.TOWERS.items()
    }
    learned = checkpoint.capture(
        trained.model,
        trained.frequency.state(),
        day=ctx.day,
        step=trained.learned.step,
        archive=trained.archive,
    )
    checkpoint.save(learned, out / model_bundle.STATE)
    return towers


def _frequency(
    settings: TrainConfig, folders: Mapping[date, Path], start: State | None, features: Path
) -> StreamingFrequency:
    """The frequency estimate, which goes on from the parent's."""
    asked = settings.frequency
    rows = sum(training_rows.count(folder) for folder in folders.values())
    gap = asked.initial_gap or max(LEAST_GAP, rows // len(folders))
    frequency = StreamingFrequency(
        buckets=asked.buckets, hashes=asked.hashes, alpha=asked.alpha, initial_gap=float(gap)
    )
    if start and settings.correction != "none":
        if frequency.fits(start.frequency):
            frequency.restore(start.frequency)
        else:
            items = ds.dataset(features / feature_schema.CORPUS_START, format="parquet").to_table(
                columns=["_item"]
            )["_item"]
            frequency.adopt(start.frequency, fingerprint(items))
    return frequency


def _day_folders(ctx: StageContext, transformed: Path) -> dict[date, Path]:
    """Folders of the days to train on, oldest first: the day alone, or in mode full all up to
    it.
    """
    found = {date.fromisoformat(p.name[3:]): p for p in transformed.glob("dt=*")}
    wanted = [
        day for day in sorted(found) if day == ctx.day or (ctx.mode == "full" and day < ctx.day)
    ]
    if not wanted:
        there = ", ".join(map(str, sorted(found))) or "no day's"
        raise BadData(
            f"Training on {ctx.day} needs its rows; {transformed} has {there}. All of the day's"
            " users may be held out: lower evaluation.holdout; or run the features stage again."
        )
    return {day: found[day] for day in wanted}


@dataclass(frozen=True, slots=True)
class _Days:
    """The days to train on, oldest first, read anew in each pass: only one is held at a time."""

    pipeline: Pipeline
    folders: Mapping[date, Path]
    parts: Sequence[FeatureColumn]

    def __iter__(self) -> Iterator[tuple[date, Rows]]:
        return (
            (day, _read(self.pipeline, folder, self.parts, str(day)))
            for day, folder in self.folders.items()
        )


def _days(
    pipeline: Pipeline, folders: Mapping[date, Path], layout: Architecture
) -> Iterable[tuple[date, Rows]]:
    days = _Days(pipeline, folders, [part for side in layout.parts.values() for part in side])
    if pipeline.train.order == "shuffled":
        return [(max(folders), training_rows.join([rows for _, rows in days]))]
    return list(days) if len(folders) == 1 else days


def _read(pipeline: Pipeline, folder: Path, parts: Sequence[FeatureColumn], day: str) -> Rows:
    auxiliary = pipeline.train.auxiliary
    rows = training_rows.read(folder, parts, label=auxiliary.weight > 0)
    if rows.label is not None:
        check(rows.label, auxiliary.loss, pipeline.columns.label, day)
    return rows
