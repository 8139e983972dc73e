"""Contract of a train attempt: what lies where, and how Arrow rows go into a tower. Imports no
TensorFlow.

    query_tower/   SavedModel: raw query features -> unit vectors
    item_tower/    SavedModel: raw item features  -> unit vectors
    state/         what the next day's training starts from (model/training/checkpoint.py)
    training.json, vectors/  what `measure` reads (`TrainedDay`)

Both SavedModels have the signature `serving_default`: keyword arguments named like the raw columns
of twinspire_core/contracts/feature_schema.py, any number of rows, and the result `{"vector": [B, D]
float32}`, each row of length 1. Scalars are `[B]` and lists `[B, L]`, padded at the end; L is the
longest list of the call, or the declared size of a vector.

The rows may be of another day's pipeline file, whose features have changed: a column that is not
there, or has another form than the tower was trained with (a list for a text, a text for a number,
a vector of another size), is missing.

What the train stage leaves for `measure`, so that this needs no TensorFlow: vectors of the day's
queries and corpus, and what only training knows.

    training.json         `TrainedDay`
    vectors/before.npz    by what has not seen the day: the parent, or a first version before it was
                          trained on its last day; not there without either
    vectors/best.npz      by the best accepted version, where that is not the parent
    vectors/version.npz   by the day's version, of users held out
    vectors/log_q.npy     [C] float32, natural log of each corpus item's share of the training rows;
                          not there without an estimate

Item and query vectors as the embed stage leaves them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import numpy as np
import pyarrow as pa

from twinspire_core import storage
from twinspire_core.contracts.day_metrics import (
    AuxiliaryFigures,
    BestMeasures,
    FrequencyFigures,
    TrainingFigures,
)
from twinspire_core.contracts.json_files import JsonFile
from twinspire_core.errors import BadData
from twinspire_core.search.ragged import list_lengths, list_places, list_rows
from twinspire_core.storage import parquet_files

QUERY_TOWER = "query_tower"
ITEM_TOWER = "item_tower"
TOWERS = {"query": QUERY_TOWER, "item": ITEM_TOWER}
STATE = "state"
SIGNATURE = "serving_default"
VECTOR = "vector"

# What stands for a missing value and fills the end of short lists. The transform graph reads them
# as missing.
MISSING: dict[str, Any] = {"string": b"", "float32": np.nan, "int64": -1}


class Input(NamedTuple):
    """One argument of a tower.

    Attributes:
      dtype: `string`, `float32` or `int64`.
      listed: `[B, L]` instead of `[B]`.
      width: L where it is fixed (vectors), else None.
    """

    dtype: str
    listed: bool = False
    width: int | None = None


class Signatures(Protocol):
    """What `tf.saved_model.load` returns, or what is about to be saved, as far as it is used
    here.
    """

    @property
    def signatures(self) -> Mapping[str, Any]:
        """Callables by name."""


class Tower:
    """A tower, called with Arrow tables.

    Examples:
      >>> tower = Tower(tf.saved_model.load(f"{attempt}/{ITEM_TOWER}"))  # doctest: +SKIP
      >>> vectors = tower(corpus)  # doctest: +SKIP
    """

    def __init__(self, model: Signatures) -> None:
        self.model = model  # its variables live as long as this reference does
        self._call = model.signatures[SIGNATURE]
        self.inputs = {
            name: input_of(spec) for name, spec in self._call.structured_input_signature[1].items()
        }
        self.dimension = int(self._call.structured_outputs[VECTOR].shape[-1])

    def __call__(self, table: pa.Table, *, batch_rows: int = 4096) -> np.ndarray:
        """Encodes rows; columns that the tower does not know are ignored, those that it cannot read
        are missing values.

        Args:
          table: raw features, as the feature job writes them.
          batch_rows: rows per call; memory grows with it.

        Returns: [N, D] float32, rows of length 1.
        """
        parts = [
            self._call(**batch)[VECTOR].numpy() for batch in batches(table, self.inputs, batch_rows)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.dimension), np.float32)


def has_state(train: str) -> bool:
    """Whether the state of a training is still there, to go on from.

    Args:
      train: place of the train attempt.
    """
    return storage.exists(storage.join(train, STATE))


def batches(
    table: pa.Table, inputs: Mapping[str, Input], rows: int
) -> Iterator[dict[str, np.ndarray]]:
    """Cuts a table into the arguments of successive calls of a tower, `rows` rows each, the last
    one fewer.
    """
    for start in range(0, table.num_rows, rows):
        yield arrays(table.slice(start, rows), inputs)


def arrays(table: pa.Table, inputs: Mapping[str, Input]) -> dict[str, np.ndarray]:
    """Converts a few thousand Arrow rows to a tower's arguments: [B] or [B, L] arrays by name."""
    return {name: _array(table, name, spec) for name, spec in inputs.items()}


