"""Trains towers from a features attempt: builds them, starts them from the parent if there is
one, and trains the days, oldest first. A first version trains its last day separately.

A version without a parent has no earlier version that could be measured on its day. So training
stops before the last day: the lists at this point are those that a version of the day before would
have made. Then training continues with the last day, in as many passes. The result is the same as
without the stop, so measuring changes nothing.

With `train.order = "shuffled"`, the rows of the last day alone would fit the towers to the users
of one day. So they are mixed with rows of the window, which are drawn again for each pass.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from model.data import training_rows
from model.data.training_rows import Rows, read_corpus
from model.losses.sampling_probability import StreamingFrequency, enough_buckets
from model.towers.architecture import Architecture, FeatureColumn, design
from model.towers.auxiliary_head import Head
from model.towers.export import Transform, export, transforms, vocabularies
from model.towers.linear_part import fit_linear_part
from model.towers.two_tower import TwoTower
from model.training import checkpoint
from model.training.checkpoint import TableState, TrainingState
from model.training.loop import LoopResult, few_steps, run_training, shown
from model.training.warm_start import towers_before_last_day, warm_start, zero_untrained_rows
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.tables.training import TrainConfig
from twinspire_core.contracts import feature_schema, model_bundle
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.day_metrics import TrainingFigures
from twinspire_core.contracts.json_files import Timings
from twinspire_core.contracts.model_bundle import Tower
from twinspire_core.errors import BadData
from twinspire_core.terminal import console

WARM_EPOCHS = 1
"""Passes over the day after a warm start. More would fit the day's few users, and all others would lose."""
MAX_ARCHIVED_ROWS = 1_000_000
"""The most archived rows of a table, for ids that left the vocabulary and may come back."""

HASHES = 2
"""Independent hash functions of the frequency estimate, each with its own array. An item's estimate is wrong
only if other items share both of its buckets (section 3 of the paper).
"""
LEAST_INITIAL_GAP = 100_000
"""The least gap, in rows, that is assumed for an item that was seen once."""

MOST_HISTORIES = 10_000
"""The most users whose histories the linear part is fitted to."""

