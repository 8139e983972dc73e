"""From ids to rows: of items, and of the users that a version carries."""

from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from twinspire_core.search.ragged import arrow_lists, list_lengths
from twinspire_core.sources import personal_counts

STORED_PAST = "_past"
"""Column of items that were taken."""
UNKNOWN = -1
_FEW = 16  # users; for so many the files are searched instead of loaded
_TAKEN = (STORED_PAST, personal_counts.ITEMS)


class IdTable:
    """Finds the rows of ids in a column of distinct ids."""

    def __init__(self, ids: pa.Array | pa.ChunkedArray) -> None:
        self._row = {name: row for row, name in enumerate(ids.to_pylist())}

    def __len__(self) -> int:
        return len(self._row)

    def rows(self, wanted: pa.Array | pa.ChunkedArray | list[str]) -> np.ndarray:
        """The row of each id, `UNKNOWN` where there is none or the id is null, [N] int32."""
        names = wanted if isinstance(wanted, list) else wanted.to_pylist()
        find = self._row.get
        return np.array([find(name, UNKNOWN) for name in names], np.int32)


class UserStore:
    """Looks users up. A few cost a scan of the id column; many load the whole table, which then
    stays in memory.
    """

    def __init__(self, folder: Path) -> None:
        self._files = ds.dataset(folder, format="parquet")

    @property
    def schema(self) -> pa.Schema:
        """Columns of the table: `_user`, `_past`, raw query features."""
        return self._files.schema

    def find(self, users: list[str | None]) -> tuple[pa.Table, np.ndarray]:
        """Looks users up.

        Args:
          users: [N] ids; null is nobody.

        Returns: [N] rows of the table, null where a user is unknown, and whether each is known, [N]
        bool.
        """
        wanted = pa.array(users, pa.string())
        is_loaded = "_ids" in self.__dict__
        if is_loaded or len(users) > _FEW:
            table = self._table
            ids = self._ids
        else:
            table = self._files.to_table(filter=ds.field("_user").isin(wanted))
            ids = IdTable(table["_user"])
        rows = ids.rows(wanted)
        return table.take(pa.array(rows, mask=rows == UNKNOWN)), rows != UNKNOWN

    def load(self) -> None:
        """Loads the whole table, so that no later call reads a file."""
        assert self._ids is not None

    def count(self) -> int:
        """How many users there are; loads the table."""
        return len(self._ids)

    def some(self, most: int) -> list[str]:
        """Ids of users, at most so many, spread over the table; loads it."""
        count = len(self._ids)
        taken = min(count, most)
        ids: list[str] = (
            self._table["_user"].take([n * count // taken for n in range(taken)]).to_pylist()
        )
        return ids

    @cached_property
    def _table(self) -> pa.Table:
        table = _with_numbers(self._files.to_table().combine_chunks())
        # The chunks, as large as the table, would stay with the process.
        pa.default_memory_pool().release_unused()
        return table

    @cached_property
    def taken(self) -> pa.Array:
        """Distinct ids of the items that users took; the lists of a loaded table are numbers of these."""
        types = {field.name: field.type for field in self._table.schema}
        coded = (n for n in _TAKEN if n in types and pa.types.is_dictionary(types[n].value_type))
        return self._table[next(coded)].combine_chunks().values.dictionary

    @cached_property
    def _ids(self) -> IdTable:
        return IdTable(self._table["_user"])


def _with_numbers(table: pa.Table) -> pa.Table:
    """A table in which lists of what users took are numbers of distinct ids, all columns of the same:
    they take less memory, and no text is looked up for each request.
    """
    lists = {name: table[name].combine_chunks() for name in _TAKEN if name in table.column_names}
    # Arrow leaves out chunks without a value; such a column stays as it is.
    texts = {name: texts for name, of_one in lists.items() if len(texts := of_one.flatten())}
    if not texts:
        return table
    numbers = pa.chunked_array(list(texts.values())).dictionary_encode().unify_dictionaries()
    for name, chunk in zip(texts, numbers.chunks, strict=True):
        lengths, missing = list_lengths(lists[name]), lists[name].is_null()
        coded = arrow_lists(lengths, chunk, missing=missing)
        table = table.set_column(table.schema.get_field_index(name), name, coded)
    return table
