"""Training rows: a day's transformed Parquet as arrays, in time order."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from model.item_fingerprint import fingerprint
from model.towers.architecture import FeatureColumn
from twinspire_core.contracts import feature_schema, model_bundle
from twinspire_core.errors import BadData

_META = ("_time", "_user", "_item", "_reward")
_PIECE = 1 << 15
"""Rows converted at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Examples of one day or of several.

    Attributes:
      features: transformed columns by name, [N] or [N, L]; ids int32 with 0 as padding, numbers
        float32.
      user: [N] int64, fingerprints of the users' ids.
      item: [N] int64, fingerprints of the items' ids.
      reward: [N] float32.
      time: [N] int64, microseconds since 1970, ascending.
      label: [N] float32, what an auxiliary head learns, nan for none; None where there is no such
        head.
    """

    features: Mapping[str, np.ndarray]
    user: np.ndarray
    item: np.ndarray
    reward: np.ndarray
    time: np.ndarray
    label: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.time)


def count(folder: Path) -> int:
    """How many rows a day has."""
    return sum(pq.read_metadata(file).num_rows for file in folder.glob("*.parquet"))


def read(folder: Path, parts: Sequence[FeatureColumn], *, label: bool = False) -> Rows:
    """Reads one day's rows, sorted by time, user, item, whatever the files' order; labels only if
    asked for.

    Raises:
      BadData: a column that a tower needs is not there.
    """
    meta = (*_META, *([feature_schema.LABEL] if label else []))
    columns = list(dict.fromkeys(part.column for part in parts))
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise BadData(
            f"Training needs transformed rows; {folder} holds no Parquet file: run the features"
            " stage again."
        )
    missing = [c for c in (*meta, *columns) if c not in pq.read_schema(files[0]).names]
    if missing:
        raise BadData(
            f"Training rows need a column per input of the towers; {files[0]} has no"
            f" {', '.join(missing)}. The pipeline file was probably edited after the features"
            " stage: run that stage again."
        )
    table = pa.concat_tables(pq.read_table(file, columns=list(meta)) for file in files)
    order = pc.sort_indices(table, [(name, "ascending") for name in meta[:3]])
    table, place = table.take(order), np.empty(len(table), np.int64)
    place[order.to_numpy()] = np.arange(len(table))
    return Rows(
        features={part.column: _feature(files, part, place) for part in parts},
        user=fingerprint(table["_user"]),
        item=fingerprint(table["_item"]),
        reward=table["_reward"].to_numpy(),
        time=table["_time"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy(),
        label=table[feature_schema.LABEL].to_numpy() if label else None,
    )


def _feature(files: Sequence[Path], part: FeatureColumn, place: np.ndarray) -> np.ndarray:
    """A column, each row at its place: converted piece by piece, as the conversion takes many times
    its result.
    """
    pieces = deque(
        _values(batch, part)
        for file in files
        for batch in pq.ParquetFile(file).iter_batches(_PIECE, columns=[part.column])
    )
    kind = np.int32 if part.form in ("id", "ids") else np.float32
    width = max((piece.shape[1] for piece in pieces if piece.ndim > 1), default=0)
    listed, first = part.form in ("ids", "vector"), 0
    found = np.zeros((len(place), width) if listed else len(place), kind)
    while pieces:
        piece = pieces.popleft()
        rows = place[first : first + len(piece)]
        if listed:
            found[rows, : piece.shape[1]] = piece
        else:
            found[rows] = piece
        first += len(piece)
    return found


def _values(batch: pa.RecordBatch, part: FeatureColumn) -> np.ndarray:
    column = batch.column(part.column)
    if part.form == "number":
        numbers: np.ndarray = column.cast(pa.float32()).to_numpy(zero_copy_only=False)
        return numbers
    if part.form == "id":
        ids: np.ndarray = column.cast(pa.int32()).to_numpy(zero_copy_only=False)
        return ids
    spec = (
        model_bundle.Input("float32", True, part.width)
        if part.form == "vector"
        else model_bundle.Input("int64", True)
    )
    padded = model_bundle.arrays(pa.table({part.column: column}), {part.column: spec})[part.column]
    return padded if part.form == "vector" else np.maximum(padded, 0).astype(np.int32)


def join(days: Sequence[Rows]) -> Rows:
    """Puts several days into one, in the order given."""
    labels = [day.label for day in days if day.label is not None]
    return Rows(
        features={name: stacked([day.features[name] for day in days]) for name in days[0].features},
        user=np.concatenate([day.user for day in days]),
        item=np.concatenate([day.item for day in days]),
        reward=np.concatenate([day.reward for day in days]),
        time=np.concatenate([day.time for day in days]),
        label=np.concatenate(labels) if len(labels) == len(days) else None,
    )


def stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Puts arrays of one column below each other; shorter lists are padded to the longest."""
    if arrays[0].ndim == 1:
        return np.concatenate(arrays)
    width = max(a.shape[1] for a in arrays)
    # Padding by nothing copies: of a window's histories that is as much as they are.
    padded = (
        a if a.shape[1] == width else np.pad(a, ((0, 0), (0, width - a.shape[1]))) for a in arrays
    )
    return np.concatenate(list(padded))


def batches(order: np.ndarray, size: int) -> list[np.ndarray]:
    """Cuts an order into batches of `size` rows or more: the rows left over are spread over all of
    them.

    Only a day with fewer rows than that gives a smaller batch, its only one.
    """
    return np.array_split(order, max(1, len(order) // size)) if len(order) else []


def take(rows: Rows, batch: np.ndarray, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Features of a batch, by column."""
    return {name: rows.features[name][batch] for name in columns}
