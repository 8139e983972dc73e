"""Distinct items of users with weights: what fitted sources read of sequences, and of queries.

U users, M items of theirs, C items of the corpus.
"""

from typing import NamedTuple, Self

import numpy as np

from twinspire_core.contracts.feature_schema import PERSONAL_HALF_LIVES
from twinspire_core.search.ragged import Ragged, list_places
from twinspire_core.sources.personal_counts import half_life_column
from twinspire_core.sources.sequences import Sequences
from twinspire_core.sources.source import Queries

HALF_LIFE = "60d"
"""Of `personal_counts.HALF_LIVES`, where a source says no other."""


class WeightedItems(NamedTuple):
    """Distinct items of each user.

    Attributes:
      items: U lists of positions in the corpus, each once, the one taken last first.
      weights: [M] float32, how often each was taken; older events count less.
      ages: [M] float32, days since each was taken last.
    """

    items: Ragged
    weights: np.ndarray
    ages: np.ndarray

    @classmethod
    def of(cls, sequences: Sequences, corpus_size: int, half_life: str = HALF_LIFE) -> Self:
        """Sums up events: one that is a half-life old counts half.

        Args:
          sequences: the events.
          corpus_size: C.
          half_life: of `personal_counts.HALF_LIVES`.
        """
        items, ages = sequences
        days = PERSONAL_HALF_LIVES[half_life_column(half_life)]
        pair = items.row * corpus_size + items.values
        _, first, inverse = np.unique(pair, return_index=True, return_inverse=True)
        counted = np.exp2(-ages.astype(np.float64) / days)
        sums = np.bincount(inverse, weights=counted, minlength=len(first))
        # Events are the newest first, so the first of an item is its last; back to their order.
        order = np.argsort(first)
        first = first[order]
        distinct = Ragged(items.values[first], items.row[first], items.rows)
        return cls(distinct, sums[order].astype(np.float32), ages[first])

    @classmethod
    def of_queries(cls, queries: Queries, half_life: str = HALF_LIFE) -> Self:
        """What queries say of pasts, with a half-life; of queries that say nothing of times, each
        item of the past counts 1.
        """
        personal = queries.personal
        if personal is None:
            past = queries.past.where(queries.past.values >= 0)
            ones = np.ones(len(past.values), np.float32)
            return cls(past, ones, list_places(past.lengths).astype(np.float32))
        counts = personal.counts[half_life]
        known = personal.newest_first
        known = known.where(counts[known.values] > 0)
        entry = known.values
        items = known._replace(values=personal.item[entry])
        return cls(items, counts[entry], personal.age[entry])

    def first(self, most: int) -> Self:
        """At most so many items of each user, those taken last."""
        keep = list_places(self.items.lengths) < most
        return type(self)(self.items.where(keep), self.weights[keep], self.ages[keep])

    def part(self, start: int, stop: int) -> Self:
        """Users `start` to `stop`."""
        first, last = np.searchsorted(self.items.row, [start, stop])
        return type(self)(
            self.items.part(start, stop), self.weights[first:last], self.ages[first:last]
        )


def of_length_one(lists: Ragged, weights: np.ndarray) -> np.ndarray:
    """Weights of lists, [M] float32, over the length of the vector that each list is."""
    squares = np.bincount(lists.row, weights=weights.astype(np.float64) ** 2, minlength=lists.rows)
    lengths = np.sqrt(squares)[lists.row]
    unit: np.ndarray = (weights / np.maximum(lengths, 1e-30)).astype(np.float32)
    return unit
