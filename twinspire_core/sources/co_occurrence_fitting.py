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

from typing import Any, NamedTuple

import numpy as np

from twinspire_core.compiled_loops import compiled
from twinspire_core.search.ragged import list_offsets
from twinspire_core.sources.sequences import Sequences

SHRINKAGE = 1.0
"""Added to the denominator, so that few events make no item near."""
MOST_EVENTS = 2_000_000
"""Events that are paired, those of the users seen last."""


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
    rows = np.full((corpus_size, n), -1, np.int32)
    similarities = np.zeros((corpus_size, n), np.float32)
    lengths = np.bincount(items.values, minlength=corpus_size)
    _find_nearest(
        *(list_offsets(lengths), np.argsort(items.values, kind="stable")),
        *(items.values, items.row, ages.astype(np.float64), decay),
        *(events, settings.reach, settings.lags),
        *(rows, similarities),
    )
    return rows, similarities


@compiled
def _find_nearest(
    begin: Any,
    events_of_item: Any,
    items: Any,
    users: Any,
    ages: Any,
    decay: Any,
    decayed_events: Any,
    reach: Any,
    lags: Any,
    nearest: Any,
    similarities: Any,
) -> None:
    corpus_size, kept = nearest.shape
    sums = np.zeros(corpus_size, np.float64)
    met = np.empty(corpus_size + 1, np.int64)
    for item in range(corpus_size):
        count = 0
        for number in range(begin[item], begin[item + 1]):
            event = events_of_item[number]
            # Lists are newest first: what is further on is older.
            for place in range(max(event - lags, 0), min(event + lags + 1, len(items))):
                other = items[place]
                if users[place] != users[event] or other == item:
                    continue
                newer, older = min(event, place), max(event, place)
                weight = decay[newer] * np.exp((ages[newer] - ages[older]) / reach)
                if weight > 0:  # else the sum would not show that the item was met
                    met[count] = other
                    count += sums[other] == 0
                    sums[other] += weight
        size = 0
        for number in range(count):
            other = met[number]
            scale = np.sqrt(decayed_events[item] * decayed_events[other])
            similarity = np.float32(sums[other] / (scale + SHRINKAGE))
            sums[other] = 0
            # Where it belongs among those kept: the nearest first, of equally near ones the first row.
            place = size
            while place > 0 and (
                similarities[item, place - 1] < similarity
                or (
                    similarities[item, place - 1] == similarity and nearest[item, place - 1] > other
                )
            ):
                place -= 1
            if place == kept:
                continue
            size = min(size + 1, kept)
            for behind in range(size - 1, place, -1):
                similarities[item, behind] = similarities[item, behind - 1]
                nearest[item, behind] = nearest[item, behind - 1]
            similarities[item, place] = similarity
            nearest[item, place] = other
