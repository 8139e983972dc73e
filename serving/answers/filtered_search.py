"""Nearest neighbours without those that were seen, among those that pass a filter."""

from typing import NamedTuple

import numpy as np

from twinspire_core.search.exact_index import ExactIndex
from twinspire_core.search.index import NONE, Index, Settings

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
        """The pairs of some queries, ascending, numbered anew from 0."""
        mine = np.isin(self.query, queries)
        return Seen(np.searchsorted(queries, self.query[mine]), self.row[mine])


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
    items, k = len(index), min(k, len(index))
    passes = items if passing is None else int(np.count_nonzero(passing))
    if passing is not None and passes <= max(_FEW, _WIDEST * k) and passes < items:
        return _compared(index, vectors, k, seen, passing)
    if passes == items and not len(seen.query):
        return Nearest(*index.search(vectors, k), np.zeros(len(vectors), bool))
    pairs = np.unique(seen.query * items + seen.row)
    most = np.minimum(
        items, k + items - passes + np.bincount(pairs // items, minlength=len(vectors))
    )
    found = _nothing(len(vectors), k)
    open_, reach = (
        np.arange(len(vectors)),
        min((k + _SPARE) * items // passes, int(most.max(initial=0))),
    )
    while len(open_):
        if passing is not None and reach * _WIDEST > items:
            rest = _compared(index, vectors[open_], k, seen.of(open_), passing)
            found.rows[open_], found.scores[open_] = rest.rows, rest.scores
            break
        rows, scores = index.search(vectors[open_], reach)
        kept = ~_contains(pairs, open_[:, None] * items + rows)
        kept &= True if passing is None else passing[rows]
        done = (kept.sum(1) >= k) | (reach >= most[open_])
        found.rows[open_[done]], found.scores[open_[done]] = _first(
            kept[done], rows[done], scores[done], k
        )
        open_, reach = open_[~done], min(2 * reach, int(most.max()))
        found.widened[open_] = True
    return found


def _compared(
    index: Index, vectors: np.ndarray, k: int, seen: Seen, passing: np.ndarray
) -> Nearest:
    """Exact search of the items that pass."""
    own, found = np.flatnonzero(passing), _nothing(len(vectors), k)
    if not len(own):
        return found
    few = ExactIndex(index.vectors[own], Settings(kind="exact", k=k))
    place = np.searchsorted(own, seen.row)
    mine = own[np.minimum(place, len(own) - 1)] == seen.row
    near = search_without(few, vectors, k, Seen(seen.query[mine], place[mine]))
    width = near.rows.shape[1]
    found.rows[:, :width] = np.where(near.rows == NONE, NONE, own[near.rows])
    found.scores[:, :width], found.widened[:] = near.scores, near.widened
    return found


def _nothing(queries: int, k: int) -> Nearest:
    rows = np.full((queries, k), NONE, np.int32)
    return Nearest(rows, np.full((queries, k), np.nan, np.float32), np.zeros(queries, bool))


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
    order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(kept, order, 1)
    width = ((0, 0), (0, k - order.shape[1]))
    rows = np.where(kept, np.take_along_axis(rows, order, 1), NONE)
    scores = np.where(kept, np.take_along_axis(scores, order, 1), np.nan)
    return np.pad(rows, width, constant_values=NONE), np.pad(scores, width, constant_values=np.nan)
