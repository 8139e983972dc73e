"""The users that a version carries: raw features and last items by id."""

from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from serving.version.id_lookup import UNKNOWN, IdTable

_FEW = 16  # users; for so many the files are searched instead of loaded


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
        few = len(users) <= _FEW and "_ids" not in self.__dict__
        table, ids = self._few(wanted) if few else (self._table, self._ids)
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
        return self._ids.ids[
            [n * count // most for n in range(most)] if count > most else list(range(count))
        ].to_list()

    def _few(self, wanted: pa.Array) -> tuple[pa.Table, IdTable]:
        found = self._files.to_table(filter=ds.field("_user").isin(wanted))
        return found, IdTable(found["_user"])

    @cached_property
    def _table(self) -> pa.Table:
        return self._files.to_table().combine_chunks()

    @cached_property
    def _ids(self) -> IdTable:
        return IdTable(self._table["_user"])
