"""Nearest neighbours without those that were seen."""

from typing import NamedTuple

import numpy as np

from index_builder.index import NONE, Index

_SPARE = 32  # more candidates than asked for, at first: most users have seen few of their nearest items


class Seen(NamedTuple):
    """Pairs of a query and an item row that must not come back; [S] int64 each."""

    query: np.ndarray
    row: np.ndarray


def search_without(index: Index, vectors: np.ndarray, k: int, seen: Seen) -> tuple[np.ndarray, np.ndarray]:
    """The k best items of each query among those it has not seen, best first.

    The search is widened for the queries that need it, so none gets fewer than k while the corpus holds enough.

    Args:
      index: of N items.
      vectors: [B, D] float32.
      k: how many.
      seen: what to leave out.

    Returns: rows [B, min(k, N)] int32, `NONE` where a query has seen too much, and scores, NaN there.
    """
    items, k = len(index), min(k, len(index))
    if not len(seen.query):
        return index.search(vectors, k)
    pairs = np.unique(seen.query * items + seen.row)
    most = np.minimum(items, k + np.bincount(pairs // items, minlength=len(vectors)))
    rows = np.full((len(vectors), k), NONE, np.int32)
    scores = np.full((len(vectors), k), np.nan, np.float32)
    open_, reach = np.arange(len(vectors)), min(k + _SPARE, int(most.max()))
    while len(open_):
        found, values = index.search(vectors[open_], reach)
        kept = ~_contains(pairs, open_[:, None] * items + found)
        done = (kept.sum(1) >= k) | (reach >= most[open_])
        rows[open_[done]], scores[open_[done]] = _first(kept[done], found[done], values[done], k)
        open_, reach = open_[~done], min(2 * reach, int(most.max()))
    return rows, scores


def _contains(ascending: np.ndarray, values: np.ndarray) -> np.ndarray:
    place = np.searchsorted(ascending, values)
    return ascending[np.minimum(place, len(ascending) - 1)] == values


def _first(kept: np.ndarray, rows: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The first k kept entries of each line, in their order, filled up with `NONE` and NaN."""
    order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(kept, order, 1)
    width = ((0, 0), (0, k - order.shape[1]))
    rows = np.where(kept, np.take_along_axis(rows, order, 1), NONE)
    scores = np.where(kept, np.take_along_axis(scores, order, 1), np.nan)
    return np.pad(rows, width, constant_values=NONE), np.pad(scores, width, constant_values=np.nan)
