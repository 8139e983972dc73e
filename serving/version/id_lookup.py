"""From ids to row numbers, thousands at a time."""

import numpy as np
import polars as pl
import pyarrow as pa

UNKNOWN = -1


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
        if self._clashes:
            known = {name: row for row, name in enumerate(self.ids)}
            return np.array([known.get(name, UNKNOWN) for name in names], np.int32)
        place = np.searchsorted(self._hashes, names.hash().to_numpy())
        rows = self._order[np.minimum(place, len(self) - 1)]
        same = (self.ids[rows] == names).fill_null(False).to_numpy()
        return np.where(same, rows, UNKNOWN).astype(np.int32)