def _array(table: pa.Table, name: str, spec: Input) -> np.ndarray:
    if name not in table.column_names or not _has_form(table.schema.field(name).type, spec):
        shape = (table.num_rows, spec.width or 1) if spec.listed else (table.num_rows,)
        return np.full(shape, MISSING[spec.dtype], _numpy_type(spec))
    column = table.column(name)
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return _padded(column, spec) if spec.listed else _values(column, spec)


def _has_form(kind: pa.DataType, spec: Input) -> bool:
    """Whether values of an Arrow type can be read as an argument; the size of vectors is looked at
    row by row.
    """
    listed = (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
    value = kind.value_type if listed or pa.types.is_dictionary(kind) else kind
    text = pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_binary(value)
    fits = {"string": text, "int64": pa.types.is_integer(value), "float32": not text}
    return bool(listed == spec.listed and fits[spec.dtype])


def _values(column: pa.Array, spec: Input) -> np.ndarray:
    # Strings travel as bytes: TensorFlow takes them as they are.
    kind = {"string": pa.binary(), "float32": pa.float32(), "int64": pa.int64()}[spec.dtype]
    if spec.dtype == "string" and not pa.types.is_binary(column.type):
        column = column.cast(pa.string())
    filled = column.cast(kind).fill_null(pa.scalar(MISSING[spec.dtype], kind))
    values: np.ndarray = filled.to_numpy(zero_copy_only=False)
    return values


def _padded(column: pa.Array, spec: Input) -> np.ndarray:
    lengths = list_lengths(column)
    width = spec.width or max(1, int(lengths.max(initial=0)))
    padded = np.full((len(lengths), width), MISSING[spec.dtype], _numpy_type(spec))
    row = list_rows(lengths)
    place = list_places(lengths)
    fits = np.repeat(lengths == width, lengths) if spec.width else place < width
    padded[row[fits], place[fits]] = _values(column.flatten(), spec)[fits]
    return padded


def _numpy_type(spec: Input) -> Any:
    return {"string": object, "float32": np.float32, "int64": np.int64}[spec.dtype]


def input_of(spec: Any) -> Input:
    """Reads an argument's form from a TensorSpec."""
    return Input(
        spec.dtype.name, spec.shape.rank == 2, spec.shape[1] if spec.shape.rank == 2 else None
    )


FOLDER = "vectors"
BEFORE, BEST, VERSION = "before.npz", "best.npz", "version.npz"
_LOG_Q = "log_q.npy"
_PLACE = "place/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Vectors of the queries of several evaluation sets, and of the corpus: U queries of a set, Q
    distinct queries of all sets, C items, D dimensions.

    Evaluation sets share many queries, and the events of a basket are one query: each distinct
    query is encoded, and later searched for, once.

    Attributes:
      distinct: [Q, D] float32, vectors of the distinct queries.
      place: by evaluation set, [U] int64: which of the distinct queries each query is.
      items: [C, D] float32.
    """

    distinct: np.ndarray
    place: Mapping[str, np.ndarray]
    items: np.ndarray

    def queries(self, name: str) -> np.ndarray:
        """Vectors of the queries of an evaluation set, [U, D] float32."""
        vectors: np.ndarray = self.distinct[self.place[name]]
        return vectors

    def write(self, attempt: Path, name: str) -> None:
        """Writes one of the files of a train attempt."""
        (attempt / FOLDER).mkdir(parents=True, exist_ok=True)
        places = {_PLACE + one: place for one, place in self.place.items()}
        arrays = {"distinct": self.distinct, "items": self.items, **places}
        np.savez(attempt / FOLDER / name, allow_pickle=False, **arrays)

    @classmethod
    def find(cls, attempt: str, name: str) -> Self | None:
        """Reads one of the files of a train attempt, local or remote; None where there is none."""
        arrays = _load(attempt, name)
        if arrays is None:
            return None
        places = [one for one in arrays.files if one.startswith(_PLACE)]
        return cls(
            distinct=arrays["distinct"],
            place={one.removeprefix(_PLACE): arrays[one] for one in places},
            items=arrays["items"],
        )


def write_log_q(attempt: Path, log_q: np.ndarray) -> None:
    """Writes the estimated shares of a train attempt."""
    np.save(attempt / FOLDER / _LOG_Q, log_q, allow_pickle=False)


def find_log_q(attempt: str) -> np.ndarray | None:
    """The estimated shares of a train attempt, local or remote; None where there are none."""
    found: np.ndarray | None = _load(attempt, _LOG_Q)
    return found


def _load(attempt: str, name: str) -> Any:
    place = storage.join(attempt, FOLDER, name)
    return np.load(BytesIO(storage.read_bytes(place))) if storage.exists(place) else None


class TrainedDay(JsonFile):
    """The file.

    Attributes:
      train: what training did.
      parent_unread: features that the parent reads and the day has not, or has in another form.
      best: the best accepted version before the day, of which nothing is measured yet; None where
        no line is remembered.
      held_out_shares: by day, the share of users that was held out (model/evaluation/queries.py).
      gaps: `from`, `to` and `command`: days with logs that nobody was trained on.
      auxiliary: the head that learns labels, measured too; None without one.
      frequency: None without an estimate, or without rows.
    """

    FILE: ClassVar[str] = "training.json"

    train: TrainingFigures
    parent_unread: Sequence[str] = ()
    best: BestMeasures | None = None
    held_out_shares: Mapping[str, float] = {}
    gaps: Sequence[Mapping[str, str]] = ()
    auxiliary: AuxiliaryFigures | None = None
    frequency: FrequencyFigures | None = None


ITEMS, QUERIES = "items", "queries"  # folders of the embed stage


def read_items(embed: str) -> tuple[pa.Array, np.ndarray]:
    """Ids and vectors of the corpus, in order of id: each once, finite, as the embed stage has seen.

    Returns: [N] string and [N, D] float32.

    Raises:
      BadData: there are none.
    """
    ids, vectors = _read(embed, ITEMS, "_item")
    if not len(ids):
        raise BadData(
            "An index needs items, and the corpus is empty. Look at corpus.filter, corpus.days and"
            " the items snapshot."
        )
    return ids, vectors


def read_queries(embed: str) -> np.ndarray:
    """Query vectors in order of user, [Q, D] float32."""
    return _read(embed, QUERIES, "_user")[1]


def _read(embed: str, name: str, key: str) -> tuple[pa.Array, np.ndarray]:
    folder = storage.join(embed, name)
    if not parquet_files.list_parquet(folder):
        return pa.array([], pa.string()), np.zeros((0, 1), np.float32)
    table = parquet_files.read_folder(folder).sort_by(key).combine_chunks()
    vectors = table["vector"].combine_chunks()
    values = vectors.flatten().to_numpy().reshape(-1, vectors.type.list_size)
    return table[key].combine_chunks(), values
