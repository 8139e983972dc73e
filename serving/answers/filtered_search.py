"""Nearest neighbours without those that were seen, among those that pass a filter."""

from typing import NamedTuple

import numpy as np

from twinspire_core.search.index import NONE, ExactIndex, Index, Settings
from twinspire_core.search.ragged import Ragged

# More candidates than asked for, at first: most users have seen few of their nearest items
_SPARE = 32
_FEW = 20_000  # items; to compare so few exactly is as fast as to search among all
# A search for more than such a share of all items costs more than comparing those that pass
_WIDEST = 8


class Seen(NamedTuple):
    """Pairs of a query and an item row that must not come back; [S] int64 each."""

    query: np.ndarray
    row: np.ndarray

    def of(self, queries: np.ndarray) -> "Seen":
        """The pairs of some queries, ascending, renumbered from 0."""
        theirs = np.isin(self.query, queries)
        return Seen(np.searchsorted(queries, self.query[theirs]), self.row[theirs])

    def of_first(self, items: int) -> "Seen":
        """The pairs with one of so many first items."""
        first = self.row < items
        return self if first.all() else Seen(self.query[first], self.row[first])

    def by_query(self, queries: int) -> Ragged:
        """The rows of each of so many queries, in the order given."""
        order = np.argsort(self.query, kind="stable")
        row = self.row[order].astype(np.int64)
        return Ragged(row, self.query[order].astype(np.int64), queries)


class Nearest(NamedTuple):
    """Lists for B queries, of K places.

    Attributes:
      rows: [B, K] int32, best first, `NONE` behind the end.
      scores: [B, K] float32, NaN there.
      widened: [B] bool, whether the first search found too few.
    """

    rows: np.ndarray
    scores: np.ndarray
    widened: np.ndarray


def search_without(
    index: Index, vectors: np.ndarray, k: int, seen: Seen, passing: np.ndarray | None = None
) -> Nearest:
    """The k best items of each query among those it has not seen and that pass, best first.

    The search is widened for the queries that need it, so none gets fewer than k while there are
    enough. Where few items pass, these are compared exactly from the start; and where the search
    grows too wide, in the end.

    Args:
      index: of N items.
      vectors: [B, D] float32.
      k: how many.
      seen: what to leave out.
      passing: [N] bool, what may be listed; everything by default.

    Returns: lists of min(k, N) places.
    """
    items = len(index)
    k = min(k, items)
    passes = items if passing is None else int(np.count_nonzero(passing))
    if passing is not None and passes <= max(_FEW, _WIDEST * k) and passes < items:
        return _compare(index, vectors, k, seen, passing)
    if passes == items and not len(seen.query):
        return Nearest(*index.search(vectors, k), np.zeros(len(vectors), bool))
    return _search_widening(index, vectors, k, seen, passing, passes)


def _search_widening(
    index: Index,
    vectors: np.ndarray,
    k: int,
    seen: Seen,
    passing: np.ndarray | None,
    passes: int,
) -> Nearest:
    """Searches for more and more items, for the queries that have too few of them."""
    items = len(index)
    # A pair as one integer: whether it was seen is one binary search.
    seen_pairs = np.unique(seen.query * items + seen.row)
    seen_of_query = np.bincount(seen_pairs // items, minlength=len(vectors))
    # So many of its nearest items hold k of those that it may be given, whatever was seen.
    enough = np.minimum(items, k + items - passes + seen_of_query)
    nearest = _no_items(len(vectors), k)
    open_queries = np.arange(len(vectors))
    reach = min((k + _SPARE) * items // passes, int(enough.max(initial=0)))
    while len(open_queries):
        if passing is not None and reach * _WIDEST > items:
            rest = _compare(index, vectors[open_queries], k, seen.of(open_queries), passing)
            nearest.rows[open_queries] = rest.rows
            nearest.scores[open_queries] = rest.scores
            break
        rows, scores = index.search(vectors[open_queries], reach)
        kept = ~_contains(seen_pairs, open_queries[:, None] * items + rows)
        if passing is not None:
            kept &= passing[rows]
        done = (kept.sum(1) >= k) | (reach >= enough[open_queries])
        best_rows, best_scores = _first(kept[done], rows[done], scores[done], k)
        nearest.rows[open_queries[done]] = best_rows
        nearest.scores[open_queries[done]] = best_scores
        open_queries = open_queries[~done]
        nearest.widened[open_queries] = True
        reach = min(2 * reach, int(enough.max()))
    return nearest


def _compare(index: Index, vectors: np.ndarray, k: int, seen: Seen, passing: np.ndarray) -> Nearest:
    """Exact search of the items that pass."""
    own = np.flatnonzero(passing)
    nearest = _no_items(len(vectors), k)
    if not len(own):
        return nearest
    among_passing = ExactIndex(index.vectors[own], Settings(kind="exact", k=k))
    place = np.searchsorted(own, seen.row)
    passed = own[np.minimum(place, len(own) - 1)] == seen.row
    found = search_without(among_passing, vectors, k, Seen(seen.query[passed], place[passed]))
    width = found.rows.shape[1]
    nearest.rows[:, :width] = np.where(found.rows == NONE, NONE, own[found.rows])
    nearest.scores[:, :width] = found.scores
    nearest.widened[:] = found.widened
    return nearest


def _no_items(queries: int, k: int) -> Nearest:
    rows = np.full((queries, k), NONE, np.int32)
    scores = np.full((queries, k), np.nan, np.float32)
    return Nearest(rows, scores, np.zeros(queries, bool))


def _contains(ascending: np.ndarray, values: np.ndarray) -> np.ndarray:
    if not len(ascending):
        return np.zeros(values.shape, bool)
    place = np.searchsorted(ascending, values)
    equal: np.ndarray = ascending[np.minimum(place, len(ascending) - 1)] == values
    return equal


def _first(
    kept: np.ndarray, rows: np.ndarray, scores: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first k kept entries of each line, in their order, filled up with `NONE` and NaN."""
    # A stable sort by "not kept" leaves what is kept in its order, which is by score.
    order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(kept, order, 1)
    rows = np.where(kept, np.take_along_axis(rows, order, 1), NONE)
    scores = np.where(kept, np.take_along_axis(scores, order, 1), np.nan)
    missing = ((0, 0), (0, k - order.shape[1]))
    return (
        np.pad(rows, missing, constant_values=NONE),
        np.pad(scores, missing, constant_values=np.nan),
    )
