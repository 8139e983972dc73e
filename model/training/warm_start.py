"""Carries a parent's training state over to today's layout: rows follow keys, not row numbers.

- A key that the parent had, in use or archived, keeps its row and its Adagrad slots.
- A new key starts from the shared row that it was hashed to until now. Its slots start afresh: the
  shared row's are those of thousands of updates, and would keep the newcomer from ever leaving it.
- A key that is gone is archived.
- A new column enters the first layer with zero weight, and goes past the layers with zero weight,
  so that today's model begins as yesterday's; an encoder of its own starts as it would from
  scratch. So does `train.skip`, where the parent was without. A column that is gone is dropped. Any
  other change of shape is an error, which names all of them.
- An auxiliary head that the parent had not, or had with another loss, starts from scratch.
"""

from collections.abc import Iterator, Mapping
from datetime import date
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from model.optimizers import START, AdamWeight
from model.towers.architecture import TableSpec
from model.towers.history_encoder import encoder_prefix
from model.towers.two_tower import TwoTower
from model.towers.untrained_rows import shared_buckets
from model.training.checkpoint import State, TableState
from twinspire_core.errors import UsageError


def warm_start(model: TwoTower, parent: State, *, day: date, keep: int) -> dict[str, TableState]:
    """Overwrites a fresh model's weights with the parent's.

    Args:
      model: laid out for today, and overwritten.
      parent: the state to go on from.
      day: stamped on the rows that leave.
      keep: the most archived rows of a table, those that left last.

    Returns: archived rows, by table, for `state.capture`.

    Raises:
      UsageError: a shape differs that cannot be carried over; names the key of the pipeline file.
    """
    _check(model, parent)
    archives = {}
    for name, spec in model.layout.tables.items():
        if name in parent.tables:
            archives[name] = _carry_rows(model, spec, parent.tables[name], day, keep)
    for name, weight in model.dense.items():
        values, slots = _carry_weight(model, name, parent.dense)
        weight.values.assign(values)
        weight.slots.assign(slots)
    if model.head and parent.labels:
        model.head.see(parent.labels)
    return archives


def _carry_rows(
    model: TwoTower, spec: TableSpec, parent: TableState, day: date, keep: int
) -> TableState:
    source = pc.index_in(spec.keys, value_set=parent.keys)
    new = source.is_null().to_numpy(zero_copy_only=False)
    row = source.fill_null(0).to_numpy().copy()
    row[new] = _shared_rows(spec.keys.filter(pa.array(new)), parent)
    slots = parent.slots[row]
    slots[new] = START
    weight = model.tables[spec.name]
    weight.values.assign(parent.values[row])
    weight.slots.assign(slots)
    return _archive(spec, parent, day, keep)


def _shared_rows(keys: pa.Array, parent: TableState) -> np.ndarray:
    """Rows of the parent that unknown tokens were hashed to, [N]."""
    if not len(keys):  # as in a hashed table, which has no shared rows of this name
        return np.zeros(0, np.int64)
    first = pc.index_in(pa.scalar("oov:0"), value_set=parent.keys).as_py()
    buckets: np.ndarray = first + shared_buckets(keys, parent.shared)
    return buckets


def _archive(spec: TableSpec, parent: TableState, day: date, keep: int) -> TableState:
    gone = pc.invert(pc.is_in(parent.keys, value_set=spec.keys))
    rows = np.flatnonzero(gone.to_numpy(zero_copy_only=False))
    left = parent.left.take(pa.array(rows)).fill_null(pa.scalar(day, pa.date32()))
    newest = pc.sort_indices(left, sort_keys=[("", "descending")])[:keep]
    rows = rows[newest.to_numpy()]
    return TableState(
        keys=parent.keys.take(pa.array(rows)),
        values=parent.values[rows],
        slots=parent.slots[rows],
        left=left.take(newest),
        shared=parent.shared,
        hashed=parent.hashed,
    )


