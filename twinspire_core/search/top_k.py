"""Exact top-k: the largest of given scores, and the nearest of given vectors.

Small corpora are searched by it, evaluation lists items by it, and other indexes are measured
against it. U queries, N items, D width of the vectors.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from twinspire_core.errors import UsageError
from twinspire_core.native_code import compiled

# Cores that this process may use: in most containers fewer than the machine has.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
QUERY_BLOCK = 128
# Each core has a block of scores in memory: 32 MB on up to 8 cores, 256 MB together on more. Blocks end
# where the tiles of BLAS end, so that scores do not depend on the number of cores.
_TILE = 4096
ITEM_BLOCK = max(_TILE, min(1 << 16, (1 << 19) // CORES // _TILE * _TILE))
_FOLDS = 16
# The longest lists that are kept sorted while scores are read. Longer ones are faster by a whole sort.
_KEPT_SORTED = 1000


def exact_search(vectors: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest dot products of each query, best first, ties by row.

    With k > N all N are returned.

    Args:
      vectors: [N, D] float32, of the items in row order.
      queries: [U, D] float32, all of them finite.
      k: neighbours of each query, at least 1.

    Returns: rows [U, min(k, N)] int32, scores [U, min(k, N)] float32.

    Raises:
      UsageError: k is below 1, the widths differ, or a query is not finite.
    """
    queries, k = checked_queries(queries, k, vectors)
    rows = np.empty((len(queries), k), np.int32)
    scores = np.empty((len(queries), k), np.float32)

    def fill(block: slice) -> None:
        rows[block], scores[block] = _search_block(vectors, queries[block], k)

    blocks = list(_blocks(len(queries), QUERY_BLOCK))
    if len(blocks) == 1:
        fill(blocks[0])
    else:
        # One block on each core; NumPy itself uses one thread (twinspire/cli/main.py).
        with ThreadPoolExecutor(CORES) as pool:
            list(pool.map(fill, blocks))
    return rows, scores


def checked_queries(queries: np.ndarray, k: int, vectors: np.ndarray) -> tuple[np.ndarray, int]:
    """The queries, [U, D], as contiguous float32, and k cut to the N of the items' vectors, [N, D].

    Raises:
      UsageError: k is below 1, the widths differ, or a query is not finite.
    """
    if k < 1:
        raise UsageError(f"k must be at least 1; found {k}.")
    queries = np.ascontiguousarray(queries, np.float32)
    if queries.ndim != 2 or queries.shape[1] != vectors.shape[1]:
        raise UsageError(
            f"Query vectors must have the shape [B, {vectors.shape[1]}], like the items; found"
            f" {list(queries.shape)}. They probably come from the query tower of another version."
        )
    # Comparisons with NaN are false, so an index would list whatever comes first.
    bad = np.flatnonzero(~np.isfinite(queries).all(1))
    if len(bad):
        raise UsageError(
            f"Query vectors must be finite; row {bad[0]} is not ({len(bad)} rows in all)."
        )
    return queries, min(k, len(vectors))


def _blocks(length: int, size: int) -> Iterator[slice]:
    """Blocks of `size` rows. The last one may have `size + 1`."""
    start = 0
    while start < length:
        # Never a block of one row: BLAS multiplies it by another routine, whose last bits differ.
        stop = length if start + size + 1 >= length else start + size
        yield slice(start, stop)
        start = stop


def _search_block(
    vectors: np.ndarray, queries: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows, [U, k], and scores of the k best rows of each query, best first."""
    rows = np.empty((len(queries), 0), np.int64)
    scores = np.empty((len(queries), 0), np.float32)
    for block in _blocks(len(vectors), ITEM_BLOCK):
        products = queries @ vectors[block].T
        columns = _best_columns(products, min(k, products.shape[1]))
        rows = np.hstack([rows, columns + block.start])
        scores = np.hstack([scores, np.take_along_axis(products, columns, axis=1)])
        if block.start > 0:
            # Rows of earlier blocks come first, so ties still go to the lower row.
            columns = _best_columns(scores, min(k, scores.shape[1]))
            rows = np.take_along_axis(rows, columns, axis=1)
            scores = np.take_along_axis(scores, columns, axis=1)
    return rows, scores


def best_of(scores: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k highest of N scores in each row, [U, k] int64, highest first, then leftmost; -1 for
    -infinity. Scores are float32 or float64.
    """
    first = np.arange(len(scores) + 1) * scores.shape[1]
    chosen = best_entries(first, scores.ravel(), k)
    return np.where(chosen < 0, -1, chosen - first[:-1, np.newaxis])


def best_entries(begin: np.ndarray, scores: np.ndarray, k: int) -> np.ndarray:
    """The entries of the k highest scores of each list, [U, k] int64, highest first, then the earlier one;
    -1 for -infinity and after the end.

    Args:
      begin: [U + 1] int64, where the entries of each list begin, and where the last ones end.
      scores: [M] float32 or float64, by entry.
    """
    chosen = np.full((len(begin) - 1, k), -1)
    if k:
        _choose_best(begin, scores, chosen)
    return chosen


@compiled
def _choose_best(begin: Any, scores: Any, chosen: Any) -> None:
    queries, k = chosen.shape
    for query in range(queries):
        best = chosen[query]
        size = 0
        for entry in range(begin[query], begin[query + 1]):
            score = scores[entry]
            if score == -np.inf or (size == k and score <= scores[best[k - 1]]):
                continue
            # Entries come in order, so one comes after all earlier ones with the same score.
            rank = min(size, k - 1)
            while rank > 0 and scores[best[rank - 1]] < score:
                best[rank] = best[rank - 1]
                rank -= 1
            best[rank] = entry
            size = min(size + 1, k)


def _best_columns(scores: np.ndarray, k: int) -> np.ndarray:
    """As `best_of`, of finite scores, [U, N] with N at least k; faster where N is large."""
    if k > _KEPT_SORTED:
        return np.argsort(-scores, axis=1, kind="stable")[:, :k]
    entry = np.flatnonzero(scores >= _lower_bound(scores, k)[:, np.newaxis])
    row, column = np.divmod(entry, scores.shape[1])
    begin = np.searchsorted(row, np.arange(len(scores) + 1))
    return np.asarray(column[best_entries(begin, scores.ravel()[entry], k)])


def _lower_bound(scores: np.ndarray, k: int) -> np.ndarray:
    """A score that at least k scores of each row reach, and few others, [U]."""
    # The k-th largest of the maxima of disjoint groups of columns. That partitions only a 16th of the
    # row, which is much faster than all of it.
    width = scores.shape[1]
    folds = max(1, min(_FOLDS, width // (4 * k)))
    group = width // folds
    maxima = scores[:, :group].copy()
    for fold in range(1, folds):
        np.maximum(maxima, scores[:, fold * group : (fold + 1) * group], out=maxima)
    return np.partition(maxima, group - k, axis=1)[:, group - k]
