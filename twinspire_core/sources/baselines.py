"""Lists that need no model, to be held against: most popular, popular lately, the user's own
past.
"""

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
    count, second = (corpus.column(name).fill_null(0).to_numpy() for name in (by, other))
    return np.lexsort((-second, -count)).astype(np.int64)


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
    nothing = Ragged(np.zeros(0, np.int64), np.zeros(0, np.int64), users)
    return past_then(nothing, order, k, exclude=exclude)


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
    more = past.lengths + (exclude.lengths if exclude is not None else 0)
    for rows in _alike(more, k):
        own, without = past.take(rows).padded(), exclude.take(rows) if exclude is not None else None
        common = order[: k + int(more[rows].max())]
        common = np.broadcast_to(common, (len(rows), len(common)))
        ranked[rows] = first_distinct(np.concatenate([own, common], axis=1), k, exclude=without)
    return ranked


def _alike(more: np.ndarray, k: int) -> list[np.ndarray]:
    """Rows in parts, those apart that need much more than k: most have had little, and few more
    than a whole list.
    """
    size = np.searchsorted([0, k // 8, k // 2, k], more)
    kinds = (np.flatnonzero(size == number) for number in range(5))
    return [rows[start : start + _CHUNK] for rows in kinds for start in range(0, len(rows), _CHUNK)]
