"""Ragged lists: the values of all lists end to end, and where one list ends and the next begins.

That can be written in several ways. For the lists [a, b], [] and [c]:

    lengths   2 0 1      of each list
    offsets   0 2 2 3    where each list begins, and where the last one ends
    rows      0 0 2      the list that each value belongs to
    places    0 1 0      where each value stands in its list

`best_columns` gives the largest entries of a sparse product: of each query a weighted list of rows, times
a table that has for each row a weighted list of columns. U queries, M rows in all their lists, R rows of
the table, P entries of the table, C columns.
"""

from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core.native_code import compiled


def is_list(kind: pa.DataType) -> bool:
    """Whether it is a type of lists: of any length, or all of one length."""
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_kind(kind) for is_kind in kinds)


def value_type(kind: pa.DataType) -> pa.DataType:
    """The type of a list's values; of any other type, the type itself."""
    return kind.value_type if is_list(kind) else kind


def list_lengths(lists: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Lengths of Arrow lists, [N] int64; null counts as empty."""
    if isinstance(lists, pa.ListArray) and not lists.null_count:
        # Requests ask for lengths again and again, and a difference of offsets is faster than Arrow's call.
        return np.asarray(np.diff(lists.offsets.to_numpy()), np.int64)
    # Arrow counts in int32, and in int64 for large lists.
    return np.asarray(pc.list_value_length(lists).fill_null(0), np.int64)


def list_offsets(lengths: np.ndarray) -> np.ndarray:
    """Where each list begins, and where the last one ends: [N + 1] int64."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def list_rows(lengths: np.ndarray) -> np.ndarray:
    """The list that each value belongs to, [M] int64."""
    return np.repeat(np.arange(len(lengths)), lengths)


def list_places(lengths: np.ndarray) -> np.ndarray:
    """Where each value stands in its list, [M] int64 from 0."""
    return list_ranges(np.zeros(len(lengths), np.int64), lengths)


def list_ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Numbers that rise within each list from its start: [M] int64.

    Example:
      >>> list_ranges(np.array([5, 1]), np.array([3, 2])).tolist()
      [5, 6, 7, 1, 2]
    """
    offsets = list_offsets(lengths)
    return np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])


def arrow_lists(lengths: np.ndarray, values: pa.Array, missing: pa.Array | None = None) -> pa.Array:
    """Arrow lists, from their lengths and their values end to end.

    Args:
      lengths: [N] int64, together M.
      values: [M], fewer than 2^31 of them.
      missing: [N] bool, true for lists that are null.
    """
    offsets = pa.array(list_offsets(lengths).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, values, mask=missing)


def newest_of(lists: pa.Array, lengths: np.ndarray) -> pa.Array:
    """The last entries of lists; null stays null.

    Args:
      lists: [N] Arrow lists, oldest entries first.
      lengths: [N] int64, how many are kept, of each list no more than it has.
    """
    before = list_lengths(lists)
    is_kept = list_places(before) >= np.repeat(before - lengths, before)
    values = lists.flatten().filter(pa.array(is_kept))
    return arrow_lists(lengths, values, missing=lists.is_null())


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

    @classmethod
    def of_lengths(cls, values: np.ndarray, lengths: np.ndarray) -> Self:
        """Lists of these lengths, [N] int64."""
        return cls(values, list_rows(lengths), len(lengths))

    @classmethod
    def of_table(cls, table: np.ndarray) -> Self:
        """The lists of a table, [N, L] int64, without the entries below 0."""
        row, column = np.nonzero(table >= 0)
        return cls(table[row, column], row, len(table))

    @property
    def lengths(self) -> np.ndarray:
        """[N] int64."""
        return np.bincount(self.row, minlength=self.rows)

    def padded(self, width: int | None = None) -> np.ndarray:
        """[N, width] int64, -1 after the end of each list; as wide as the longest list by
        default.
        """
        lengths = self.lengths
        if width is None:
            width = int(lengths.max(initial=0))
        place = list_places(lengths)
        table = np.full((self.rows, width), -1, np.int64)
        fits = place < width
        table[self.row[fits], place[fits]] = self.values[fits]
        return table

    def where(self, keep: np.ndarray) -> "Ragged":
        """Only the values where `keep`, [M] bool, holds."""
        return Ragged(self.values[keep], self.row[keep], self.rows)

    def part(self, start: int, stop: int) -> "Ragged":
        """Lists `start` to `stop`."""
        # Rows ascend, so that a part is a slice.
        first, last = np.searchsorted(self.row, [start, stop])
        return Ragged(self.values[first:last], self.row[first:last] - start, stop - start)

    def take(self, lists: np.ndarray) -> "Ragged":
        """The lists of these numbers, [K] int64 ascending."""
        number = np.full(self.rows, -1)
        number[lists] = np.arange(len(lists))
        chosen = number[self.row] >= 0
        return Ragged(self.values[chosen], number[self.row[chosen]], len(lists))


def positions(lists: pa.ChunkedArray | pa.Array, items: pa.ChunkedArray | pa.Array) -> Ragged:
    """Where each listed item stands in `items`: numbers from 0, and -1 for an item that is not
    among them.

    Args:
      lists: [N] lists of strings; null counts as empty.
      items: [C] strings, each of them once.
    """
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.combine_chunks()
    places = pc.index_in(lists.flatten(), value_set=items).fill_null(-1)
    values = places.to_numpy(zero_copy_only=False).astype(np.int64)
    return Ragged.of_lengths(values, list_lengths(lists))


class SparseTable(NamedTuple):
    """Rows with weighted columns.

    Attributes:
      offsets: [R + 1] int64, where each row's entries begin.
      columns: [P] integers, distinct within a row; -1 for none.
      weights: [P] float32, not negative.
      width: C.
    """

    offsets: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    width: int


class Best(NamedTuple):
    """The columns of the largest sums.

    Attributes:
      columns: [U, k] int64, the largest first, of equal sums the lower column; -1 after the end.
      sums: [U, k] float64, above 0; -infinity after the end.
    """

    columns: np.ndarray
    sums: np.ndarray


def best_columns(
    rows: Ragged,
    weights: np.ndarray,
    table: SparseTable,
    k: int,
    *,
    added: tuple[Ragged, np.ndarray] | None = None,
    exclude: Ragged | None = None,
    passing: np.ndarray | None = None,
    rounded: bool = False,
) -> Best:
    """The k columns of the largest sums above 0, for each query:

        sum(column) = sum over its rows of  weight of the row * weight of the column in it  +  added

    Args:
      rows: U lists of rows of the table, -1 nowhere among them.
      weights: [M] float32 or float64: products are of that precision, their sums doubles.
      table: what the rows are looked up in.
      k: length of the lists; shorter ones end in -1.
      added: U lists of columns, and the weight that is added to the sum of each of them.
      exclude: U lists of columns that must not be listed, -1 for none.
      passing: [C] bool, what may be listed; None for everything.
      rounded: whether sums are rounded to float32 before they are compared.
    """
    queries = rows.rows
    none = Ragged(np.zeros(0, np.int64), np.zeros(0, np.int64), queries)
    more, more_weights = added or (none, np.zeros(0, np.float32))
    left_out = exclude or none
    best = Best(np.full((queries, k), -1, np.int64), np.full((queries, k), -np.inf))
    _find_best(
        *(list_offsets(rows.lengths), rows.values, weights),
        *table[:3],
        *(list_offsets(more.lengths), more.values, more_weights),
        *(list_offsets(left_out.lengths), left_out.values),
        # A copy: one that is read-only would be another type, for which the loop is compiled again.
        np.ones(table.width, np.bool_) if passing is None else np.array(passing),
        rounded,
        *best,
    )
    return best


@compiled
def _find_best(
    begin: Any,
    rows: Any,
    row_weights: Any,
    offsets: Any,
    columns: Any,
    weights: Any,
    added_begin: Any,
    added: Any,
    added_weights: Any,
    excluded_begin: Any,
    excluded: Any,
    passing: Any,
    rounded: Any,
    top_columns: Any,
    top_sums: Any,
) -> None:
    queries, k = top_columns.shape
    # Arrays for all queries, of which each clears only what it used: a query touches few columns.
    sums = np.zeros(len(passing), np.float64)
    # One entry more than columns: a column is written before it is known whether it counts.
    met = np.empty(len(passing) + 1, np.int64)
    for query in range(queries):
        # A column is noted only while its sum is 0, and so only once.
        count = 0
        for number in range(begin[query], begin[query + 1]):
            weight = row_weights[number]
            # Slices, because then numba leaves out its checks for negative indices in the inner loop.
            of_row = columns[offsets[rows[number]] : offsets[rows[number] + 1]]
            weight_of = weights[offsets[rows[number]] : offsets[rows[number] + 1]]
            for entry in range(len(of_row)):
                column = of_row[entry]
                product = weight * weight_of[entry]
                if column >= 0 and product > 0:
                    met[count] = column
                    count += sums[column] == 0
                    sums[column] += product
        for number in range(added_begin[query], added_begin[query + 1]):
            if added_weights[number] > 0:
                met[count] = added[number]
                count += sums[added[number]] == 0
                sums[added[number]] += added_weights[number]
        # An excluded column gets the sum 0, which is never listed.
        for number in range(excluded_begin[query], excluded_begin[query + 1]):
            if excluded[number] >= 0:
                sums[excluded[number]] = 0
        size = 0
        best, listed = top_sums[query], top_columns[query]
        for number in range(count):
            column = met[number]
            value = sums[column] if passing[column] else 0.0
            if rounded:
                value = np.float64(np.float32(value))
            sums[column] = 0
            if value <= 0:
                continue
            # Insertion into the best so far: the largest first, then the lower column. Lists are short, so
            # this is faster than sorting all sums.
            place = size
            while place > 0 and (
                best[place - 1] < value or (best[place - 1] == value and listed[place - 1] > column)
            ):
                if place < k:
                    best[place] = best[place - 1]
                    listed[place] = listed[place - 1]
                place -= 1
            if place < k:
                best[place] = value
                listed[place] = column
                size = min(size + 1, k)
