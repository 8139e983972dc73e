"""What each user took, without the user's id: event by event, which fitted sources are made of, and as
distinct items with weights.

U users, M events or items of theirs, C items of the corpus.
"""

from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa

from twinspire_core.contracts.feature_schema import PERSONAL_HALF_LIVES
from twinspire_core.search.ragged import Ragged, list_places, positions
from twinspire_core.sources.personal_counts import half_life_column

HALF_LIFE = "60d"
"""Of `personal_counts.HALF_LIVES`: the one of sources that use no other."""


class Sequences(NamedTuple):
    """Users' events as of a moment, each user's newest first.

    Attributes:
      items: U lists of positions in the corpus; events of other items are left out.
      ages: [M] float32, days from each event to the moment, not falling within a list.
    """

    items: Ragged
    ages: np.ndarray

    @classmethod
    def of(cls, table: pa.Table, corpus: pa.Array | pa.ChunkedArray) -> Self:
        """Reads rows of `sequences/` (`feature_schema.sequences_schema`) for a corpus of distinct ids, [C]."""
        items = positions(table["_items"], corpus)
        ages = table["_ages"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return cls(items, ages.astype(np.float32)).where(items.values >= 0)

    def where(self, keep: np.ndarray) -> Self:
        """Only the events where `keep`, [M] bool, holds."""
        return type(self)(self.items.where(keep), self.ages[keep])

    def of_users(self, users: np.ndarray) -> Self:
        """The users of these numbers, [K] int64 ascending."""
        is_wanted = np.zeros(self.items.rows, bool)
        is_wanted[users] = True
        return type(self)(self.items.take(users), self.ages[is_wanted[self.items.row]])

    def newest_users(self, most_events: int) -> Self:
        """The users whose last events are the newest, as many as have `most_events` together, but at
        least one. The users stay in their order.
        """
        lengths = self.items.lengths
        if lengths.sum() <= most_events:
            return self
        last = np.full(self.items.rows, np.inf, np.float32)
        is_first = list_places(lengths) == 0
        last[self.items.row[is_first]] = self.ages[is_first]
        order = np.argsort(last, kind="stable")
        fitting = int(np.searchsorted(np.cumsum(lengths[order]), most_events, side="right"))
        return self.of_users(np.sort(order[: max(1, fitting)]))


class WeightedItems(NamedTuple):
    """Distinct items of each user, with weights: the form in which fitted sources read events and queries.

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
        """Sums up events; one that is a half-life, of `personal_counts.HALF_LIVES`, old counts half."""
        items, ages = sequences
        days = PERSONAL_HALF_LIVES[half_life_column(half_life)]
        pair = items.row * corpus_size + items.values
        _, first, inverse = np.unique(pair, return_index=True, return_inverse=True)
        counted = np.exp2(-ages.astype(np.float64) / days)
        sums = np.bincount(inverse, weights=counted, minlength=len(first))
        # Events come newest first, so the first event of an item is its last one; the sort brings items
        # back into that order.
        order = np.argsort(first)
        first = first[order]
        distinct = Ragged(items.values[first], items.row[first], items.rows)
        return cls(distinct, sums[order].astype(np.float32), ages[first])

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
    """Weights of lists, [M] float32, divided by the length of the vector that each list stands for."""
    squares = np.bincount(lists.row, weights=weights.astype(np.float64) ** 2, minlength=lists.rows)
    lengths = np.sqrt(squares)[lists.row]
    return np.asarray(weights / np.maximum(lengths, 1e-30), np.float32)
