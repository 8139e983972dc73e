"""A first version, in two parts: trained up to the window's last day, measured on that day, then
trained on it.

A version without a parent has nobody before it who could be measured on its day. So it stops before
its day: what it lists then is what a version of the day before would have listed. Afterwards it
goes on through the day, in as many passes, and is what training in one go would have made of the
same order of rows: measuring changes nothing.

With `train.order = "shuffled"` the rows of the last day alone would pull the towers to one day's
users. They come mixed with rows of the window, drawn again for each pass.
"""

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa

from model.data import training_rows
from model.data.training_rows import Rows
from model.towers.export import in_memory
from model.towers.transform_module import Transform
from model.towers.two_tower import TwoTower
from model.towers.untrained_rows import shared_buckets, zero_untrained_rows
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.model_bundle import Tower
from twinspire_core.storage import parquet_files

REPLAYED = 9
"""Rows of the window that are replayed for each row of the last day: with three, the next days were
surely listed worse for (docs/decisions/0026-training.md).
"""


class Replay:
    """A day's rows among rows of the days before it, drawn again for each pass."""

    def __init__(self, day: date, rows: Rows, window: Rows, seed: int) -> None:
        """Keeps all rows.

        Args:
          day: the day.
          rows: of the day.
          window: of the days before, in the order of time.
          seed: of the draws.
        """
        self._day = day
        self._rows = rows
        self._window = window
        self._rng = np.random.default_rng([seed, day.toordinal()])

    def __iter__(self) -> Iterator[tuple[date, Rows]]:
        drawn = min(REPLAYED * len(self._rows), len(self._window))
        places = self._rng.choice(len(self._window), drawn, replace=False)
        replayed = training_rows.select(self._window, np.sort(places))
        yield self._day, training_rows.join([replayed, self._rows])


def towers_before_last_day(
    model: TwoTower,
    transforms: Mapping[str, Transform],
    pipeline: Pipeline,
    folders: Mapping[date, Path],
) -> dict[str, Tower]:
    """Both towers as they would be published now, in memory, by side; the model stays as it is.

    The vocabularies are those of the last day's end. An id that has its own row only thanks to that
    day is measured by its shared row, as an id outside the vocabulary.

    Args:
      model: trained up to the last day.
      transforms: by side.
      pipeline: the pipeline file.
      folders: of transformed rows, of the days trained on.
    """
    trained = {name: weight.values.numpy() for name, weight in model.tables.items()}
    zero_untrained_rows(model, pipeline.train.seed, list(model.tables))
    _share_rows_of_late_ids(model, pipeline, folders)
    towers = {side: in_memory(model, transform, side) for side, transform in transforms.items()}
    for name, values in trained.items():
        model.tables[name].values.assign(values)
    return towers


def _share_rows_of_late_ids(
    model: TwoTower, pipeline: Pipeline, folders: Mapping[date, Path]
) -> None:
    """Gives ids with fewer rows than a vocabulary asks for the shared row that they hash to."""
    for side in model.architecture.columns:
        for column in model.architecture.columns[side]:
            if column.form != "id" or column.kind != "id":
                continue
            spec = model.architecture.tables[column.table]
            if spec.hashed:
                continue
            # Not a key of the stage: where it changes which ids this is about, it changes the
            # vocabulary too, and so the input.
            least = pipeline.vocabulary.min_events
            rows = _rows_by_id(folders, column.name, spec.first_shared)
            late = np.flatnonzero(rows[1:] < least) + 1
            if len(late):
                weight = model.tables[column.table]
                values = weight.values.numpy()
                buckets = shared_buckets(spec.keys.take(pa.array(late)), spec.shared)
                values[late] = values[spec.first_shared + buckets]
                weight.values.assign(values)


def _rows_by_id(folders: Mapping[date, Path], column: str, ids: int) -> np.ndarray:
    """How many training rows each id of a column has, [ids] int64; those of shared rows aside."""
    rows = np.zeros(ids, np.int64)
    for folder in folders.values():
        table = parquet_files.read_folder(str(folder), [column])
        numbers = table.column(column).fill_null(0).to_numpy()
        rows += np.bincount(numbers[(numbers >= 0) & (numbers < ids)], minlength=ids)
    return rows
