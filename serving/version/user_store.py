"""From ids to rows: of items, and of the users that a version carries."""

from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

UNKNOWN = -1
_FEW = 16  # users; for so many the files are searched instead of loaded


class IdTable:
    """Finds the rows of ids in a column of distinct ids.

    Hashes are sorted once and searched; a match counts only if the id itself is equal. 12 bytes per
    id, beside the ids.
    """

    def __init__(self, ids: pa.Array | pa.ChunkedArray) -> None:
        self.ids = pl.Series(ids, dtype=pl.String)
        hashes = self.ids.hash().to_numpy()
        self._order = np.argsort(hashes, kind="stable").astype(np.int32)
        self._hashes = hashes[self._order]
        self._clashes = bool(len(hashes)) and bool((self._hashes[1:] == self._hashes[:-1]).any())

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, wanted: pa.Array | pa.ChunkedArray | list[str]) -> np.ndarray:
        """The row of each id, `UNKNOWN` where there is none or the id is null, [N] int32."""
        names = pl.Series(wanted, dtype=pl.String)
        if not len(names) or not len(self):
            return np.full(len(names), UNKNOWN, np.int32)
        # Two ids with one hash are too rare to be worth a faster way.
        if self._clashes:
            known = {name: row for row, name in enumerate(self.ids)}
            return np.array([known.get(name, UNKNOWN) for name in names], np.int32)
        place = np.searchsorted(self._hashes, names.hash().to_numpy())
        rows = self._order[np.minimum(place, len(self) - 1)]
        same = self.ids[rows] == names
        if same.null_count():  # which costs as much as all the rest of a short request
            same = same.fill_null(False)
        return np.where(same.to_numpy(), rows, UNKNOWN).astype(np.int32)


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
        return self._ids.ids[[n * count // taken for n in range(taken)]].to_list()

    @cached_property
    def _table(self) -> pa.Table:
        table = self._files.to_table().combine_chunks()
        # The chunks, as large as the table, would stay with the process.
        pa.default_memory_pool().release_unused()
        return table

    @cached_property
    def _ids(self) -> IdTable:
        return IdTable(self._table["_user"])
