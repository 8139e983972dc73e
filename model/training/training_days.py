"""The days that towers are trained on, oldest first; of a first version its last day apart.

A version without a parent has nobody before it who could be measured on its day. So it stops before
its day: what it lists then is what a version of the day before would have listed. Afterwards it
goes on through the day, in as many passes, and is what training in one go would have made of the
same order of rows: measuring changes nothing.

With `train.order = "shuffled"` the rows of the last day alone would pull the towers to one day's
users. They come mixed with rows of the window, drawn again for each pass.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from model.data import training_rows
from model.data.training_rows import Rows
from model.towers.architecture import Architecture, FeatureColumn
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.errors import BadData

REPLAYED = 9
"""Rows of the window that are replayed for each row of the last day: with three, the next days were
surely listed worse for (docs/decisions/0026-training.md).
"""


def day_folders(ctx: StageContext, transformed: Path) -> dict[date, Path]:
    """Folders of the days to train on, oldest first: the day alone, or in mode full all days up to
    it.
    """
    folders = {date.fromisoformat(p.name.removeprefix("dt=")): p for p in transformed.glob("dt=*")}
    chosen = {}
    for day in sorted(folders):
        if day == ctx.day or (ctx.mode == "full" and day < ctx.day):
            chosen[day] = folders[day]
    if not chosen:
        there = ", ".join(map(str, sorted(folders))) or "no day's"
        raise BadData(
            f"Training on {ctx.day} needs its rows; {transformed} has {there}. All of the day's"
            " users may be held out: lower evaluation.holdout; or run the features stage again."
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
    """The days that all passes go through, and those that come after all of these passes.

    Args:
      ctx: says which day is the last.
      folders: of the days to train on.
      architecture: says which columns are read.
      last_apart: whether the day itself comes after the days before it, if there are any.
    """
    before = earlier_days(folders, ctx.day)
    if not (last_apart and before and ctx.day in folders):
        return training_days(ctx.pipeline, folders, architecture), ()
    window = training_days(ctx.pipeline, before, architecture)
    return window, last_day(ctx, folders[ctx.day], window, architecture)


def training_days(
    pipeline: Pipeline, folders: Mapping[date, Path], architecture: Architecture
) -> Iterable[tuple[date, Rows]]:
    """The rows of each day, in the order in which a pass goes through them; all at once if they are
    shuffled.
    """
    columns = [column for side in architecture.columns.values() for column in side]
    days = _Days(pipeline, folders, columns)
    if pipeline.train.order == "shuffled":
        rows = training_rows.join([rows for _, rows in days])
        return [(max(folders), rows)]
    # A single day is kept for all passes.
    return list(days) if len(folders) == 1 else days


@dataclass(frozen=True, slots=True)
class _Days:
    """The days to train on, oldest first. They are read again in each pass, so that only one is held
    in memory at a time.
    """

    pipeline: Pipeline
    folders: Mapping[date, Path]
    columns: Sequence[FeatureColumn]

    def __iter__(self) -> Iterator[tuple[date, Rows]]:
        for day, folder in self.folders.items():
            has_head = self.pipeline.train.auxiliary.weight > 0
            yield day, training_rows.read(folder, self.columns, label=has_head)


def last_day(
    ctx: StageContext,
    folder: Path,
    window: Iterable[tuple[date, Rows]],
    architecture: Architecture,
) -> Iterable[tuple[date, Rows]]:
    """The day that is trained on after the others: alone, or among rows of the window if all rows
    are shuffled.
    """
    alone = list(training_days(ctx.pipeline, {ctx.day: folder}, architecture))
    if ctx.pipeline.train.order != "shuffled":
        return alone
    (_, of_window) = next(iter(window))
    draws = np.random.default_rng([ctx.pipeline.train.seed, ctx.day.toordinal()])
    return Replay(ctx.day, alone[0][1], of_window, draws)


@dataclass(frozen=True, slots=True)
class Replay:
    """A day's rows among rows of the window before it, drawn again for each pass."""

    day: date
    rows: Rows
    window: Rows
    draws: np.random.Generator

    def __iter__(self) -> Iterator[tuple[date, Rows]]:
        drawn = min(REPLAYED * len(self.rows), len(self.window))
        places = self.draws.choice(len(self.window), drawn, replace=False)
        replayed = training_rows.select(self.window, np.sort(places))
        yield self.day, training_rows.join([replayed, self.rows])
