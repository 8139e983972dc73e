"""Measures of ranked lists.

Of each list by what its user took, of a set of lists taken together, and of slices of users and items.
Every measure is of the whole corpus, never of a batch or of the items that happen to be in the test.
measure_names.py says what measures are called.

U users, L places of a list, C items of the corpus, D width of the vectors. Items are positions in the
corpus, and -1 is none: padding behind a short list, or a true item outside the corpus.
"""

import pkgutil
from collections.abc import Mapping, Sequence

import numpy as np

from twinspire_core.metrics.measure_names import MEASURES
from twinspire_core.search.ragged import Ragged
from twinspire_core.search.top_k import exact_search


def top_k(queries: np.ndarray, items: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k items of the highest inner product with each query, by exact search; of equal scores the
    earlier position comes first.

    Args:
      queries: [U, D] float32, all of them finite.
      items: [C, D] float32, all of them finite.
      k: length of the lists; may exceed C.

    Returns: [U, k] int64, best first, -1 where the corpus is used up; and the inner products, [U, k]
    float32, -infinity there.

    Raises:
      ValueError: a vector is not finite.
    """
    if not (np.isfinite(queries).all() and np.isfinite(items).all()):
        raise ValueError(
            "vectors must be finite; some contain nan or inf: training has probably diverged"
        )
    rows, products = exact_search(items, queries, k)
    ranked = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    ranked[:, : rows.shape[1]] = rows
    scores[:, : rows.shape[1]] = products
    return ranked, scores


def is_first(ranked: np.ndarray) -> np.ndarray:
    """[U, L] bool: an item at its first place in its list; False for -1."""
    is_item = ranked >= 0
    ascending = np.sort(ranked, axis=1)
    repeats = ascending[:, 1:] == ascending[:, :-1]
    # Few lists repeat an item, and a plain sort is cheaper than an argsort.
    if not (repeats & (ascending[:, 1:] >= 0)).any():
        return is_item
    order = np.argsort(ranked, axis=1, kind="stable")
    is_new = np.ones_like(ascending, bool)
    is_new[:, 1:] = ~repeats
    first = np.empty_like(is_new)
    np.put_along_axis(first, order, is_new, axis=1)
    return first & is_item


def contains(lists: Ragged, ranked: np.ndarray) -> np.ndarray:
    """[U, L] bool: whether `ranked`'s item is in the same user's list."""
    # A list and an item as one number: a binary search says whether the pair is there.
    width = 1 + max(int(ranked.max(initial=0)), int(lists.values.max(initial=0)))
    inside = lists.where(lists.values >= 0)
    pairs = np.sort(inside.row * width + inside.values)
    wanted = ranked + np.arange(len(ranked))[:, np.newaxis] * width
    is_pair = np.append(pairs, -1)[np.searchsorted(pairs, wanted)] == wanted
    return is_pair & (ranked >= 0)


def by_user(ranked: np.ndarray, truth: Ragged, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """Measures of each user's list, [U] float64 by name, such as `recall@50`; `by_place` says how.

    An item listed twice is a hit at its first place only.

    Args:
      ranked: [U, L] int64, best first; L is at least the largest k.
      truth: U lists of positions; -1 is a true item outside the corpus.
      ks: the first k items of each list are measured, for each k.

    Example: of the true items 7 and 4, the first is listed second.
      >>> truth = Ragged(np.array([7, 4]), np.array([0, 0]), 1)
      >>> measures = by_user(np.array([[5, 7, 9]]), truth, [1, 2])
      >>> measures["recall@1"].item(), measures["recall@2"].item(), measures["mrr"].item()
      (0.0, 0.5, 0.5)
    """
    return by_place(hits(ranked, truth), distinct(truth), ks)


def hits(ranked: np.ndarray, truth: Ragged) -> Ragged:
    """Places, from 0 and ascending, at which each list holds a true item that no place before it
    held: U lists.

    Args:
      ranked: [U, L] int64, best first.
      truth: U lists of positions; -1 is a true item outside the corpus.
    """
    row, place = np.nonzero(contains(truth, ranked) & is_first(ranked))
    return Ragged(place, row, len(ranked))


def recall(hit: Ragged, wanted: np.ndarray, k: int) -> np.ndarray:
    """Hits, divided by the user's true items.

    Args:
      hit: U lists of the places of hits among the first k, from 0 and ascending.
      wanted: [U] int64, distinct true items of each user, at least 1.
    """
    return np.asarray(hit.lengths / wanted)


def ndcg(hit: Ragged, wanted: np.ndarray, k: int) -> np.ndarray:
    """Sum of 1 / log2(r + 1) over the places r, from 1, of hits, divided by the same sum for a list that
    starts with all true items. Arguments as those of `recall`.
    """
    discount = 1 / np.log2(np.arange(2, k + 2))
    gain = np.bincount(hit.row, discount[hit.values], hit.rows)
    # The ideal list has at most k true items, however many items the user took.
    return np.asarray(gain / np.cumsum(discount)[np.minimum(wanted, k) - 1])


def hit_rate(hit: Ragged, wanted: np.ndarray, k: int) -> np.ndarray:
    """1 when there is a hit. Arguments as those of `recall`."""
    return hit.lengths > 0


def by_place(hit: Ragged, wanted: np.ndarray, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """Measures of lists by the places of their hits, [U] float64 by name: each of `measure_names.MEASURES`
    for each k, such as `recall@50`, and `mrr`, which is 1 / place of the first hit, or 0 when the whole list
    has none. A user without a true item gets NaN.

    Args:
      hit: U lists of the places of hits, from 0 and ascending.
      wanted: [U] int64, distinct true items of each user, those outside the corpus included.
      ks: the first k items of each list are measured, for each k.
    """
    measures = {}
    for k in ks:
        top = hit.where(hit.values < k)
        for name, measure in _MEASURES.items():
            measures[f"{name}@{k}"] = measure(top, np.maximum(wanted, 1), k)
    reciprocal = np.zeros(len(wanted))
    # Places ascend within a row, so the first hit of a row is its best.
    users_with_hits, first_hit = np.unique(hit.row, return_index=True)
    reciprocal[users_with_hits] = 1 / (hit.values[first_hit] + 1)
    measures["mrr"] = reciprocal
    return {name: np.where(wanted == 0, np.nan, x) for name, x in measures.items()}


def distinct(truth: Ragged) -> np.ndarray:
    """Distinct items of each list, [U] int64. Items outside the corpus have no position to tell them
    apart: each counts.
    """
    inside = truth.where(truth.values >= 0)
    width = int(inside.values.max(initial=0)) + 1
    pairs = np.unique(inside.row * width + inside.values)
    outside = truth.where(truth.values < 0).lengths
    return np.asarray(np.bincount(pairs // width, minlength=truth.rows) + outside)


def means(measures: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Mean of each measure, [U] float64, over the users that have one (it is not NaN); 0 where none
    has.
    """
    return {
        name: float(np.nanmean(values)) if np.isfinite(values).any() else 0.0
        for name, values in measures.items()
    }


def exposure(ranked: np.ndarray, ks: Sequence[int], items: int | None = None) -> dict[str, float]:
    """What a set of lists shows, taken together. With n_c = the lists that hold item c in their first k,
    an item listed twice in one list counted once:

        coverage@k  items with n_c > 0, as a share of C
        gini@k      Gini coefficient of n over all C items: 0 when all are shown equally often, near 1 when few are
        overlap@k   mean over pairs of lists of the items that both hold, divided by k

    Args:
      ranked: [U, L] int64; L is at least the largest k.
      ks: the first k items of each list are looked at, for each k.
      items: C. Without it there is overlap only.

    Returns: what is defined, by name: no overlap of fewer than two lists, no Gini coefficient where
    nothing is shown.
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
    """Gini coefficient of counts, [C], not all 0: half the mean absolute difference of two items'
    counts, divided by the mean count.

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

    Item c is common to n_c (n_c - 1) / 2 pairs of lists; summed over the items this is all that the
    pairs have in common. So the overlap is exact, without a look at any pair.

    Args:
      counts: [C] int64, lists that hold the item.
      lists: U, at least 2.
      k: length of the lists; padding is no item in common.

    Example: two lists of two items that have one in common.
      >>> overlap(np.array([2, 1, 1]), 2, 2)
      0.5
    """
    n = counts.astype(np.float64)
    return float((n * (n - 1)).sum() / (lists * (lists - 1) * k))


def popular_items(order: np.ndarray, events: np.ndarray) -> np.ndarray | None:
    """[C] bool: the fewest items that have half of all events between them; None without events, when
    it is not known what is popular.

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
    """Share of popular items in each list, as `popular_share@50`: [U] float64, NaN for an empty
    list; no measures where it is not known what is popular.

    Args:
      ranked: [U, L] int64; L is at least the largest k.
      popular: [C] bool, what `popular_items` returned.
    """
    if popular is None:
        return {}
    is_listed = ranked >= 0
    # -1, which is no item, reads the last entry.
    is_popular = np.append(popular, False)[ranked]
    shares = {}
    for k in ks:
        listed = is_listed[:, :k].sum(axis=1)
        count = is_popular[:, :k].sum(axis=1)
        shares[f"popular_share@{k}"] = count / np.where(listed == 0, np.nan, listed)
    return shares


def slice_of(events: np.ndarray, bounds: Sequence[int]) -> np.ndarray:
    """The slice that users or items belong to by their earlier events: its number in the order of
    `measure_names.names`, [N] int64.

    Args:
      events: [N] int64, earlier events of each.
      bounds: where slices begin: 1, 5, 20 make the slices 0, 1-4, 5-19 and 20+.
    """
    return np.searchsorted(np.asarray(bounds, np.int64), events, side="right")


# At the end, as most of these functions are in this module.
_MEASURES = {name: pkgutil.resolve_name(path) for name, path in MEASURES.items()}
