"""From ids to rows: of items, and of the users that a version carries.

The values of category features that a version's query tower was trained with. Warnings name the values
that it lacks.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from twinspire_core.config.feature_kinds import CategoriesFeature, CategoryFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import shorten
from twinspire_core.search.ragged import list_lengths, list_rows

_NAMED = 5  # values in a warning
Unknown = Mapping[int, Sequence[str]]
"""Warnings by query."""


class Vocabularies:
    """The values that the query tower tells apart, of its features of kind `category` and
    `categories`; it takes all others for the same.

    Args:
      pipeline: whose.
      tower: folder of the query tower, which has a file with a value per line for each; hashed
        features have none.
      version: its id, for warnings.
    """

    def __init__(self, pipeline: Pipeline, tower: Path, version: str) -> None:
        self._version = version
        self._known: dict[str, dict[str, None]] = {}
        for name, f in pipeline.tower("query").items():
            file = tower / "assets" / name
            if isinstance(f, CategoryFeature | CategoriesFeature) and file.is_file():
                lines = file.read_bytes().decode().split("\n")
                self._known[name] = dict.fromkeys(["", *lines])  # "" is missing

    def unknown(self, requests: pa.Table) -> Unknown:
        """Warnings about values that the tower does not know.

        Args:
          requests: [B] rows of `Requests.table`, as they came.
        """
        warnings: dict[int, list[str]] = {}
        for name, known in self._known.items():
            for row, values in _unknown_values(requests[name].combine_chunks(), known).items():
                warnings.setdefault(row, []).append(
                    f"{self._version} was trained without {name} {_few(values)}; with {_few(known)}"
                )
        return warnings


def _unknown_values(column: pa.Array, known: Mapping[str, None]) -> dict[int, dict[str, None]]:
    """The distinct values of each row that are not known, where there are any."""
    if pa.types.is_list(column.type):
        values = column.flatten()
        rows = list_rows(list_lengths(column))
    else:
        values = column
        rows = np.arange(len(column))
    unknown = {
        value for value in pc.unique(values).to_pylist() if value is not None and value not in known
    }
    # Nearly always: rows need not become Python objects.
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
