"""Sources of candidates: the two-tower, and those that need no model. Imports no TensorFlow:
serving uses it too.

    two_tower       by the vectors
    past            what the user had before, the most frequent first, then the most recent
    popular_lately  by events of the last `evaluation.lately_days`
    most_popular    by events in the count window
    co_occurrence   the items nearest to what the user had before: their similarities to it, added up

U queries, C items of the corpus; items are positions in it, -1 is none. Where a source alone lists
fewer items than are asked for, the most popular ones follow; in a fusion
(twinspire_core/fusion/fuse.py) its list ends there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core.metrics.ranking import first_distinct
from twinspire_core.search.ragged import Ragged, list_lengths, list_places
from twinspire_core.search.top_k import best_of
from twinspire_core.sources import baselines

TWO_TOWER = "two_tower"
CO_OCCURRENCE = "co_occurrence"
MIX = "mix"
PAST = baselines.PAST
POPULAR_LATELY = baselines.POPULAR_LATELY
MOST_POPULAR = baselines.MOST_POPULAR
SEEDS = 20
"""Items of a past, the first of it, whose neighbours are looked up."""

_NO_ITEMS = np.zeros(0, np.int64)
_CHUNK = 1024
_PAIRS = 2**31  # of a user and an item, that fit beside a float into 64 bits


class Neighbours(NamedTuple):
    """Items taken by the same users.

    Attributes:
      rows: [C, N] int32, each item's neighbours, nearest first, -1 behind the end.
      similarities: [C, N] float32, 0 there.
    """

    rows: np.ndarray
    similarities: np.ndarray

    @classmethod
    def of(cls, table: pa.Table, items: pa.Array | pa.ChunkedArray) -> Self:
        """Reads rows of `twinspire_core.contracts.feature_schema.co_occurrence_schema` for a
        corpus.

        Args:
          table: its neighbours are rows of the same corpus in order of id.
          items: [C] distinct ids, in any order. What is known of items outside is left out.
        """
        if isinstance(items, pa.ChunkedArray):
            items = items.combine_chunks()
        # The table numbers items in order of id; `order` leads from there to positions.
        order = pc.sort_indices(items).to_numpy()
        place = pc.index_in(table["_item"].combine_chunks(), value_set=items)
        table = table.filter(place.is_valid())
        place = place.drop_null().to_numpy()
        near = table["_rows"].combine_chunks()
        lengths = list_lengths(near)
        row = np.repeat(place, lengths)
        column = list_places(lengths)
        width = max(1, int(lengths.max(initial=0)))
        rows = np.full((len(items), width), -1, np.int32)
        similarities = np.zeros((len(items), width), np.float32)
        rows[row, column] = order[near.flatten().to_numpy()]
        similarities[row, column] = table["_similarities"].combine_chunks().flatten().to_numpy()
        return cls(rows, similarities)


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateSources:
    """What the sources that need no model are made of.

    Attributes:
      popular: [C] int64, the corpus by events in the count window.
      lately: [C] int64, the corpus by events of the last days.
      neighbours: of each item; None if they were not counted.
      passing: [C] bool, what may be listed; None for everything.
    """

    popular: np.ndarray
    lately: np.ndarray
    neighbours: Neighbours | None
    passing: np.ndarray | None = None

    @classmethod
    def of(cls, corpus: pa.Table, co_occurrence: pa.Table | None) -> Self:
        """Reads them out of a corpus and its table of co-occurrence.

        Args:
          corpus: `_item`, `_popular`, `_lately`.
          co_occurrence: rows of `co_occurrence/` of the same moment.
        """
        neighbours = None
        if co_occurrence is not None:
            neighbours = Neighbours.of(co_occurrence, corpus["_item"])
        return cls(
            popular=baselines.popular_order(corpus, "_popular"),
            lately=baselines.popular_order(corpus, "_lately"),
            neighbours=neighbours,
        )

    def among(self, passing: np.ndarray) -> Self:
        """The same sources, which list only items that pass, [C] bool. Items that do not pass may
        still be in a past.
        """
        return replace(
            self,
            popular=self.popular[passing[self.popular]],
            lately=self.lately[passing[self.lately]],
            passing=passing,
        )

    def retrieve(
        self,
        names: Sequence[str],
        past: Ragged,
        depth: int,
        *,
        two_tower: np.ndarray | None = None,
        near: np.ndarray | None = None,
        exclude: Ragged | None = None,
    ) -> Mapping[str, np.ndarray]:
        """The lists of some sources, each by itself.

        Args:
          names: of sources.
          past: U lists of what users had before, in the order of the source `past`.
          depth: items of a list at the most.
          two_tower: [U, L] int64, the two-tower's lists, without what is excluded.
          near: those of co-occurrence, likewise, where they are known already.
          exclude: U lists of items that must not be listed.

        Returns: [U, depth] int64 by name, best first, -1 behind the end.
        """
        known = {TWO_TOWER: two_tower, CO_OCCURRENCE: near}
        lists: dict[str, np.ndarray] = {}
        for name in names:
            ranked = known.get(name)
            if ranked is None:
                lists[name] = self._list(name, past, depth, exclude)
            else:
                lists[name] = ranked[:, :depth]
        return lists

    def alone(
        self, name: str, past: Ragged, k: int, *, exclude: Ragged | None = None
    ) -> np.ndarray:
        """The lists of one source that needs no model, followed by the most popular items: [U, k]
        int64.
        """
        own = self._list(name, past, k, exclude)
        return self.filled(own, k, exclude=exclude)

    def filled(self, ranked: np.ndarray, k: int, *, exclude: Ragged | None = None) -> np.ndarray:
        """Lists, [U, L] int64, each item once and none excluded, followed by the most popular
        items: [U, k] int64.
        """
        filled = np.full((len(ranked), k), -1, np.int64)
        filled[:, : ranked.shape[1]] = ranked[:, :k]
        short = np.flatnonzero((filled < 0).any(axis=1))
        if len(short):
            row, place = np.nonzero(ranked[short] >= 0)
            own = Ragged(ranked[short][row, place], row, len(short))
            excluded = exclude.take(short) if exclude is not None else None
            filled[short] = baselines.past_then(own, self.popular, k, exclude=excluded)
        return filled

    def _list(self, name: str, past: Ragged, depth: int, exclude: Ragged | None) -> np.ndarray:
        """The lists of one source, [U, depth] int64; empty where it knows nothing to go by."""
        if name == PAST:
            # A list of the past alone, not filled up: the common order is empty.
            if self.passing is not None:
                past = past.where((past.values >= 0) & self.passing[past.values])
            return baselines.past_then(past, _NO_ITEMS, depth, exclude=exclude)
        if name == MOST_POPULAR:
            return baselines.same_for_all(self.popular, past.rows, depth, exclude=exclude)
        if name == POPULAR_LATELY:
            return baselines.same_for_all(self.lately, past.rows, depth, exclude=exclude)
        if name == CO_OCCURRENCE and self.neighbours is not None:
            return nearest(past, self.neighbours, depth, exclude=exclude, passing=self.passing)
        return np.full((past.rows, depth), -1, np.int64)


def most_frequent_first(histories: Ragged) -> Ragged:
    """What users had before, in the order of the source `past`, out of histories, oldest first: -1
    is left out.
    """
    known = histories.where(histories.values >= 0)
    (row, item), pair_of, events = np.unique(
        np.stack([known.row, known.values]), axis=1, return_inverse=True, return_counts=True
    )
    last_place = np.zeros(len(events), np.int64)
    np.maximum.at(last_place, pair_of.ravel(), np.arange(len(known.values)))
    order = np.lexsort((-last_place, -events, row))
    return Ragged(item[order], row[order], histories.rows)


def nearest(
    past: Ragged,
    near: Neighbours,
    k: int,
    *,
    exclude: Ragged | None = None,
    passing: np.ndarray | None = None,
) -> np.ndarray:
    """The items that lie nearest to the first `SEEDS` of each past, by the sum of the similarities.

    Args:
      past: U lists of positions, -1 outside the corpus.
      near: the neighbours.
      k: length of the lists.
      exclude: U lists of positions that must not be listed.
      passing: [C] bool, what may be listed.

    Returns: [U, k] int64, best first, equal ones by position, -1 behind the end.
    """
    most = k
    if exclude is not None:
        # What is excluded cannot use up more than its own number of places.
        most += int(exclude.lengths.max(initial=0))
    ranked = np.full((past.rows, most), -1, np.int64)
    known = past.where(past.values >= 0)
    # A chunk's users and the items must fit into the upper bits of a key.
    chunk = max(1, min(_CHUNK, _PAIRS // max(1, len(near.rows))))
    for start in range(0, past.rows, chunk):
        stop = min(start + chunk, past.rows)
        ranked[start:stop] = _nearest(known.part(start, stop), near, most, passing)
    return ranked if exclude is None else first_distinct(ranked, k, exclude=exclude)


def _nearest(past: Ragged, near: Neighbours, k: int, passing: np.ndarray | None) -> np.ndarray:
    # Pasts may be long; their first items say most, and bound the work.
    seeds = past.where(list_places(past.lengths) < SEEDS)
    neighbours = near.rows[seeds.values]
    is_listed = neighbours >= 0
    if passing is not None:
        is_listed &= passing[neighbours]
    user = np.repeat(seeds.row, is_listed.sum(axis=1))
    item = neighbours[is_listed].astype(np.int64)
    similarity = near.similarities[seeds.values][is_listed]
    # Sorted as one number, the pair and the bits of its similarity: those of one pair come
    # together, and sums of a few floats are exact in doubles, in whatever order.
    key = (user * len(near.rows) + item) << 32 | similarity.view(np.uint32)
    key.sort()
    pair = key >> 32
    first = np.flatnonzero(np.diff(pair, prepend=-1))
    if not len(first):
        return np.full((past.rows, k), -1, np.int64)
    sorted_similarity = (key & 0xFFFFFFFF).astype(np.uint32).view(np.float32)
    sums = np.add.reduceat(sorted_similarity.astype(np.float64), first)
    user, item = np.divmod(pair[first], len(near.rows))
    candidates = Ragged(item, user, past.rows).padded()
    scores = np.full(candidates.shape, -np.inf)
    scores[candidates >= 0] = sums
    column = best_of(scores, min(k, candidates.shape[1]))
    best = np.where(column >= 0, np.take_along_axis(candidates, column, axis=1), -1)
    return np.pad(best, ((0, 0), (0, k - best.shape[1])), constant_values=-1)
