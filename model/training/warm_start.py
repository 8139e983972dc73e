"""Carries a parent's training state over to today's architecture: rows follow keys, not row numbers.

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
"""

from collections.abc import Iterator, Mapping
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.optimizers import START, AdamWeight, decay_slots
from model.towers.architecture import FeatureColumn, TableSpec
from model.towers.history_encoder import encoder_prefix
from model.towers.two_tower import TwoTower
from model.training.checkpoint import TableState, TrainingState
from model.training.untrained_rows import shared_buckets
from twinspire_core.errors import UsageError

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
            f"A warm start needs the parent's shapes; {described}. Set {', '.join(changes)} back,"
            " or train from scratch with --mode full."
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
