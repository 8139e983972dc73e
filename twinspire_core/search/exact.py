"""Exact nearest neighbours in NumPy: the index of small corpora, and the yardstick of all
others.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import numpy as np

from twinspire_core.search.index import CORES, VECTORS, Settings, checked, write_config

QUERY_BLOCK = 128
ITEM_BLOCK = 1 << 16  # a block of scores is 32 MB
_FOLDS = 16


class ExactIndex:
    """Compares every query with every item. Ties go to the lower row."""

    def __init__(self, vectors: np.ndarray, settings: Settings) -> None:
        self.vectors = vectors
        self.settings = settings

    @classmethod
    def load(cls, folder: Path, settings: Settings) -> Self:
        """Opens a stored index."""
        return cls(np.load(folder / VECTORS), settings)

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Index.search`."""
        return search(self.vectors, queries, k)

    def save(self, folder: Path) -> None:
        """See `Index.save`."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / VECTORS, np.ascontiguousarray(self.vectors, np.float32))
        write_config(folder, self.settings, self.vectors)


def search(vectors: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest dot products of each query, best first, ties by row.

    Args:
      vectors: [N, D] float32.
      queries: [B, D] float32.
      k: with k > N all N are returned.

    Returns: rows [B, min(k, N)] int32, scores [B, min(k, N)] float32.
    """
    queries, k = checked(queries, k, vectors)
    rows, scores = np.empty((len(queries), k), np.int32), np.empty((len(queries), k), np.float32)

    def fill(start: int) -> None:
        block = slice(start, start + QUERY_BLOCK)
        rows[block], scores[block] = _search_block(vectors, queries[block], k)

    starts = range(0, len(queries), QUERY_BLOCK)
    if len(starts) < 2:
        list(map(fill, starts))
    else:  # NumPy multiplies on all cores, and picks the largest on one
        with ThreadPoolExecutor(CORES) as pool:
            list(pool.map(fill, starts))
    return rows, scores


def _search_block(
    vectors: np.ndarray, queries: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    rows, scores = np.empty((len(queries), 0), np.int32), np.empty((len(queries), 0), np.float32)
    for start in range(0, len(vectors), ITEM_BLOCK):
        found, values = _top(queries @ vectors[start : start + ITEM_BLOCK].T, k)
        # Earlier rows stay in front, so that a stable sort gives ties to them.
        rows, scores = np.hstack([rows, found + start]), np.hstack([scores, values])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        rows, scores = np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)
    return rows, scores


def _top(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns and values of the largest entries of each row, at least min(k, N) of them, in order
    of column.

    Rows with fewer entries than the longest are filled with minus infinity.

    Args:
      scores: [B, N] float32.
      k: how many are wanted.
    """
    count, width = scores.shape
    kept = np.flatnonzero(scores >= _lower_bound(scores, k)[:, None])
    values, row = scores.ravel()[kept], kept // width
    lengths = np.bincount(row, minlength=count)
    place = np.arange(len(kept)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    shape = (count, int(lengths.max(initial=0)))
    columns, best = np.zeros(shape, np.int32), np.full(shape, -np.inf, np.float32)
    columns[row, place], best[row, place] = kept - row * width, values
    return columns, best


def _lower_bound(scores: np.ndarray, k: int) -> np.ndarray:
    """A value that at least k entries of each row reach and few others, [B] float32.

    It is the k-th largest of the maxima of disjoint groups of entries: a partition of a 16th of the
    row, not of all.
    """
    width = scores.shape[1]
    if width <= k:
        return np.full(len(scores), -np.inf, np.float32)
    folds = max(1, min(_FOLDS, width // (4 * k)))
    group = width // folds
    maxima = scores[:, :group].copy()
    for fold in range(1, folds):
        np.maximum(maxima, scores[:, fold * group : (fold + 1) * group], out=maxima)
    return np.partition(maxima, group - k, axis=1)[:, group - k]