REPLAYED = 9
"""Rows of the window that are replayed for each row of the last day. With three, lists for the next days
were clearly worse (docs/decisions/0026-training.md).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """Trained towers, and the state from which the next day's training starts.

    Attributes:
      model: the towers.
      transforms: the transform of raw features, by side.
      frequency: the frequency estimate.
      archive: rows of ids that have left the vocabulary, by table.
      days: the days trained on.
      inherited_head: the auxiliary head before training: the parent's, or that of a first version before
        its last day. None if there is no such head.
      warning: about training that was too short or a frequency estimate that is too small; else None.
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
        """The entry about training in metrics.json."""
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

    def log_q(self, items: np.ndarray) -> np.ndarray:
        """Natural logs of the estimated shares of items (fingerprints, [N] int64), [N] float32."""
        return self.frequency.log_q(items).numpy()

    def timings(self) -> Timings:
        """The entry about training in timings.json."""
        return Timings(
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
      features: local folder of the attempt.
      parent: local folder of the training state to start from; None starts from scratch.
      measure: for a first version, called with the towers before the last day, which is then trained
        after all others. Not called if there is only one day.
    """
    settings = ctx.pipeline.train
    state = checkpoint.load(parent) if parent else None
    if state:
        settings = settings.model_copy(update={"epochs": WARM_EPOCHS})
    towers_transforms = transforms(features / feature_schema.TRANSFORM, ctx.pipeline)
    # Fresh weights, for today's features and vocabularies; a parent's overwrite them below.
    tokens = vocabularies(features / feature_schema.TRANSFORM, ctx.pipeline)
    widths = state.widths if state else {}
    model = TwoTower(design(ctx.pipeline, tokens, widths), settings.seed)
    folders = day_folders(ctx, features / feature_schema.TRANSFORMED)
    frequency = _frequency_estimate(settings, folders, state)
    archive: Mapping[str, TableState] = {}
    if state:
        decay = settings.slot_decay
        archive = warm_start(model, state, day=ctx.day, keep=MAX_ARCHIVED_ROWS, slot_decay=decay)
    # Copied before training changes it: the parent's head is measured on the day, too.
    inherited_head = model.head.copy() if state and model.head else None
    corpus = None
    if settings.negatives.uniform:
        folder = features / feature_schema.CORPUS_START
        columns = model.architecture.columns["item"]
        corpus = read_corpus(folder, towers_transforms["item"], columns)
        if not corpus:  # as at the start of a log's first day
            corpus, negatives = None, settings.negatives.model_copy(update={"uniform": 0})
            settings = settings.model_copy(update={"negatives": negatives})
    days, last = days_in_parts(ctx, folders, model.architecture, last_apart=measure is not None)
    # Later versions inherit the fitted table, so that the vectors of all items stay comparable. Items
    # that came later have no linear part until the next training from scratch.
    linear = model.architecture.linear
    if linear and not (state and linear in state.tables):
        fit_linear_part(model, newest_histories(days, model.architecture), settings.seed)

    def measure_before_last_day() -> None:
        nonlocal inherited_head
        inherited_head = model.head.copy() if model.head else None
        if measure:
            before = earlier_days(folders, ctx.day)
            measure(towers_before_last_day(model, towers_transforms, ctx.pipeline, before))

    with shown(len(folders)) as report:
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
    # For inherited tables, the training that created them has done this already.
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
        warning=_warn(result, settings),
    )


def _frequency_estimate(
    settings: TrainConfig, folders: Mapping[date, Path], state: TrainingState | None
) -> StreamingFrequency:
    """The frequency estimate. It continues the parent's if there is one."""
    # An item that was seen once is assumed to come once a day.
    rows = sum(training_rows.count(folder) for folder in folders.values())
    parent = state.frequency if state and settings.correction != "none" else None
    frequency = StreamingFrequency(
        buckets=enough_buckets(training_rows.count_items(folders.values()), parent),
        hashes=HASHES,
        alpha=settings.frequency.alpha,
        initial_gap=float(max(LEAST_INITIAL_GAP, rows // len(folders))),
    )
    if parent:
        frequency.restore(parent)
    return frequency


def _warn(result: LoopResult, settings: TrainConfig) -> str | None:
    """Prints the warning and returns it; None if there is none."""
    warning = few_steps(result, settings)
    if warning:
        console.print(f"Warning: {warning}", soft_wrap=True)
    return warning


def write(ctx: StageContext, trained: Trained, out: Path) -> dict[str, Tower]:
    """Writes both towers and the training state into a local folder.

    Returns: the towers in memory, by side.
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


def day_folders(ctx: StageContext, transformed: Path) -> dict[date, Path]:
    """Folders of the days to train on, oldest first: only the day itself, or all days up to it in mode
    full.
    """
    folders = {date.fromisoformat(p.name.removeprefix("dt=")): p for p in transformed.glob("dt=*")}
    chosen = {
        day: folders[day]
        for day in sorted(folders)
        if day == ctx.day or (ctx.mode == "full" and day < ctx.day)
    }
    if not chosen:
        there = ", ".join(map(str, sorted(folders))) or "no day's"
        raise BadData(
            f"Training on {ctx.day} needs the rows of this day; {transformed} has {there}. If all"
            " users of the day are held out, lower evaluation.holdout. Otherwise run the features"
            " stage again."
        )
    return chosen


def earlier_days(folders: Mapping[date, Path], day: date) -> dict[date, Path]:
    """Folders of the days before a day."""
    return {earlier: folder for earlier, folder in folders.items() if earlier < day}


def days_in_parts(
    ctx: StageContext,
    folders: Mapping[date, Path],
    architecture: Architecture,
    *,
    last_apart: bool,
) -> tuple[Iterable[tuple[date, Rows]], Iterable[tuple[date, Rows]]]:
    """Splits the days into those to train on first and those to train on after them.

    Args:
      folders: of the days to train on.
      last_apart: whether to train on the last day separately, if there are earlier days.
    """
    before = earlier_days(folders, ctx.day)
    if not (last_apart and before and ctx.day in folders):
        return training_days(ctx.pipeline, folders, architecture), ()
    window = training_days(ctx.pipeline, before, architecture)
    return window, last_day(ctx, folders[ctx.day], window, architecture)


def training_days(
    pipeline: Pipeline, folders: Mapping[date, Path], architecture: Architecture
) -> Iterable[tuple[date, Rows]]:
    """The rows of each day, in the order of a pass. With `train.order = "shuffled"`, all rows are one
    "day".
    """
    columns = [column for side in architecture.columns.values() for column in side]
    days = _Days(pipeline, folders, columns)
    if pipeline.train.order == "shuffled":
        rows = training_rows.join([rows for _, rows in days])
        return [(max(folders), rows)]
    # A single day stays in memory for all passes; several would be too large.
    return list(days) if len(folders) == 1 else days


def newest_histories(days: Iterable[tuple[date, Rows]], architecture: Architecture) -> np.ndarray:
    """The newest history of each of up to `MOST_HISTORIES` users, [U, L] int32."""
    column = architecture.histories[0]
    users, lists = [], []
    for _, rows in days:
        # Ascending by fingerprint, so that the first ones are a sample of users, the same on all days.
        user, from_end = np.unique(rows.user[::-1], return_index=True)
        users.append(user[:MOST_HISTORIES])
        lists.append(rows.features[column][len(rows) - 1 - from_end[:MOST_HISTORIES]])
    user = np.concatenate(users)
    _, from_end = np.unique(user[::-1], return_index=True)
    return training_rows.concat_padded(lists)[len(user) - 1 - from_end[:MOST_HISTORIES]]


@dataclass(frozen=True, slots=True)
class _Days:
    """The days to train on, oldest first. They are read again in each pass, so that only one is held
    in memory at a time.
    """

    pipeline: Pipeline
    folders: Mapping[date, Path]
    columns: Sequence[FeatureColumn]

    def __iter__(self) -> Iterator[tuple[date, Rows]]:
        has_head = self.pipeline.train.auxiliary.weight > 0
        for day, folder in self.folders.items():
            yield day, training_rows.read(folder, self.columns, label=has_head)


def last_day(
    ctx: StageContext,
    folder: Path,
    window: Iterable[tuple[date, Rows]],
    architecture: Architecture,
) -> Iterable[tuple[date, Rows]]:
    """The last day of a first version, which is trained after the others: alone, or mixed with rows of
    the window if rows are shuffled.
    """
    alone = list(training_days(ctx.pipeline, {ctx.day: folder}, architecture))
    if ctx.pipeline.train.order != "shuffled":
        return alone
    (_, of_window) = next(iter(window))
    draws = np.random.default_rng([ctx.pipeline.train.seed, ctx.day.toordinal()])
    return Replay(ctx.day, alone[0][1], of_window, draws)


@dataclass(frozen=True, slots=True)
class Replay:
    """A day's rows together with rows of the window before it, which are drawn again for each pass."""

    day: date
    rows: Rows
    window: Rows
    draws: np.random.Generator

    def __iter__(self) -> Iterator[tuple[date, Rows]]:
        drawn = min(REPLAYED * len(self.rows), len(self.window))
        places = self.draws.choice(len(self.window), drawn, replace=False)
        # In the order of time; the day's own rows come last.
        replayed = training_rows.select(self.window, np.sort(places))
        yield self.day, training_rows.join([replayed, self.rows])
