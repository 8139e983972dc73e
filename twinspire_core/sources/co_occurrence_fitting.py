"""Items that users took close to each other, in place and in time: for each item its nearest others.

Two events of a user that are l places apart, l up to `lags`, with t days between them and the newer
one g days ago, add

    w = exp(-t / reach) 2^(-g / half_life)

to the pair of their items, in both orders. With n the decayed events of each item, the items'
similarity is

    sum of w / (sqrt(n_a n_b) + SHRINKAGE)

The same idea: co-visitation matrices of the OTTO recommender challenge (Kaggle, 2022).

C items of the corpus, N neighbours kept.
"""

from typing import NamedTuple

import numpy as np

from twinspire_core.search.ragged import list_places
from twinspire_core.sources.sequences import Sequences

SHRINKAGE = 1.0
"""Added to the denominator, so that few events make no item near."""
MOST_EVENTS = 2_000_000
"""Events that are paired, those of the users seen last."""

_WAITING = 1 << 24
"""Pairs that are held before equal ones are added up."""


class CoOccurrenceSettings(NamedTuple):
    """Constants of the similarity.

    Attributes:
      reach: days between two events after which a pair counts 1/e.
      half_life: days after which it counts half; infinity for never.
      lags: the most places that two events are apart.
    """

    reach: float
    half_life: float
    lags: int = 20


def fit(
    sequences: Sequences, corpus_size: int, settings: CoOccurrenceSettings, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each item's nearest others.

    Args:
      sequences: of users.
      corpus_size: C.
      settings: constants.
      n: the most neighbours of an item.

    Returns: rows [C, n] int32, nearest first, then by row, -1 behind the end; similarities [C, n]
      float32, 0 there.
    """
    sequences = sequences.newest_users(MOST_EVENTS)
    items, ages = sequences
    decay = np.exp2(-ages.astype(np.float64) / settings.half_life)
    events = np.bincount(items.values, weights=decay, minlength=corpus_size)
    pair, weight = _pairs(sequences, corpus_size, settings)
    one, other = np.divmod(pair, corpus_size)
    scale = np.sqrt(events[one] * events[other])
    similarity = (weight / (scale + SHRINKAGE)).astype(np.float32)

    # Positive floats sort like their bits, so item and distance fit into one integer. Others ascend
    # within each item, and the sort is stable: of equally near ones the first rows come first.
    distance = 0xFFFFFFFF - similarity.view(np.uint32).astype(np.int64)
    order = np.argsort((one << 32) | distance, kind="stable")
    lengths = np.bincount(one, minlength=corpus_size)
    place = list_places(lengths)
    is_kept = place < n
    rows = np.full((corpus_size, n), -1, np.int32)
    similarities = np.zeros((corpus_size, n), np.float32)
    kept = order[is_kept]
    rows[one[kept], place[is_kept]] = other[kept]
    similarities[one[kept], place[is_kept]] = similarity[kept]
    return rows, similarities


def _pairs(
    sequences: Sequences, corpus_size: int, settings: CoOccurrenceSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of items in both orders, item * C + other, each once, [P] int64, and the sum of their
    weights, float64. Of each item the others ascend.
    """
    items, ages = sequences
    found: list[tuple[np.ndarray, np.ndarray]] = []
    waiting = 0
    most = _WAITING
    for lag in range(1, settings.lags + 1):
        # Lists are newest first: the event so many places on is the older one.
        same_user = items.row[lag:] == items.row[:-lag]
        newer = items.values[:-lag][same_user]
        older = items.values[lag:][same_user]
        newer_age = ages[:-lag][same_user].astype(np.float64)
        apart = ages[lag:][same_user] - newer_age
        weight = np.exp(-apart / settings.reach) * np.exp2(-newer_age / settings.half_life)
        differ = newer != older
        # Both orders weigh the same: one is counted.
        pair = np.minimum(newer, older) * corpus_size + np.maximum(newer, older)
        found.append((pair[differ], weight[differ]))
        waiting += int(np.count_nonzero(differ))
        if waiting > most:
            found = [_added(found)]
            waiting = len(found[0][0])
            # So that what does not shrink is not sorted again for each lag.
            most = max(most, 2 * waiting)
    pairs, weights = _added(found)
    one, other = np.divmod(pairs, corpus_size)
    # Each item first with the smaller others, then with the larger ones.
    both = np.concatenate([other * corpus_size + one, pairs])
    return both, np.concatenate([weights, weights])


def _added(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Each pair once, with the sum of its weights."""
    pairs = np.concatenate([pairs for pairs, _ in parts])
    weights = np.concatenate([weights for _, weights in parts])
    if not len(pairs):
        return pairs, weights
    order = np.argsort(pairs, kind="stable")
    pairs = pairs[order]
    starts = np.flatnonzero(np.diff(pairs, prepend=-1))
    return pairs[starts], np.add.reduceat(weights[order], starts)
