"""Exact search and measures of ranked lists. U users, C items of the corpus, D width of the vectors.

Items are positions in the corpus, and -1 is none: padding behind a short list, or a true item outside the corpus.
Every measure is of the whole corpus, never of a batch or of the items that happen to be in the test.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from model.ragged import Ragged

_CHUNK_BYTES = 64 << 20


def top_k(queries: np.ndarray, items: np.ndarray, k: int, *, exclude: Ragged | None = None) -> np.ndarray:
    """The k items of the highest inner product with each query, by exact search.

    Memory beyond the arguments and the result stays within a few times 64 MiB. Equal scores go by position.

    Args:
      queries: [U, D] float32.
      items: [C, D] float32.
      k: length of the lists; may exceed C.
      exclude: U lists of positions that must not be listed.

    Returns: [U, k] int64, best first, -1 where the corpus is used up.

    Raises:
      ValueError: a vector is not finite.
    """
    if not (np.isfinite(queries).all() and np.isfinite(items).all()):
        raise ValueError("vectors to be searched must be finite; some hold nan or inf: training has probably diverged")
    ranked = np.full((len(queries), k), -1, np.int64)
    chunk = max(1, _CHUNK_BYTES // (4 * max(1, len(items))))
    for start in range(0, len(queries), chunk):
        scores = queries[start : start + chunk] @ items.T
        if exclude is not None:
            seen = exclude.part(start, start + len(scores))
            seen = seen.where(seen.values >= 0)
            scores[seen.row, seen.values] = -np.inf
        best = best_of(scores, min(k, len(items)))
        ranked[start : start + chunk, : best.shape[1]] = best
    return ranked


def best_of(scores: np.ndarray, k: int) -> np.ndarray:
    """Columns of the k highest scores of each row, [U, k] int64, highest first, then leftmost; -1 for -infinity."""
    if k == 0 or len(scores) == 0:
        return np.full((len(scores), k), -1, np.int64)
    least = np.partition(scores, scores.shape[1] - k, axis=1)[:, -k]
    row, column = np.nonzero(scores >= least[:, None])  # k a row, and more where scores tie with the k-th
    value = scores[row, column]
    order = np.lexsort((column, -value, row))
    first = np.searchsorted(row, np.arange(len(scores)))
    chosen = order[first[:, None] + np.arange(k)]
    return np.where(np.isneginf(value[chosen]), -1, column[chosen])


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
    order = np.argsort(ranked, axis=1, kind="stable")
    arranged = np.take_along_axis(ranked, order, axis=1)
    new = np.ones_like(arranged, bool)
    new[:, 1:] = arranged[:, 1:] != arranged[:, :-1]
    first = np.empty_like(new)
    np.put_along_axis(first, order, new, axis=1)
    return first & (ranked >= 0)


def contains(lists: Ragged, ranked: np.ndarray) -> np.ndarray:
    """[U, L] bool: whether `ranked`'s item is in the same user's list."""
    width = max(int(ranked.max(initial=0)), int(lists.values.max(initial=0))) + 1
    known = lists.where(lists.values >= 0)
    keys = np.unique(known.row * width + known.values)
    asked = np.arange(len(ranked))[:, None] * width + ranked
    if len(keys) == 0:
        return np.zeros(ranked.shape, bool)
    found = keys[np.minimum(np.searchsorted(keys, asked), len(keys) - 1)] == asked
    return found & (ranked >= 0)


def by_user(ranked: np.ndarray, truth: Ragged, ks: Sequence[int]) -> dict[str, np.ndarray]:
    """Measures each user's list.

    With n = a user's distinct true items, those outside the corpus included, and hit r = 1 when place r holds one:

        recall@k    hits in the first k / n
        hit_rate@k  1 when there is a hit in the first k
        ndcg@k      sum of hit r / log2(r + 1) for r to k, divided by the same sum for a list that starts with all n
        mrr         1 / place of the first hit, 0 when the whole list has none

    An item listed twice is a hit at its first place only. A user without a true item gets nan.

    Args:
      ranked: [U, L] int64, best first; L is at least the largest k.
      truth: U lists of positions; -1 is a true item outside the corpus.
      ks: list lengths.

    Returns: [U] float64 by measure, as `recall@50`.
    """
    hits = contains(truth, ranked) & is_first(ranked)
    wanted = distinct(truth)
    n = np.where(wanted == 0, np.nan, wanted)
    discount = 1 / np.log2(np.arange(2, max(ks) + 2))
    measures = {}
    for k in ks:
        top = hits[:, :k]
        ideal = np.cumsum(discount)[np.clip(wanted, 1, k) - 1]
        measures[f"recall@{k}"] = top.sum(axis=1) / n
        measures[f"ndcg@{k}"] = top @ discount[: top.shape[1]] / np.where(wanted == 0, np.nan, ideal)
        measures[f"hit_rate@{k}"] = np.where(wanted == 0, np.nan, top.any(axis=1))
    place = hits.argmax(axis=1) + 1 if hits.shape[1] else np.ones(len(hits))
    measures["mrr"] = np.where(wanted == 0, np.nan, hits.any(axis=1) / place)
    return measures


def distinct(truth: Ragged) -> np.ndarray:
    """[U] distinct items of each list. Items outside the corpus have no position to tell them apart: each counts."""
    known = truth.where(truth.values >= 0)
    width = int(known.values.max(initial=0)) + 1
    inside = np.bincount(np.unique(known.row * width + known.values) // width, minlength=truth.rows)
    return inside + truth.where(truth.values < 0).lengths


def coverage(ranked: np.ndarray, items: int, ks: Sequence[int]) -> dict[str, float]:
    """Share of the corpus that is in at least one user's first k, as `coverage@50`.

    Args:
      ranked: [U, L] int64.
      items: C.
      ks: list lengths.
    """
    shown = {k: np.unique(ranked[:, :k]) for k in ks}
    return {f"coverage@{k}": float((found >= 0).sum() / max(1, items)) for k, found in shown.items()}


def means(measures: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Mean of each measure over the users that have one; 0 where none has."""
    return {name: float(np.nanmean(x)) if np.isfinite(x).any() else 0.0 for name, x in measures.items()}
