"""The towers of a version without a parent, as they are before they are trained on their last day, on
which they are measured. docs/decisions/0026-training.md

The vocabularies are those of that day's end: an id that has a row of its own only thanks to the day is
measured by its shared row, as an id outside the vocabulary.
"""

from collections.abc import Mapping
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa

from model.towers.export import in_memory
from model.towers.transform_module import Transform
from model.towers.two_tower import TwoTower
from model.training.untrained_rows import shared_buckets, zero_untrained_rows
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.model_bundle import Tower
from twinspire_core.storage import parquet_files


def towers_before_last_day(
    model: TwoTower,
    transforms: Mapping[str, Transform],
    pipeline: Pipeline,
    folders: Mapping[date, Path],
) -> dict[str, Tower]:
    """Both towers as they would be published now, in memory, by side; the model stays as it is.

    Args:
      model: trained up to the last day.
      transforms: what turns raw features into the towers', by side.
      pipeline: declares the features and the least events of a vocabulary.
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
