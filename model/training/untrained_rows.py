"""Rows of embedding tables that no example has used, and what stands in for them.

Training from scratch starts every row at random, as long as trained rows are. A row that it never
moved would say something random of a brand that is new, a word that no title had, an attribute that
no item lacked. So after such training

- the row of a value that was not used becomes the shared row that the value would be hashed to, if
  it were not in the vocabulary: that is where new values start from on the days that follow;
- a shared row, or the row of missing values, becomes zero: the column then says nothing.

The rows of ids are always used, by id dropout.
docs/decisions/0005-loss-and-frequency.md

A version without a parent is measured on its last day before it is trained on it, with the
vocabularies of that day's end: an id that has a row of its own only thanks to the day is then measured
by its shared row, as an id outside the vocabulary. docs/decisions/0026-training.md
"""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from model.towers.architecture import TableSpec
from model.towers.export import in_memory
from model.towers.transform_module import Transform
from model.towers.two_tower import TwoTower, initial_rows
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.model_bundle import Tower
from twinspire_core.storage import parquet_files


def zero_untrained_rows(model: TwoTower, seed: int, names: Sequence[str]) -> None:
    """Gives a meaning to the rows that training never moved.

    Args:
      seed: the one that it was made with.
      names: its tables that this training started from scratch.
    """
    for name in names:
        spec = model.architecture.tables[name]
        weight = model.tables[name]
        rows = weight.values.numpy()
        # Adagrad moves every row that has a gradient, so an unmoved row has its first bytes.
        is_unused = (rows == initial_rows(spec, seed).numpy()).all(1)
        # A feature that no example has keeps its random rows: from all zeros, rows and kernel could
        # never be trained.
        if not is_unused.any() or is_unused.all():
            continue
        rows = np.where(is_unused[:, np.newaxis], 0, rows)
        # After zeroing, so that a value whose shared row was not used either says nothing.
        unused = np.flatnonzero(is_unused[1 : spec.first_shared]) + 1
        weight.values.assign(_with_shared_rows(rows, unused, spec))


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
    for columns in model.architecture.columns.values():
        for column in columns:
            spec = model.architecture.tables.get(column.table)
            if spec and column.form == column.kind == "id" and not spec.hashed:
                # Not a key of the stage: where it changes which ids this is about, it changes the
                # vocabulary too, and so the input.
                least = pipeline.vocabulary.min_events
                late = np.flatnonzero(_rows_by_id(folders, column.name, spec)[1:] < least) + 1
                values = model.tables[column.table].values
                values.assign(_with_shared_rows(values.numpy(), late, spec))
    towers = {side: in_memory(model, transform, side) for side, transform in transforms.items()}
    for name, values in trained.items():
        model.tables[name].values.assign(values)
    return towers


def _rows_by_id(folders: Mapping[date, Path], column: str, spec: TableSpec) -> np.ndarray:
    """How many training rows each id of the vocabulary has, [1 + V] int64, missing values first."""
    rows = np.zeros(spec.first_shared, np.int64)
    for folder in folders.values():
        table = parquet_files.read_folder(str(folder), [column])
        ids = table.column(column).fill_null(0).to_numpy()
        rows += np.bincount(ids[(ids >= 0) & (ids < len(rows))], minlength=len(rows))
    return rows


def _with_shared_rows(rows: np.ndarray, of: np.ndarray, spec: TableSpec) -> np.ndarray:
    """A table in which some rows, given by number, are the shared rows that their keys hash to."""
    buckets = shared_buckets(spec.keys.take(pa.array(of)), spec.shared)
    rows[of] = rows[spec.first_shared + buckets]
    return rows


def shared_buckets(keys: pa.Array, shared: int) -> np.ndarray:
    """Which shared row a token outside the vocabulary is hashed to, as TensorFlow's tables do.

    Args:
      keys: [N], as model/towers/architecture.py spells them: `=TOKEN`.
      shared: number of shared rows.

    Returns: [N] int64, from 0.
    """
    tokens = pc.utf8_slice_codeunits(keys, 1).cast(pa.binary()).to_numpy(zero_copy_only=False)
    if not len(tokens):
        return np.zeros(0, np.int64)
    buckets: np.ndarray = tf.strings.to_hash_bucket_fast(
        tf.constant(tokens, tf.string), shared
    ).numpy()
    return buckets
