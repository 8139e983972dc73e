"""Training state on disk: what the next day's training starts from. Arrow, npz and JSON, no pickle.

FILE                CONTENT
state.json          format, day, step, widths of layers, sizes of tables, moments of labels
tables/NAME.arrow   key, values, slots of every row, and the day it left the vocabulary (null: it is in use)
dense.npz           weights by name
dense_slots.npz     their optimisers' slots: Adagrad's, or [2, …] of Adam
frequency.npz       the streaming frequency estimate
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa

from model.towers.auxiliary_head import Moments
from model.towers.two_tower import TwoTower
from twinspire_core.errors import BadData

FORMAT = 1
_HEAD, _TABLES, _DENSE, _SLOTS, _FREQUENCY = (
    "state.json",
    "tables",
    "dense.npz",
    "dense_slots.npz",
    "frequency.npz",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableState:
    """Rows of an embedding table by key, in use or archived.

    Attributes:
      keys: [rows] string, unique; see model/towers/architecture.py.
      values: [rows, width] float32.
      slots: [rows, width] float32, Adagrad's.
      left: [rows] date32, the day since which the key is out of the vocabulary; null while it is in
        it.
      shared: rows shared by hashing.
      hashed: whether the feature has no vocabulary.
    """

    keys: pa.Array
    values: np.ndarray
    slots: np.ndarray
    left: pa.Array
    shared: int
    hashed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All of it.

    Attributes:
      day: the last day trained on.
      step: steps ever taken.
      layers: widths of each tower's layers, by side.
      tables: by name.
      dense: (weight, slot) by name.
      frequency: arrays of the frequency estimate.
      labels: of all labels that the auxiliary head was trained on; None without one.
    """

    day: date
    step: int
    layers: Mapping[str, Sequence[int]]
    tables: Mapping[str, TableState]
    dense: Mapping[str, tuple[np.ndarray, np.ndarray]]
    frequency: Mapping[str, np.ndarray]
    labels: Moments | None = None

    @property
    def widths(self) -> dict[str, int]:
        """Width of each table, by name."""
        return {name: table.values.shape[1] for name, table in self.tables.items()}


def capture(
    model: TwoTower,
    frequency: Mapping[str, np.ndarray],
    *,
    day: date,
    step: int,
    archive: Mapping[str, TableState] | None = None,
) -> State:
    """Takes the state of a trained model, with the archived rows it was handed."""
    return State(
        day=day,
        step=step,
        layers=model.layout.layers,
        tables={name: _table(model, name, (archive or {}).get(name)) for name in model.tables},
        dense={name: (w.values.numpy(), w.slots.numpy()) for name, w in model.dense.items()},
        frequency=frequency,
        labels=model.head.seen if model.head else None,
    )


def _table(model: TwoTower, name: str, archive: TableState | None) -> TableState:
    spec, weight = model.layout.tables[name], model.tables[name]
    keys, values, slots = spec.keys, weight.values.numpy(), weight.slots.numpy()
    left = pa.nulls(spec.rows, pa.date32())
    if archive is not None:
        keys, left = pa.concat_arrays([keys, archive.keys]), pa.concat_arrays([left, archive.left])
        values, slots = (
            np.concatenate([values, archive.values]),
            np.concatenate([slots, archive.slots]),
        )
    return TableState(
        keys=keys, values=values, slots=slots, left=left, shared=spec.shared, hashed=spec.hashed
    )


def save(state: State, folder: Path) -> None:
    """Writes the state into a folder, which it makes."""
    (folder / _TABLES).mkdir(parents=True)
    for name, table in state.tables.items():
        columns = {
            "key": table.keys,
            "values": _fixed(table.values),
            "slots": _fixed(table.slots),
            "left": table.left,
        }
        with pa.ipc.new_file(
            str(folder / _TABLES / f"{name}.arrow"), pa.table(columns).schema
        ) as file:
            file.write_table(pa.table(columns))
    np.savez(
        folder / _DENSE,
        allow_pickle=False,
        **{name: weight for name, (weight, _) in state.dense.items()},
    )
    np.savez(
        folder / _SLOTS,
        allow_pickle=False,
        **{name: slot for name, (_, slot) in state.dense.items()},
    )
    np.savez(folder / _FREQUENCY, allow_pickle=False, **state.frequency)
    head = {
        "format": FORMAT,
        "day": state.day.isoformat(),
        "step": state.step,
        "layers": {side: list(widths) for side, widths in state.layers.items()},
        "tables": {
            name: {"shared": t.shared, "hashed": t.hashed} for name, t in state.tables.items()
        },
        "labels": state.labels,
    }
    (folder / _HEAD).write_text(json.dumps(head, indent=1))


def load(folder: Path) -> State:
    """Reads a state.

    Raises:
      BadData: it was written by a later release.
    """
    head = json.loads((folder / _HEAD).read_text())
    if head["format"] != FORMAT:
        raise BadData(
            f"This release reads training states of format {FORMAT}; {folder} has format"
            f" {head['format']}. It was written by another release: use that one, or train from"
            " scratch with --mode full."
        )
    dense, slots, frequency = (
        dict(np.load(folder / name)) for name in (_DENSE, _SLOTS, _FREQUENCY)
    )
    return State(
        day=date.fromisoformat(head["day"]),
        step=head["step"],
        layers=head["layers"],
        tables={name: _load_table(folder, name, **sizes) for name, sizes in head["tables"].items()},
        dense={name: (weight, slots[name]) for name, weight in dense.items()},
        frequency=frequency,
        labels=Moments(*head["labels"]) if head.get("labels") else None,
    )


def _load_table(folder: Path, name: str, *, shared: int, hashed: bool) -> TableState:
    with pa.memory_map(str(folder / _TABLES / f"{name}.arrow")) as file:
        table = pa.ipc.open_file(file).read_all().combine_chunks()
    return TableState(
        keys=table["key"].combine_chunks(),
        values=_matrix(table["values"]),
        slots=_matrix(table["slots"]),
        left=table["left"].combine_chunks(),
        shared=shared,
        hashed=hashed,
    )


def _fixed(matrix: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    array = column.combine_chunks()
    rows: np.ndarray = array.flatten().to_numpy().reshape(len(array), -1)
    return rows
