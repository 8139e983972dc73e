"""Warm starts: a parent's training state for today's architecture, and rows that training never moved.

Rows of embedding tables are matched by key, not by row number:

- A key that the parent had, in use or archived, keeps its row.
- Adagrad's slots are multiplied by `train.slot_decay` once per warm start, for tables, archived rows
  and dense weights. Adam's moments are kept, since they forget within some fifty steps.
- A new key starts from the shared row that it was hashed to until now, with fresh slots. The slots of
  the shared row are the sum of thousands of updates, so the new row could hardly learn with them.
- A key that left the vocabulary is archived. Its slots decay as if it were in use, so if it comes
  back, it can learn as fast as others.
- A new column enters the first layer (and the skip connection) with zero weight, so that today's model
  begins with yesterday's lists. An encoder of its own starts from scratch. A new `train.skip` starts
  with zero weights, too.
- A column that was removed is dropped.
- An auxiliary head that the parent did not have, or had with another loss, starts from scratch.
- Any other change of shape is an error, which names all changes.

Training from scratch starts with random rows of the length of trained rows. An untrained row would say
something random about a new brand or an unused word. So after training from scratch:

- The row of an unused value becomes the shared row that the value would be hashed to outside the
  vocabulary. New values start from the same row on later days.
- An unused shared row, or an unused row for missing values, becomes zero: the column says nothing.

The rows of ids are always used, because of id dropout. docs/decisions/0005-loss-and-frequency.md

A version without a parent is measured on its last day before it is trained on that day, but with the
vocabulary after the day. An id that is in the vocabulary only because of the last day then gets its
shared row, like an unknown id. docs/decisions/0026-training.md
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from model.optimizers import START, AdamWeight, decay_slots
from model.towers.architecture import FeatureColumn, TableSpec
from model.towers.export import Transform, in_memory
from model.towers.list_encoders import encoder_prefix
from model.towers.two_tower import TwoTower, initial_rows
from model.training.checkpoint import TableState, TrainingState
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.model_bundle import Tower
from twinspire_core.errors import UsageError
from twinspire_core.storage import parquet_files

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of weights, by name."""


def warm_start(
    model: TwoTower, parent: TrainingState, *, day: date, keep: int, slot_decay: float
) -> dict[str, TableState]:
    """Overwrites a fresh model's weights with the parent's.

    Args:
      model: built for today, and overwritten.
      parent: the state to start from.
      day: recorded for rows whose keys leave the vocabulary.
      keep: the most archived rows of a table. Those whose keys left last are kept.
      slot_decay: multiplies Adagrad's slots once, however many days lie between the parent and the
        day: days without training have added nothing to them.

    Returns: archived rows, by table, for `model.training.checkpoint.capture`.

    Raises:
      UsageError: a shape has changed that cannot be carried over; names the key of the pipeline file.
    """
    # Checked before anything is overwritten. One error names all changes, since training takes hours.
    _check_shapes(model, parent)
    archives = {}
    for name, spec in model.architecture.tables.items():
        if name in parent.tables:
            _carry_rows(model, spec, parent.tables[name], slot_decay)
            archives[name] = _archive(spec, parent.tables[name], day, keep, slot_decay)
    for name in model.dense:
        _carry_weight(model, name, parent, slot_decay)
    if model.head and parent.labels:
        model.head.see(parent.labels)
    return archives


def _carry_rows(model: TwoTower, spec: TableSpec, parent: TableState, slot_decay: float) -> None:
    position = pc.index_in(spec.keys, value_set=parent.keys)
    is_new = position.is_null().to_numpy(zero_copy_only=False)
    row = position.fill_null(0).to_numpy().copy()
    row[is_new] = _shared_rows(spec.keys.filter(pa.array(is_new)), parent)
    slots = decay_slots(parent.slots[row], slot_decay)
    # New rows have used the shared row so far. Its slots also belong to other values.
    slots[is_new] = START
    weight = model.tables[spec.name]
    weight.values.assign(parent.values[row])
    weight.slots.assign(slots)


def _shared_rows(keys: pa.Array, parent: TableState) -> np.ndarray:
    """The parent's shared rows for keys that were outside its vocabulary, [N] int64."""
    if not len(keys):  # a hashed table has no row `oov:0`, but it gets no new keys
        return np.zeros(0, np.int64)
    first = pc.index_in(pa.scalar("oov:0"), value_set=parent.keys).as_py()
    return first + shared_buckets(keys, parent.shared)


