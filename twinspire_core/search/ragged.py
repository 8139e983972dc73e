"""Lists of differing length, as two arrays."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class Ragged(NamedTuple):
    """N lists of numbers.

    Attributes:
      values: all lists end to end, [M] int64.
      row: the list that each value belongs to, [M] int64, ascending.
      rows: N.
    """

    values: np.ndarray
    row: np.ndarray
    rows: int

    @property
    def lengths(self) -> np.ndarray:
        """[N] int64."""
        return np.bincount(self.row, minlength=self.rows)

    def padded(self, width: int | None = None) -> np.ndarray:
        """[N, width] int64, -1 behind the end of each list; as wide as the longest list by
        default.
        """
        lengths = self.lengths
        width = int(lengths.max(initial=0)) if width is None else width
        place = np.arange(len(self.values)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        table = np.full((self.rows, width), -1, np.int64)
        fits = place < width
        table[self.row[fits], place[fits]] = self.values[fits]
        return table

    def where(self, keep: np.ndarray) -> "Ragged":
        """Only the values where `keep`, [M] bool, holds."""
        return Ragged(self.values[keep], self.row[keep], self.rows)

    def part(self, start: int, stop: int) -> "Ragged":
        """Lists `start` to `stop`."""
        first, last = np.searchsorted(self.row, [start, stop])
        return Ragged(self.values[first:last], self.row[first:last] - start, stop - start)

    def take(self, lists: np.ndarray) -> "Ragged":
        """The lists of these numbers, [K] int64 ascending."""
        place = np.full(self.rows, -1)
        place[lists] = np.arange(len(lists))
        chosen = place[self.row] >= 0
        return Ragged(self.values[chosen], place[self.row[chosen]], len(lists))


def positions(lists: pa.ChunkedArray | pa.Array, items: pa.ChunkedArray | pa.Array) -> Ragged:
    """Where each listed item stands in `items`: numbers from 0, and -1 for an item that is not
    among them.

    Args:
      lists: [N] lists of strings; null counts as empty.
      items: [C] distinct strings.
    """
    lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    found = pc.index_in(lists.flatten(), value_set=items).fill_null(-1)
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    row = np.repeat(np.arange(len(lists)), lengths)
    return Ragged(found.to_numpy(zero_copy_only=False).astype(np.int64), row, len(lists))
