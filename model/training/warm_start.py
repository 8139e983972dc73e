"""Where embedding rows and weights come from that the day's training did not move: a parent's state, or a
row that stands in.

Carries a parent's training state over to today's architecture: rows follow keys, not row numbers.

- A key that the parent had, in use or archived, keeps its row.
- Adagrad's slots are multiplied by `train.slot_decay`, once per warm start: of tables, of archived
  rows too, and of dense weights. Adam's moments are kept: they forget within some fifty steps, and
  are no sums.
- A new key starts from the shared row that it was hashed to until now. Its slots start afresh: the
  shared row's are the sum of thousands of updates, and would keep the new row from ever leaving it.
- A key that is gone is archived. Its slots go on being multiplied as they would in use, on days
  that have no event of it: it comes back as ready to learn as if it had been there.
- A new column enters the first layer with zero weight, and goes past the layers with zero weight,
  so that today's model begins as yesterday's. An encoder of its own starts as it would from
  scratch. The same holds for `train.skip`, if the parent was without it.
- A column that is gone is dropped.
- An auxiliary head that the parent did not have, or had with another loss, starts from scratch.
- Any other change of shape is an error, which names all of them.

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
from model.towers.history_encoder import encoder_prefix
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
      parent: the state to go on from.
      day: stamped on the rows whose keys leave the vocabulary.
      keep: the most archived rows of a table: those whose keys left last.
      slot_decay: what Adagrad's slots are multiplied by, however many days lie between the parent
        and the day: days that nobody trained on have added nothing to them.

    Returns: archived rows, by table, for `model.training.checkpoint.capture`.

    Raises:
      UsageError: a shape differs that cannot be carried over; names the key of the pipeline file.
    """
    # Before anything is overwritten, and with all changes in one error: training takes hours.
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
    slots[is_new] = START
    weight = model.tables[spec.name]
    weight.values.assign(parent.values[row])
    weight.slots.assign(slots)


def _shared_rows(keys: pa.Array, parent: TableState) -> np.ndarray:
    """Rows of the parent that tokens outside its vocabulary were hashed to, [N] int64."""
    if not len(keys):  # a hashed table has no row of this name, and never a new key
        return np.zeros(0, np.int64)
    first = pc.index_in(pa.scalar("oov:0"), value_set=parent.keys).as_py()
    buckets: np.ndarray = first + shared_buckets(keys, parent.shared)
    return buckets


def _archive(
    spec: TableSpec, parent: TableState, day: date, keep: int, slot_decay: float
) -> TableState:
    """The parent's rows whose keys are not in use today, the ones that left last first."""
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
    # Several weights may follow from one key of the pipeline file, which is named once.
    changes = {key: changed for key, *changed in _changes(model, parent)}
    if changes:
        described = "; ".join(
            f"{key} now gives {now}, the parent has {before} ({what})"
            for key, (before, now, what) in changes.items()
        )
        raise UsageError(
            f"A warm start needs the same shapes as its parent; {described}. Set"
            f" {', '.join(changes)} back, or train from scratch with --mode full."
        )


def _changes(model: TwoTower, parent: TrainingState) -> Iterator[tuple[str, object, object, str]]:
    """Changes of shape that cannot be carried over: the key of the pipeline file that the shape follows
    from, what the parent has, what the key gives now, and what these are, in words.
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
            # A category that is an id now, say
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
    """A column that the parent had too must be as wide, and take the same ways."""
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
    """The settings, by key of the pipeline file, that a column's encoder was built with: they are
    read off the shapes of its weights.
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
