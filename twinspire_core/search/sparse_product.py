"""The largest entries of a sparse product: weighted lists of rows, times a table that has a weighted list
of columns for each row.

U queries, M rows of them all, R rows of the table, P entries, C columns.
"""

import heapq
from typing import Any, NamedTuple

import numpy as np

from twinspire_core.compiled_loops import compiled
from twinspire_core.search.ragged import Ragged, list_offsets


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
      columns: [U, k] int64, the largest first, of equal sums the lower column; -1 behind the end.
      sums: [U, k] float64, above 0; -infinity behind the end.
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
      rows: U lists of rows.
      weights: [M] float32 or float64: products are of that precision, their sums doubles.
      table: of all rows.
      k: how many.
      added: U lists of columns, and a weight of each that is added last.
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

    sums = np.zeros(len(passing), np.float64)
    met = np.empty(len(passing) + 1, np.int64)
    sum_of = np.empty(len(passing) + 1, np.float64)
    for query in range(queries):
        for number in range(begin[query], begin[query + 1]):
            weight = row_weights[number]
            row = rows[number]
            for entry in range(offsets[row], offsets[row + 1]):
                if columns[entry] >= 0:
                    sums[columns[entry]] += weight * weights[entry]
        for number in range(added_begin[query], added_begin[query + 1]):
            sums[added[number]] += added_weights[number]
        for number in range(excluded_begin[query], excluded_begin[query + 1]):
            if excluded[number] >= 0:
                sums[excluded[number]] = 0
        # Each column once: what is read is 0 from then on.
        count = 0
        for number in range(begin[query], begin[query + 1]):
            row = rows[number]
            for entry in range(offsets[row], offsets[row + 1]):
                if columns[entry] >= 0:
                    met[count] = columns[entry]
                    sum_of[count] = sums[columns[entry]]
                    count += sums[columns[entry]] > 0
                    sums[columns[entry]] = 0
        for number in range(added_begin[query], added_begin[query + 1]):
            met[count] = added[number]
            sum_of[count] = sums[added[number]]
            count += sums[added[number]] > 0
            sums[added[number]] = 0
        # A heap of the best so far: the lowest sum is on top, of equal ones the highest column.
        best = [(0.0, 0) for _ in range(0)]
        for number in range(count):
            if not passing[met[number]]:
                continue
            value = np.float64(np.float32(sum_of[number])) if rounded else sum_of[number]
            if len(best) < k:
                heapq.heappush(best, (value, -met[number]))
            elif (value, -met[number]) > best[0]:
                heapq.heapreplace(best, (value, -met[number]))
        for place in range(len(best) - 1, -1, -1):
            value, negative = heapq.heappop(best)
            top_columns[query, place] = -negative
            top_sums[query, place] = value