def _carry_weight(
    model: TwoTower, name: str, parent: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    weight = model.dense[name]
    shape = tuple(weight.values.shape)
    if name not in parent:
        if isinstance(weight, AdamWeight):
            return weight.values.numpy(), weight.slots.numpy()
        return np.zeros(shape, np.float32), np.full(shape, START, np.float32)
    return parent[name]


class _Change(NamedTuple):
    """A shape that cannot be carried over: the key of the pipeline file that it follows from, then
    and now.
    """

    key: str
    parent: object
    now: object
    what: str


def _check(model: TwoTower, parent: State) -> None:
    both = [
        (spec, parent.tables[name])
        for name, spec in model.layout.tables.items()
        if name in parent.tables
    ]
    changes = chain(
        _changed_layers(model.layout.layers, parent.layers),
        *(_changed_table(spec, table) for spec, table in both),
        _changed_columns(model, parent),
    )
    found = {change.key: change for change in changes}
    if found:
        told = "; ".join(
            f"{key} now gives {x.now}, the parent has {x.parent} ({x.what})"
            for key, x in found.items()
        )
        raise UsageError(
            f"A warm start needs the parent's shapes; {told}. Set {', '.join(found)} back, or train"
            " from scratch with --mode full."
        )


def _changed_layers(layers: Mapping[str, Any], parent: Mapping[str, Any]) -> Iterator[_Change]:
    for side, widths in layers.items():
        if list(widths[:-1]) != list(parent[side][:-1]):
            yield _Change(
                f"train.{side}_layers", parent[side][:-1], list(widths[:-1]), "as widths of layers"
            )
        if widths[-1] != parent[side][-1]:
            yield _Change(
                "train.dimension", parent[side][-1], widths[-1], "as the width of the vectors"
            )


def _changed_table(spec: TableSpec, parent: TableState) -> Iterator[_Change]:
    if parent.hashed != spec.hashed:
        key, kinds = f"features.{spec.name}.hash_buckets", {True: "hashed", False: "a vocabulary"}
        yield _Change(key, kinds[parent.hashed], kinds[spec.hashed], "ids; or its kind")
    elif parent.shared != spec.shared:
        yield _Change(spec.setting, parent.shared, spec.shared, "shared rows")
    if parent.values.shape[1] != spec.dimension:
        width = parent.values.shape[1]
        yield _Change(
            f"features.{spec.name}.dimension",
            width,
            spec.dimension,
            "as the width of its embedding",
        )


def _changed_columns(model: TwoTower, parent: State) -> Iterator[_Change]:
    """Columns that the parent had too must be as wide, and go the same ways."""
    was = {name: values.shape for name, (values, _) in parent.dense.items()}
    now = {name: tuple(weight.values.shape) for name, weight in model.dense.items()}
    for side, parts in model.layout.parts.items():
        for part in (part for part in parts if f"{side}/first/{part.column}" in was):
            first = f"{side}/first/{part.column}"
            # Or the table tells of it
            if part.table not in parent.tables and was[first][0] != now[first][0]:
                key = f"features.{part.feature}" + (".size" if part.form == "vector" else "")
                yield _Change(key, was[first][0], now[first][0], "numbers into the first layer")
            if (skip := f"{side}/skip/{part.column}") in was and skip not in now:
                yield _Change("train.skip", True, False, f"{part.column} goes past the layers")
            before, after = (_encoder(shapes, part.column, part.feature) for shapes in (was, now))
            for key in before:
                if key in after and before[key] != after[key]:
                    yield _Change(key, before[key], after[key], f"encoder of {part.column}")


def _encoder(shapes: Mapping[str, tuple[int, ...]], column: str, feature: str) -> dict[str, object]:
    """What a column's encoder is like, by key of the pipeline file."""
    prefix = encoder_prefix(column)
    own = {
        name.removeprefix(prefix): shape
        for name, shape in shapes.items()
        if name.startswith(prefix)
    }
    found: dict[str, object] = {"train.history.pooling": "attention" if own else "a sum or mean"}
    if own:
        found["train.history.layers"] = len(
            {name.split("/")[0] for name in own if name[0].isdigit()}
        )
        found["train.history.heads"] = own["0/attention/query/kernel"][1]
        found[f"features.{feature}.length"] = own["positions"][0]
    return found
