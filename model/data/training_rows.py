"""Training data as arrays: the transformed rows of a day in the order of time, and the items of its corpus,
from which uniform negatives are drawn.

N rows; L entries of the longest list of a column; C items.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf

from model.item_fingerprint import fingerprint
from model.towers.architecture import FeatureColumn
from model.towers.export import Transform
from twinspire_core.contracts import feature_schema, model_bundle
from twinspire_core.errors import BadData
from twinspire_core.storage import parquet_files

_SORTED_BY = ("_time", "_user", "_item")
_META = (*_SORTED_BY, "_reward")
# Rows converted at a time, because a conversion needs many times the memory of its result.
_ROWS_CONVERTED = 1 << 15
# Items of the corpus transformed at a time, so that strings of the whole corpus are never in memory.
_ITEMS_TRANSFORMED = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Examples of one day or of several.

    Attributes:
      features: transformed columns by name, [N] or [N, L]; ids are int32 with 0 as padding, numbers
        are float32.
      user: [N] int64, fingerprints of the users' ids.
      item: [N] int64, fingerprints of the items' ids.
      reward: [N] float32.
      time: [N] int64, microseconds since 1970, ascending.
      label: [N] float32, the label that the auxiliary head learns, nan if missing; None without such a head.
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
    return sum(map(parquet_files.count_rows, parquet_files.list_parquet(str(folder))))


def count_items(folders: Iterable[Path]) -> int:
    """How many different items several days have."""
    days = (
        parquet_files.read_folder(str(folder), ["_item"])["_item"].unique() for folder in folders
    )
    return len(pa.chunked_array(list(days), pa.string()).unique())


def read(folder: Path, columns: Sequence[FeatureColumn], *, label: bool = False) -> Rows:
    """Reads one day's rows, sorted by time, user and item, whatever the order of the files.

    Args:
      columns: the columns that the towers read.
      label: whether to read labels for an auxiliary head.

    Raises:
      BadData: there is no file, or a required column is missing.
    """
    meta = [*_META, feature_schema.LABEL] if label else [*_META]
    files = sorted(folder.glob("*.parquet"))
    _check_columns(folder, files, [*meta, *dict.fromkeys(column.name for column in columns)])
    table = parquet_files.read_folder(str(folder), meta)
    # Sorting makes training independent of how the job distributed its rows over files.
    order = pc.sort_indices(table, [(name, "ascending") for name in _SORTED_BY])
    table = table.take(order)
    position = np.empty(len(table), np.int64)
    position[order.to_numpy()] = np.arange(len(table))
    time = table["_time"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    return Rows(
        features={column.name: _read_feature(files, column, position) for column in columns},
        user=fingerprint(table["_user"]),
        item=fingerprint(table["_item"]),
        reward=table["_reward"].to_numpy(),
        time=time.to_numpy(),
        label=table[feature_schema.LABEL].to_numpy() if label else None,
    )


def _check_columns(folder: Path, files: Sequence[Path], columns: Sequence[str]) -> None:
    if not files:
        raise BadData(
            f"Training needs transformed rows; {folder} has no Parquet file. Run the features"
            " stage again."
        )
    there = pq.read_schema(files[0]).names
    if missing := [name for name in columns if name not in there]:
        raise BadData(
            f"Training rows need a column for each input of the towers; {files[0]} has no"
            f" {', '.join(missing)}. The pipeline file was probably edited after the features"
            " stage. Run that stage again."
        )


def _read_feature(files: Sequence[Path], column: FeatureColumn, position: np.ndarray) -> np.ndarray:
    """A column's values, [N] or [N, L]; `position`, [N] int64, says where each row of the files goes.

    It is converted in chunks, because a conversion needs many times the memory of its result.
    """
    pieces = deque(
        _convert(batch, column)
        for file in files
        for batch in pq.ParquetFile(file).iter_batches(_ROWS_CONVERTED, columns=[column.name])
    )
    dtype = np.int32 if column.form in ("id", "ids") else np.float32
    is_list = column.form in ("ids", "vector")
    width = max((piece.shape[1] for piece in pieces if piece.ndim > 1), default=0)
    values = np.zeros((len(position), width) if is_list else len(position), dtype)
    first = 0
    while pieces:
        piece = pieces.popleft()  # frees the memory before the next one is copied
        rows = position[first : first + len(piece)]
        if is_list:
            values[rows, : piece.shape[1]] = piece
        else:
            values[rows] = piece
        first += len(piece)
    return values


def _convert(batch: pa.RecordBatch, column: FeatureColumn) -> np.ndarray:
    """A column of some rows, [N] or [N, L]."""
    name = column.name
    if column.form in ("number", "id"):
        dtype = pa.float32() if column.form == "number" else pa.int32()
        return batch.column(name).cast(dtype).to_numpy(zero_copy_only=False)
    is_vector = column.form == "vector"
    ids = model_bundle.Input("int64", True)
    spec = model_bundle.Input("float32", True, column.width) if is_vector else ids
    table = pa.table({name: batch.column(name)})
    padded: np.ndarray = model_bundle.arrays(table, {name: spec})[name]
    # Inputs of towers are padded with -1, training rows with 0.
    return padded if is_vector else np.maximum(padded, 0).astype(np.int32)


def join(days: Sequence[Rows]) -> Rows:
    """Concatenates several days in the given order."""
    # Either all days have labels or none has, because one pipeline file decides whether there is a head.
    labels = [day.label for day in days if day.label is not None]
    return Rows(
        features={
            name: concat_padded([day.features[name] for day in days]) for name in days[0].features
        },
        user=np.concatenate([day.user for day in days]),
        item=np.concatenate([day.item for day in days]),
        reward=np.concatenate([day.reward for day in days]),
        time=np.concatenate([day.time for day in days]),
        label=np.concatenate(labels) if len(labels) == len(days) else None,
    )


def select(rows: Rows, places: np.ndarray) -> Rows:
    """Some of the rows, [K] int64 ascending."""
    return Rows(
        features={name: values[places] for name, values in rows.features.items()},
        user=rows.user[places],
        item=rows.item[places],
        reward=rows.reward[places],
        time=rows.time[places],
        label=None if rows.label is None else rows.label[places],
    )


def concat_padded(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenates arrays of one column, [N] or [N, L]; shorter lists are padded to the longest."""
    if arrays[0].ndim == 1:
        return np.concatenate(arrays)
    width = max(array.shape[1] for array in arrays)
    padded = []
    for array in arrays:
        if array.shape[1] < width:  # np.pad copies even if there is nothing to pad
            array = np.pad(array, ((0, 0), (0, width - array.shape[1])))
        padded.append(array)
    return np.concatenate(padded)


