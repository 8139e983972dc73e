"""Ranked lists, by exact search, and their measures. U users, C items of the corpus, D width of
the vectors.

Items are positions in the corpus, and -1 is none: padding behind a short list, or a true item
outside the corpus. Every measure is of the whole corpus, never of a batch or of the items that
happen to be in the test.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from twinspire_core.search.ragged import Ragged
from twinspire_core.search.top_k import exact_search

_MARKS = 8 << 20  # bytes that mark the items of some lists: they stay in the processor's cache


def top_k(queries: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """The k items of the highest inner product with each query, by exact search.

    Equal scores keep their position.

    Args:
      queries: [U, D] float32.
      items: [C, D] float32.
      k: length of the lists; may exceed C.

    Returns: [U, k] int64, best first, -1 where the corpus is used up.

    Raises:
      ValueError: a vector is not finite.
    """
    return top_k_scored(queries, items, k)[0]


def top_k_scored(queries: np.ndarray, items: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """`top_k` with the inner products, [U, k] float32, -infinity where the corpus is used up."""
    if not (np.isfinite(queries).all() and np.isfinite(items).all()):
        raise ValueError(
            "vectors to be searched must be finite; some hold nan or inf: training has probably"
            " diverged"
        )
    rows, found = exact_search(items, queries, k)
    ranked = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    ranked[:, : rows.shape[1]] = rows
    scores[:, : rows.shape[1]] = found
    return ranked, scores


def first_distinct(ranked: np.ndarray, k: int, *, exclude: Ragged | None = None) -> np.ndarray:
    """The first k different items of each list, without those excluded; -1 behind the end.

    Args:
      ranked: [U, L] int64.
      k: length of the result's lists.
      exclude: U lists of positions that must not be listed.

    Returns: [U, k] int64.
    """
    keep = is_first(ranked)
    if exclude is not None:
        keep &= ~contains(exclude, ranked)
    place = np.cumsum(keep, axis=1) - 1
    row, column = np.nonzero(keep & (place < k))
    shortened = np.full((len(ranked), k), -1, np.int64)
    shortened[row, place[row, column]] = ranked[row, column]
    return shortened


def is_first(ranked: np.ndarray) -> np.ndarray:
    """[U, L] bool: an item at its first place in its list; False for -1."""
    is_item = ranked >= 0
    ascending = np.sort(ranked, axis=1)
    repeats = ascending[:, 1:] == ascending[:, :-1]
    # Few lists repeat an item, and to sort is cheaper than to find out where things came from.
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
    # A bitmap marks the items of some users' lists at a time. Its last column stays empty.
    width = max(int(ranked.max(initial=0)), int(lists.values.max(initial=0))) + 2
    known = lists.where(lists.values >= 0)
    rows = min(len(ranked), max(1, _MARKS // width))
    marked = np.zeros((rows, width), bool)
    is_contained = np.zeros(ranked.shape, bool)
    for start in range(0, len(ranked), max(1, rows)):
        block = ranked[start : start + rows]
        part = known.part(start, start + len(block))
        marked[part.row, part.values] = True
        # One place before a row is the empty last column of the row before it, so that -1 is not
        # found.
        cells = block + np.arange(len(block))[:, None] * width
        is_contained[start : start + rows] = marked.ravel()[cells]
        # Unmarking what was marked is cheaper than a new bitmap.
        marked[part.row, part.values] = False
    return is_contained


def by_user(ranked: np.ndarray, truth: Ragged, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """Measures each user's list; `by_place` says how.

    An item listed twice is a hit at its first place only.

    Args:
      ranked: [U, L] int64, best first; L is at least the largest k.
      truth: U lists of positions; -1 is a true item outside the corpus.
      ks: list lengths.

    Returns: [U] float64 by measure, as `recall@50`.

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
    row, place = np.nonzero(contains(truth, ranked))
    # A row and an item in one integer: np.unique finds where each pair comes first.
    pair = row * (int(ranked.max(initial=0)) + 1) + ranked[row, place]
    _, first = np.unique(pair, return_index=True)
    first.sort()
    return Ragged(place[first], row[first], len(ranked))


def by_place(hit: Ragged, wanted: np.ndarray, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """Measures lists by the places of their hits.

    With n = a user's distinct true items, those outside the corpus included, and hit r = 1 when
    place r holds one:

        recall@k    hits in the first k / n
        hit_rate@k  1 when there is a hit in the first k
        ndcg@k      sum of hit r / log2(r + 1) for r to k, divided by the same sum for a list that starts with all n
        mrr         1 / place of the first hit, 0 when the whole list has none

    A user without a true item gets nan.

    Args:
      hit: places of the hits, from 0 and ascending, U lists.
      wanted: [U] int64, n.
      ks: list lengths.

    Returns: [U] float64 by measure, as `recall@50`.
    """
    # Divided by, nan makes all measures of a user without true items nan.
    n = np.where(wanted == 0, np.nan, wanted)
    discount = 1 / np.log2(np.arange(2, max([*ks, int(hit.values.max(initial=0)) + 1]) + 2))
    ideal = np.cumsum(discount)
    measures = {}
    for k in ks:
        top = hit.where(hit.values < k)
        gain = np.bincount(top.row, discount[top.values], hit.rows)
        measures[f"recall@{k}"] = top.lengths / n
        measures[f"ndcg@{k}"] = gain / np.where(
            wanted == 0, np.nan, ideal[np.clip(wanted, 1, k) - 1]
        )
        measures[f"hit_rate@{k}"] = np.where(wanted == 0, np.nan, top.lengths > 0)
    measures["mrr"] = np.where(wanted == 0, np.nan, 0.0)
    users_with_hits, first_hit = np.unique(hit.row, return_index=True)
    measures["mrr"][users_with_hits] += 1 / (hit.values[first_hit] + 1)
    return measures


def distinct(truth: Ragged) -> np.ndarray:
    """[U] distinct items of each list. Items outside the corpus have no position to tell them
    apart: each counts.
    """
    known = truth.where(truth.values >= 0)
    width = int(known.values.max(initial=0)) + 1
    pairs = np.unique(known.row * width + known.values)
    inside = np.bincount(pairs // width, minlength=truth.rows)
    counts: np.ndarray = inside + truth.where(truth.values < 0).lengths
    return counts


def means(measures: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Mean of each measure, [U] float64, over the users that have one (it is not nan); 0 where none
    has.
    """
    return {name: _mean(values) for name, values in measures.items()}


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0
