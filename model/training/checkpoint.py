"""Training state on disk, from which the next day's training starts. Arrow, npz and JSON, no pickle.

state.json          format, day, step, widths of layers, sizes of tables, moments of labels
tables/NAME.arrow   key, values and slots of every row, and the day on which it left the
vocabulary (null while it is in use)
dense.npz           weights by name
dense_slots.npz     their optimisers' slots: Adagrad's, or [2, …] of Adam
frequency.npz       the streaming frequency estimate
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa

from model.towers.two_tower import TwoTower
from twinspire_core.errors import BadData
from twinspire_core.metrics.intervals import Moments

FORMAT = 1
_STATE = "state.json"
_TABLES = "tables"
_DENSE = "dense.npz"
_SLOTS = "dense_slots.npz"
_FREQUENCY = "frequency.npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableState:
    """Rows of an embedding table by key, in use or archived.

    Attributes:
      keys: [rows] string, unique, as model/towers/architecture.py spells them.
      values: [rows, width] float32.
      slots: [rows, width] float32, Adagrad's.
      left: [rows] date32, the day on which the key left the vocabulary; null while it is in use.
      shared: number of shared rows, to which other values are hashed.
      hashed: whether the feature has no vocabulary.
    """

    keys: pa.Array
    values: np.ndarray
    slots: np.ndarray
    left: pa.Array
    shared: int
    hashed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """The training state.

    Attributes:
      day: the last day trained on.
      step: all steps so far, including those of earlier versions.
      layers: widths of each tower's layers, by side.
      tables: by name.
      dense: (weight, slots) by name.
      frequency: arrays of the frequency estimate.
      labels: moments of all labels that the auxiliary head was trained on; None without a head.
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
) -> TrainingState:
    """Copies the state of a model after training.

    Args:
      frequency: state of the frequency estimate.
      day: the last day trained on.
      step: all steps so far, including those of earlier versions.
      archive: archived rows, by table.
    """
    return TrainingState(
        day=day,
        step=step,
        layers=model.architecture.layers,
        tables={
            name: _capture_table(model, name, (archive or {}).get(name)) for name in model.tables
        },
        dense={
            name: (weight.values.numpy(), weight.slots.numpy())
            for name, weight in model.dense.items()
        },
        frequency=frequency,
        labels=model.head.seen if model.head else None,
    )


def _capture_table(model: TwoTower, name: str, archive: TableState | None) -> TableState:
    spec = model.architecture.tables[name]
    in_use = TableState(
        keys=spec.keys,
        values=model.tables[name].values.numpy(),
        slots=model.tables[name].slots.numpy(),
        left=pa.nulls(spec.rows, pa.date32()),
        shared=spec.shared,
        hashed=spec.hashed,
    )
    if archive is None:
        return in_use
    # Archived rows follow the rows in use. Only `left` distinguishes them.
    return replace(
        in_use,
        keys=pa.concat_arrays([in_use.keys, archive.keys]),
        values=np.concatenate([in_use.values, archive.values]),
        slots=np.concatenate([in_use.slots, archive.slots]),
        left=pa.concat_arrays([in_use.left, archive.left]),
    )


def save(state: TrainingState, folder: Path) -> None:
    """Writes the state into a new folder."""
    (folder / _TABLES).mkdir(parents=True)
    for name, table in state.tables.items():
        _save_table(table, folder / _TABLES / f"{name}.arrow")
    for name, arrays in (
        (_DENSE, {name: weight for name, (weight, _) in state.dense.items()}),
        (_SLOTS, {name: slots for name, (_, slots) in state.dense.items()}),
        (_FREQUENCY, state.frequency),
    ):
        # Not pickled, because reading a pickle runs any code in it.
        np.savez(folder / name, allow_pickle=False, **arrays)
    content = {
        "format": FORMAT,
        "day": state.day.isoformat(),
        "step": state.step,
        "layers": {side: list(widths) for side, widths in state.layers.items()},
        "tables": {
            name: {"shared": table.shared, "hashed": table.hashed}
            for name, table in state.tables.items()
        },
        "labels": state.labels,
    }
    (folder / _STATE).write_text(json.dumps(content, indent=1))


def load(folder: Path) -> TrainingState:
    """Reads a training state.

    Raises:
      BadData: it was written by a later release.
    """
    content = json.loads((folder / _STATE).read_text())
    if content["format"] != FORMAT:
        raise BadData(
            f"This release can read training states of format {FORMAT}; {folder} has format"
            f" {content['format']}. Another release wrote it. Use that release, or train from"
            " scratch with --mode full."
        )
    weights = dict(np.load(folder / _DENSE))
    slots = dict(np.load(folder / _SLOTS))
    labels = content["labels"]
    return TrainingState(
        day=date.fromisoformat(content["day"]),
        step=content["step"],
        layers=content["layers"],
        tables={
            name: _load_table(folder / _TABLES / f"{name}.arrow", **sizes)
            for name, sizes in content["tables"].items()
        },
        dense={name: (weight, slots[name]) for name, weight in weights.items()},
        frequency=dict(np.load(folder / _FREQUENCY)),
        labels=Moments(*labels) if labels else None,
    )


def _save_table(table: TableState, path: Path) -> None:
    columns = pa.table(
        {
            "key": table.keys,
            "values": _fixed_size_lists(table.values),
            "slots": _fixed_size_lists(table.slots),
            "left": table.left,
        }
    )
    with pa.ipc.new_file(str(path), columns.schema) as file:
        file.write_table(columns)


def _load_table(path: Path, *, shared: int, hashed: bool) -> TableState:
    # Memory-mapped, so that parts that a warm start does not need are never read.
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(file).read_all().combine_chunks()
    return TableState(
        keys=table["key"].combine_chunks(),
        values=_matrix(table["values"]),
        slots=_matrix(table["slots"]),
        left=table["left"].combine_chunks(),
        shared=shared,
        hashed=hashed,
    )


# Fixed-size lists have one buffer of values, so a matrix is written and read without a copy.
def _fixed_size_lists(matrix: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    array = column.combine_chunks()
    return array.flatten().to_numpy().reshape(len(array), -1)