@dataclass(frozen=True, slots=True, kw_only=True)
class NegativeCorpus:
    """C items that can be recommended.

    Attributes:
      features: transformed columns of the item tower by name, [C] or [C, L], as
        `model.data.training_rows.Rows` has them.
      item: [C] int64, fingerprints of the items' ids, each once.
      ordered: [C] int64, the same in ascending order.
    """

    features: Mapping[str, np.ndarray]
    item: np.ndarray
    ordered: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        """Sorts the items once."""
        object.__setattr__(self, "ordered", np.sort(self.item))

    def __len__(self) -> int:
        return len(self.item)

    def draw_probability(self, item: np.ndarray) -> np.ndarray:
        """The probability that a draw returns each of these items, [M] int64: [M] float32, 0 outside the
        corpus. Every step calls this, so it must not read the whole corpus.
        """
        if not len(self):
            return np.zeros(len(item), np.float32)
        place = np.searchsorted(self.ordered, item).clip(max=len(self) - 1)
        return (self.ordered[place] == item).astype(np.float32) / len(self)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Draws n items uniformly with replacement; none from an empty corpus.

        Returns: their features by column, and their fingerprints, [n] int64.
        """
        # With replacement, so that the probability of each draw is 1 / C.
        drawn = rng.integers(0, len(self), n if len(self) else 0)
        return {name: column[drawn] for name, column in self.features.items()}, self.item[drawn]


def read_corpus(
    corpus: Path, transform: Transform, columns: Sequence[FeatureColumn]
) -> NegativeCorpus:
    """Reads the folder `corpus/start/` and transforms it.

    Args:
      transform: the transform graph's part for the item tower.
      columns: transformed columns that the item tower reads.
    """
    table = parquet_files.read_folder(str(corpus))
    inputs = {name: model_bundle.input_of(spec) for name, spec in transform.inputs.items()}
    call = tf.function(lambda **raw: transform(raw), autograph=False)
    call = call.get_concrete_function(**transform.inputs)
    batches = list(model_bundle.batches(table, inputs, _ITEMS_TRANSFORMED))
    if not batches:
        # Columns of an empty corpus still need a type and a shape.
        batches = [model_bundle.arrays(table, inputs)]
    transformed = [call(**batch) for batch in batches]
    features = {
        column.name: concat_padded([batch[column.name].numpy() for batch in transformed])
        for column in columns
    }
    return NegativeCorpus(
        # In the types of training rows, whose ids are int32.
        features={
            name: values.astype(np.int32) if values.dtype == np.int64 else values
            for name, values in features.items()
        },
        item=fingerprint(table["_item"]),
    )