def _archive(
    spec: TableSpec, parent: TableState, day: date, keep: int, slot_decay: float
) -> TableState:
    """The parent's rows whose keys are not used today; those that left last come first."""
    is_gone = pc.invert(pc.is_in(parent.keys, value_set=spec.keys))
    rows = np.flatnonzero(is_gone.to_numpy(zero_copy_only=False))
    # A row that was archived before keeps the day on which it left.
    left = parent.left.take(pa.array(rows)).fill_null(pa.scalar(day, pa.date32()))
    newest = pc.sort_indices(left, sort_keys=[("", "descending")])[:keep]
    rows = rows[newest.to_numpy()]
    return TableState(
        keys=parent.keys.take(pa.array(rows)),
        values=parent.values[rows],
        slots=decay_slots(parent.slots[rows], slot_decay),
        left=left.take(newest),
        shared=parent.shared,
        hashed=parent.hashed,
    )


def _carry_weight(model: TwoTower, name: str, parent: TrainingState, slot_decay: float) -> None:
    weight = model.dense[name]
    if name in parent.dense:
        values, slots = parent.dense[name]
        if not isinstance(weight, AdamWeight):
            slots = decay_slots(slots, slot_decay)
        weight.values.assign(values)
        weight.slots.assign(slots)
    elif not isinstance(weight, AdamWeight):
        # Zero, so that a new column changes nothing before it has learned something. An encoder
        # (Adam) keeps its fresh weights: from all zeros it could not learn, and the kernel behind
        # it is zero anyway.
        weight.values.assign(np.zeros(weight.values.shape, np.float32))
        weight.slots.assign(np.full(weight.slots.shape, START, np.float32))


def _check_shapes(model: TwoTower, parent: TrainingState) -> None:
    # Several weights may depend on one key of the pipeline file. The message names the key once.
    changes = {key: changed for key, *changed in _changes(model, parent)}
    if changes:
        described = "; ".join(
            f"{key} now gives {now}, the parent has {before} ({description})"
            for key, (before, now, description) in changes.items()
        )
        raise UsageError(
            f"A warm start needs the same shapes as its parent; {described}. Set"
            f" {', '.join(changes)} back, or train from scratch with --mode full."
        )


def _changes(model: TwoTower, parent: TrainingState) -> Iterator[tuple[str, object, object, str]]:
    """Changes of shape that cannot be carried over: the key of the pipeline file that causes the change,
    the parent's value, today's value, and what the values are.
    """
    for side, widths in model.architecture.layers.items():
        before = parent.layers[side]
        if list(widths[:-1]) != list(before[:-1]):
            yield "train.layers", list(before[:-1]), list(widths[:-1]), "as widths of layers"
        if widths[-1] != before[-1]:
            yield "train.dimension", before[-1], widths[-1], "as the width of the vectors"
    for name, table in parent.tables.items():
        spec = model.architecture.tables.get(name)
        if spec and (table.hashed, table.shared) != (spec.hashed, spec.shared):
            yield f"features.{name}.kind", table.shared, spec.shared, "rows that values share"
        elif spec and spec.dimension != (width := table.values.shape[1]):
            # For example, a category that is now an id
            yield f"features.{name}", width, spec.dimension, "as the width of its embedding"
    shapes_before = {name: values.shape for name, (values, _) in parent.dense.items()}
    shapes = {name: tuple(weight.values.shape) for name, weight in model.dense.items()}
    for side, columns in model.architecture.columns.items():
        for column in columns:
            if f"{side}/first/{column.name}" in shapes_before:
                yield from _changed_column(side, column, shapes_before, shapes, parent.tables)


def _changed_column(
    side: str,
    column: FeatureColumn,
    before: Shapes,
    now: Shapes,
    parent_tables: Mapping[str, TableState],
) -> Iterator[tuple[str, object, object, str]]:
    """Changes of a column that the parent also had: of its width, its skip connection, its encoder."""
    first = f"{side}/first/{column.name}"
    # A changed table was reported already, by its own key.
    if column.table not in parent_tables and before[first][0] != now[first][0]:
        key = f"features.{column.feature}" + (".size" if column.form == "vector" else "")
        yield key, before[first][0], now[first][0], "numbers into the first layer"
    skip = f"{side}/skip/{column.name}"
    if skip in before and skip not in now:
        yield "train.skip", True, False, f"{column.name} goes past the layers"
    encoder_now = _encoder_settings(now, column)
    for key, setting in _encoder_settings(before, column).items():
        if key in encoder_now and setting != encoder_now[key]:
            yield key, setting, encoder_now[key], f"encoder of {column.name}"


