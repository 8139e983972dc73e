"""Baselines, which need no model: the most popular items, those popular lately, the user's own
past.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from twinspire_core.metrics.ranking import first_distinct
from twinspire_core.search.ragged import Ragged

MOST_POPULAR = "most_popular"
POPULAR_LATELY = "popular_lately"
PAST = "past"

_CHUNK = 4096


def popular_order(corpus: pa.Table, by: str) -> np.ndarray:
    """Positions of the corpus by popularity, [C] int64; ties by the other count, then by position.

    Args:
      corpus: has `_popular` and `_lately`, events up to the start of the day evaluated.
      by: `_popular` or `_lately`.
    """
    other = "_lately" if by == "_popular" else "_popular"
    events = corpus.column(by).fill_null(0).to_numpy()
    other_events = corpus.column(other).fill_null(0).to_numpy()
    return np.lexsort((-other_events, -events)).astype(np.int64)


def same_for_all(
    order: np.ndarray, users: int, k: int, *, exclude: Ragged | None = None
) -> np.ndarray:
    """The first k of one order for every user, without the items excluded.

    Args:
      order: [C] int64.
      users: U.
      k: length of the lists.
      exclude: U lists of positions.

    Returns: [U, k] int64, -1 behind the end.
    """
    if exclude is None:
        first = np.full(k, -1, np.int64)
        first[: len(order)] = order[:k]
        return np.tile(first, (users, 1))
    no_past = Ragged.of_lengths(np.zeros(0, np.int64), np.zeros(users, np.int64))
    return past_then(no_past, order, k, exclude=exclude)


def past_then(
    past: Ragged, order: np.ndarray, k: int, *, exclude: Ragged | None = None
) -> np.ndarray:
    """Each user's own past items, as far as they are in the corpus, filled up from one order for
    all.

    Args:
      past: U lists of positions, -1 outside the corpus.
      order: [C] int64.
      k: length of the lists.
      exclude: U lists of positions.

    Returns: [U, k] int64, -1 behind the end.
    """
    ranked = np.full((past.rows, k), -1, np.int64)
    # Each item of the past or excluded can take one item of the common order out of a list.
    used = past.lengths
    if exclude is not None:
        used = used + exclude.lengths
    for rows in _blocks(used, k):
        # Own items first, then the common order: the first k distinct ones of both.
        own = past.take(rows).padded()
        common = order[: k + int(used[rows].max())]
        common = np.broadcast_to(common, (len(rows), len(common)))
        ranked[rows] = first_distinct(
            np.concatenate([own, common], axis=1),
            k,
            exclude=exclude.take(rows) if exclude is not None else None,
        )
    return ranked


def _blocks(used: np.ndarray, k: int) -> Iterator[np.ndarray]:
    """Rows in blocks of users who are alike in how many items of the common order they use up.

    A block is as wide as its widest row needs, and most users use up little, few more than a list.
    """
    size = np.searchsorted([0, k // 8, k // 2, k], used)
    for number in range(5):
        rows = np.flatnonzero(size == number)
        for start in range(0, len(rows), _CHUNK):
            yield rows[start : start + _CHUNK]
