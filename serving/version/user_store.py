"""The users that are stored with a version, and the vocabularies of its query tower, for warnings about
unknown values.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from twinspire_core.config.feature_kinds import CategoriesFeature, CategoryFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import shorten
from twinspire_core.search.ragged import arrow_lists, list_lengths, list_rows
from twinspire_core.sources import user_histories

STORED_PAST = "_past"
"""Column of the items in a user's purchase history, the most frequent first."""
UNKNOWN = -1
_FEW = 16  # users, up to which the files are searched instead of loaded
_TAKEN = (STORED_PAST, user_histories.ITEMS)


class IdTable:
    """Rows of a table by the ids in a column of distinct ids."""

    def __init__(self, ids: pa.Array | pa.ChunkedArray) -> None:
        self._row = {name: row for row, name in enumerate(ids.to_pylist())}

    def __len__(self) -> int:
        return len(self._row)

    def rows(self, wanted: pa.Array | pa.ChunkedArray | list[str]) -> np.ndarray:
        """The row of each id, [N] int32; `UNKNOWN` for null and for ids without a row."""
        names = wanted if isinstance(wanted, list) else wanted.to_pylist()
        find = self._row.get
        # A dict beats Arrow's `index_in`, which hashes the whole column for each call.
        return np.array([find(name, UNKNOWN) for name in names], np.int32)


class UserStore:
    """The users that are stored with a version, in Parquet files.

    A lookup of few users scans the id column. A lookup of many loads the whole table and keeps it.
    """

    def __init__(self, folder: Path) -> None:
        self._files = ds.dataset(folder, format="parquet")

    def find(self, users: list[str | None]) -> tuple[pa.Table, np.ndarray]:
        """Looks users up by id. None as an id is unknown, like any other id that is not there.

        Returns: [N] rows of the table, null for unknown users; and [N] bool, whether each is known.
        """
        wanted = pa.array(users, pa.string())
        # `__dict__` has a cached property only after its first use, and reading it would load the table.
        is_loaded = "_ids" in self.__dict__
        if is_loaded or len(users) > _FEW:
            table = self._table
            ids = self._ids
        else:
            table = self._files.to_table(filter=ds.field("_user").isin(wanted))
            ids = IdTable(table["_user"])
        rows = ids.rows(wanted)
        return table.take(pa.array(rows, mask=rows == UNKNOWN)), rows != UNKNOWN

    def count(self) -> int:
        """The number of users; loads the whole table, so that no later call reads a file."""
        return len(self._ids)

    def some(self, most: int) -> list[str]:
        """At most `most` user ids, spread evenly over the table; loads it."""
        count = len(self._ids)
        wanted = min(count, most)
        # Not the first ones, because neighbours in the table may be alike
        rows = [n * count // wanted for n in range(wanted)]
        return self._table["_user"].take(rows).to_pylist()

    @cached_property
    def _table(self) -> pa.Table:
        table = _with_numbers(self._files.to_table().combine_chunks())
        # Arrow's memory pool would keep the freed chunks, which are as large as the table.
        pa.default_memory_pool().release_unused()
        return table

    @cached_property
    def taken(self) -> pa.Array:
        """Distinct item ids in all histories. The lists of a loaded table are indices into these."""
        types = {field.name: field.type for field in self._table.schema}
        coded = (n for n in _TAKEN if n in types and pa.types.is_dictionary(types[n].value_type))
        return self._table[next(coded)].combine_chunks().values.dictionary

    @cached_property
    def _ids(self) -> IdTable:
        return IdTable(self._table["_user"])


def _with_numbers(table: pa.Table) -> pa.Table:
    """The table with histories dictionary-encoded by one dictionary for all columns. They take less
    memory, and no request needs to look up texts.
    """
    lists = {name: table[name].combine_chunks() for name in _TAKEN if name in table.column_names}
    # Arrow drops chunks without a value, so a column without any stays as it is.
    texts = {name: texts for name, column in lists.items() if len(texts := column.flatten())}
    if not texts:
        return table
    numbers = pa.chunked_array(list(texts.values())).dictionary_encode().unify_dictionaries()
    for name, chunk in zip(texts, numbers.chunks, strict=True):
        lengths, missing = list_lengths(lists[name]), lists[name].is_null()
        coded = arrow_lists(lengths, chunk, missing=missing)
        table = table.set_column(table.schema.get_field_index(name), name, coded)
    return table


_NAMED = 5  # values that a warning names
Unknown = Mapping[int, Sequence[str]]
"""Warnings by the number of the query, for queries with unknown values."""


class Vocabularies:
    """The vocabularies of the query tower's features of kind `category` and `categories`. All other values
    are the same to the tower.

    Args:
      tower: folder of the query tower. It has a file for each of these features, a value per line;
        hashed features have no file.
      version: id of the version, which warnings name.
    """

    def __init__(self, pipeline: Pipeline, tower: Path, version: str) -> None:
        self._version = version
        self._known: dict[str, dict[str, None]] = {}
        for name, f in pipeline.tower("query").items():
            file = tower / "assets" / name
            if isinstance(f, CategoryFeature | CategoriesFeature) and file.is_file():
                lines = file.read_bytes().decode().split("\n")
                self._known[name] = dict.fromkeys(["", *lines])  # "" is a missing value

    def unknown(self, requests: pa.Table) -> Unknown:
        """Warnings about values that are in no vocabulary.

        Args:
          requests: [B] rows of `Requests.table`, before stored users fill in what is missing.
        """
        warnings: dict[int, list[str]] = {}
        for name, vocabulary in self._known.items():
            for row, values in _unknown_values(requests[name].combine_chunks(), vocabulary).items():
                warnings.setdefault(row, []).append(
                    f"{self._version} was trained without {name} {_few(values)}; with {_few(vocabulary)}"
                )
        return warnings


def _unknown_values(column: pa.Array, vocabulary: Mapping[str, None]) -> dict[int, dict[str, None]]:
    """The distinct unknown values of each row that has any."""
    if pa.types.is_list(column.type):
        values = column.flatten()
        rows = list_rows(list_lengths(column))
    else:
        values = column
        rows = np.arange(len(column))
    unknown = {
        value
        for value in pc.unique(values).to_pylist()
        if value is not None and value not in vocabulary
    }
    # Nearly every batch ends here. The loop below is slow: it makes a Python object of each value.
    if not unknown:
        return {}
    of_row: dict[int, dict[str, None]] = {}
    for row, value in zip(rows.tolist(), values.to_pylist(), strict=True):
        if value in unknown:
            of_row.setdefault(row, {})[value] = None
    return of_row


def _few(values: Mapping[str, None]) -> str:
    first = [shorten(value) for value in islice(filter(None, values), _NAMED + 1)]
    text = ", ".join(first[:_NAMED])
    return f"{text}, …" if len(first) > _NAMED else text