def _encoder_settings(shapes: Shapes, column: FeatureColumn) -> dict[str, object]:
    """The settings of a column's encoder, by key of the pipeline file, as the shapes of its weights show
    them.
    """
    prefix = encoder_prefix(column.name)
    encoder = {
        name.removeprefix(prefix): shape
        for name, shape in shapes.items()
        if name.startswith(prefix)
    }
    if not encoder:
        return {"train.history.pooling": "a sum or mean"}
    return {
        "train.history.pooling": "attention",
        f"features.{column.feature}.length": encoder["positions"][0],
    }


def zero_untrained_rows(model: TwoTower, seed: int, names: Sequence[str]) -> None:
    """Replaces rows that training never moved by shared rows or zeros.

    Args:
      seed: the seed that the model was made with.
      names: tables that this training started from scratch.
    """
    for name in names:
        spec = model.architecture.tables[name]
        weight = model.tables[name]
        rows = weight.values.numpy()
        # Adagrad changes every row that has a gradient, so an untrained row has its initial bytes.
        is_unused = (rows == initial_rows(spec, seed).numpy()).all(1)
        # A feature that no example has keeps its random rows. If rows and kernel were all zero, both
        # gradients would be zero, and the feature could never be learned.
        if not is_unused.any() or is_unused.all():
            continue
        rows = np.where(is_unused[:, np.newaxis], 0, rows)
        # The order matters: unused rows are zero by now. So a value whose shared row was not used starts
        # at zero, not at the shared row's random start.
        unused = np.flatnonzero(is_unused[1 : spec.first_shared]) + 1
        weight.values.assign(_with_shared_rows(rows, unused, spec))


def towers_before_last_day(
    model: TwoTower,
    transforms: Mapping[str, Transform],
    pipeline: Pipeline,
    folders: Mapping[date, Path],
) -> dict[str, Tower]:
    """Both towers in memory, by side, as they would be published now. The model does not change.

    Args:
      model: trained up to the last day.
      transforms: the transform of raw features, by side.
      folders: transformed rows of the days trained on.
    """
    trained = {name: weight.values.numpy() for name, weight in model.tables.items()}
    zero_untrained_rows(model, pipeline.train.seed, list(model.tables))
    for columns in model.architecture.columns.values():
        for column in columns:
            spec = model.architecture.tables.get(column.table)
            if spec and column.form == column.kind == "id" and not spec.hashed:
                # Not a key of the train stage: if it changes, so does the vocabulary, which is an input.
                least = pipeline.vocabulary.min_events
                late = np.flatnonzero(_rows_by_id(folders, column.name, spec)[1:] < least) + 1
                values = model.tables[column.table].values
                values.assign(_with_shared_rows(values.numpy(), late, spec))
    towers = {side: in_memory(model, transform, side) for side, transform in transforms.items()}
    for name, values in trained.items():
        model.tables[name].values.assign(values)
    return towers


def _rows_by_id(folders: Mapping[date, Path], column: str, spec: TableSpec) -> np.ndarray:
    """Training rows of each id of the vocabulary, [1 + V] int64; missing values come first."""
    rows = np.zeros(spec.first_shared, np.int64)
    for folder in folders.values():
        table = parquet_files.read_folder(str(folder), [column])
        ids = table.column(column).fill_null(0).to_numpy()
        rows += np.bincount(ids[(ids >= 0) & (ids < len(rows))], minlength=len(rows))
    return rows


def _with_shared_rows(rows: np.ndarray, of: np.ndarray, spec: TableSpec) -> np.ndarray:
    """The table after the rows `of` were replaced by the shared rows that their keys hash to."""
    buckets = shared_buckets(spec.keys.take(pa.array(of)), spec.shared)
    rows[of] = rows[spec.first_shared + buckets]
    return rows


def shared_buckets(keys: pa.Array, shared: int) -> np.ndarray:
    """The shared row of each token outside the vocabulary, hashed as TensorFlow's lookup tables do.

    Args:
      keys: [N], as model/towers/architecture.py spells them: `=TOKEN`.
      shared: number of shared rows.

    Returns: [N] int64, from 0.
    """
    tokens = pc.utf8_slice_codeunits(keys, 1).cast(pa.binary()).to_numpy(zero_copy_only=False)
    if not len(tokens):
        return np.zeros(0, np.int64)
    return tf.strings.to_hash_bucket_fast(tf.constant(tokens, tf.string), shared).numpy()
