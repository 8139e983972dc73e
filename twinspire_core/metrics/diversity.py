"""What a set of lists shows, taken together. U lists, C items of the corpus; items are positions,
-1 is none.

With n_c = the lists that hold item c in their first k, an item listed twice in one list counted
once:

    coverage@k  items with n_c > 0, as a share of C
    gini@k      Gini coefficient of n over all C items: 0 when all are shown equally often, near 1 when few are shown
    overlap@k   mean over pairs of lists of the items that both hold, divided by k

Item c is common to n_c (n_c - 1) / 2 pairs of lists; summed over the items this is all that the
pairs have in common. So the overlap is exact, without a look at any pair.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from twinspire_core.metrics.ranking import is_first


def exposure(ranked: np.ndarray, ks: Sequence[int], items: int | None = None) -> dict[str, float]:
    """Measures of a set of lists, as `coverage@50`.

    Args:
      ranked: [U, L] int64; L is at least the largest k.
      ks: list lengths.
      items: C. Without it there is overlap only.

    Returns: what is defined: no overlap of fewer than two lists, no Gini coefficient where nothing
    is shown.
    """
    measures: dict[str, float] = {}
    first = is_first(ranked)
    for k in ks:
        counts = np.bincount(ranked[:, :k][first[:, :k]], minlength=items or 0)
        if items is not None:
            measures[f"coverage@{k}"] = float(np.count_nonzero(counts) / max(1, items))
            if counts.any():
                measures[f"gini@{k}"] = gini(counts)
        if len(ranked) > 1:
            measures[f"overlap@{k}"] = overlap(counts, len(ranked), k)
    return measures


def gini(counts: np.ndarray) -> float:
    """Gini coefficient: half the mean absolute difference of two items' counts, divided by the mean
    count.

    Args:
      counts: [C] numbers >= 0, not all 0.

    Example:
      >>> gini(np.array([3, 3, 3])), gini(np.array([0, 0, 9]))
      (0.0, 0.6666666666666666)
    """
    # With counts x sorted and ranks i from 1: sum of (2i - n - 1) x_i, divided by n times the sum
    # of x. Items that are not shown come first in that order and add nothing: no need to sort them.
    n = len(counts)
    shown = np.sort(counts[counts > 0]).astype(np.float64)
    rank = np.arange(n - len(shown) + 1, n + 1)
    return float((2 * rank - n - 1) @ shown / (n * shown.sum()))


def overlap(counts: np.ndarray, lists: int, k: int) -> float:
    """Mean over all pairs of lists of the items in common, divided by k.

    Args:
      counts: [C] int64, lists that hold the item.
      lists: U, at least 2.
      k: their length; padding is no item in common.

    Example: two lists of two items that have one in common.
      >>> overlap(np.array([2, 1, 1]), 2, 2)
      0.5
    """
    n = counts.astype(np.float64)
    return float((n * (n - 1)).sum() / (lists * (lists - 1) * k))


def popular_items(order: np.ndarray, events: np.ndarray) -> np.ndarray | None:
    """[C] bool: the fewest items that have half of all events between them; None without events, as
    then nobody knows what is popular.

    Args:
      order: [C] int64, positions by falling number of events.
      events: [C] int64 by position.
    """
    sums = np.cumsum(events[order])
    if not len(sums) or not sums[-1]:
        return None
    popular = np.zeros(len(order), bool)
    enough = np.searchsorted(sums, sums[-1] / 2) + 1
    popular[order[:enough]] = True
    return popular


def popular_share(
    ranked: np.ndarray, popular: np.ndarray | None, ks: Sequence[int]
) -> Mapping[str, np.ndarray]:
    """Share of popular items in each list, as `popular_share@50`: [U] float64, nan for an empty
    list; no measures where it is not known what is popular.

    Args:
      ranked: [U, L] int64; L is at least the largest k.
      popular: [C] bool, or None.
      ks: list lengths.
    """
    if popular is None:
        return {}
    is_listed = ranked >= 0
    # -1, no item, indexes the last entry.
    is_popular = np.append(popular, False)[ranked]
    shares = {}
    for k in ks:
        listed = is_listed[:, :k].sum(axis=1)
        share = is_popular[:, :k].sum(axis=1) / np.where(listed == 0, np.nan, listed)
        shares[f"popular_share@{k}"] = share
    return shares
