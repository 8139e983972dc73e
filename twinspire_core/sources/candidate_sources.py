"""Sources of candidates: the two-tower, and those that need no model. Imports no TensorFlow:
serving uses it too.

    two_tower       by the vectors
    past            what the user had before, the most frequent first, then the most recent
    popular_lately  by events of the last `evaluation.lately_days`
    most_popular    by events in the count window
    co_occurrence   the items nearest to what the user had before: their similarities to it, added up

U queries, C items of a catalogue; items are positions in it, -1 is none. A source alone that has no
more to say is followed by the most popular items; in a mix (twinspire_core/fusion/fuse.py) it falls
silent.
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

TWO_TOWER, CO_OCCURRENCE, MIX = "two_tower", "co_occurrence", "mix"
PAST, POPULAR_LATELY, MOST_POPULAR = (
    baselines.PAST,
    baselines.POPULAR_LATELY,
    baselines.MOST_POPULAR,
)
SEEDS = 20
"""Items of a past, the first of it, whose neighbours are looked up."""

_NOTHING = np.zeros(0, np.int64)
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
        catalogue.

        Args:
          table: its neighbours are rows of the same catalogue in order of id.
          items: [C] distinct ids, in any order. What is known of items outside is left out.
        """
        items = items.combine_chunks() if isinstance(items, pa.ChunkedArray) else items
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
      popular: [C] int64, the catalogue by events in the count window.
      lately: [C] int64, the catalogue by events of the last days.
      neighbours: of each item; None if they were not counted.
      passing: [C] bool, what may be listed; None for everything.
    """

    popular: np.ndarray
    lately: np.ndarray
    neighbours: Neighbours | None
    passing: np.ndarray | None = None

    @classmethod
    def of(cls, corpus: pa.Table, together: pa.Table | None) -> Self:
        """Reads them out of a catalogue and its table of co-occurrence.

        Args:
          corpus: `_item`, `_popular`, `_lately`.
          together: rows of `co_occurrence/` of the same moment.
        """
        return cls(
            popular=baselines.popular_order(corpus, "_popular"),
            lately=baselines.popular_order(corpus, "_lately"),
            neighbours=Neighbours.of(together, corpus["_item"]) if together is not None else None,
        )

    def among(self, passing: np.ndarray) -> Self:
        """The same sources, with nothing to say of items that do not pass, [C] bool. A past may
        still name these.
        """
        kept = {
            "popular": self.popular[passing[self.popular]],
            "lately": self.lately[passing[self.lately]],
        }
        return replace(self, passing=passing, **kept)

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
        """What the sources have to say, each for itself.

        Args:
          names: of sources.
          past: U lists of what users had before, in the order of the source `past`.
          depth: items of a list at the most.
          two_tower: [U, L] int64, the two-tower's lists, without what is excluded.
          near: those of co-occurrence, likewise, where they are known already.
          exclude: U lists of items that must not be listed.

        Returns: [U, depth] int64 by name, best first, -1 behind the end.
        """
        given = {TWO_TOWER: two_tower, CO_OCCURRENCE: near}
        return {name: self._list(name, past, depth, given.get(name), exclude) for name in names}

    def alone(
        self, name: str, past: Ragged, k: int, *, exclude: Ragged | None = None
    ) -> np.ndarray:
        """The lists of one source that needs no model, followed by the most popular items: [U, k]
        int64.
        """
        own = self._list(name, past, k, None, exclude)
        return self.filled(own, k, exclude=exclude)

    def filled(self, ranked: np.ndarray, k: int, *, exclude: Ragged | None = None) -> np.ndarray:
        """Lists, [U, L] int64, each item once and none excluded, followed by the most popular
        items: [U, k] int64.
        """
        full = (
            ranked[:, :k].copy()
            if ranked.shape[1] >= k
            else np.full((len(ranked), k), -1, np.int64)
        )
        short = np.flatnonzero((full < 0).any(axis=1))
        if len(short):
            row, place = np.nonzero(ranked[short] >= 0)
            own = Ragged(ranked[short][row, place], row, len(short))
            without = exclude.take(short) if exclude is not None else None
            full[short] = baselines.past_then(own, self.popular, k, exclude=without)
        return full

    def _list(
        self, name: str, past: Ragged, depth: int, given: np.ndarray | None, exclude: Ragged | None
    ) -> np.ndarray:
        if given is not None:
            return given[:, :depth]
        if name == PAST:
            own = (
                past
                if self.passing is None
                else past.where((past.values >= 0) & self.passing[past.values])
            )
            return baselines.past_then(own, _NOTHING, depth, exclude=exclude)
        if name in (MOST_POPULAR, POPULAR_LATELY):
            order = self.popular if name == MOST_POPULAR else self.lately
            return baselines.same_for_all(order, past.rows, depth, exclude=exclude)
        if name == CO_OCCURRENCE and self.neighbours is not None:
            return nearest(past, self.neighbours, depth, exclude=exclude, passing=self.passing)
        return np.full((past.rows, depth), -1, np.int64)


def most_frequent_first(histories: Ragged) -> Ragged:
    """What users had before, in the order of the source `past`, out of histories, oldest first: -1
    is left out.
    """
    known = histories.where(histories.values >= 0)
    pairs, of, n = np.unique(
        np.stack([known.row, known.values]), axis=1, return_inverse=True, return_counts=True
    )
    last = np.zeros(len(n), np.int64)
    np.maximum.at(last, of.ravel(), np.arange(len(known.values)))
    order = np.lexsort((-last, -n, pairs[0]))
    return Ragged(pairs[1][order], pairs[0][order], histories.rows)


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
      past: U lists of positions, -1 outside the catalogue.
      near: the neighbours.
      k: length of the lists.
      exclude: U lists of positions that must not be listed.
      passing: [C] bool, what may be listed.

    Returns: [U, k] int64, best first, equal ones by position, -1 behind the end.
    """
    # What is excluded cannot use up more than its own number of places.
    most = k + (int(exclude.lengths.max(initial=0)) if exclude is not None else 0)
    ranked = np.full((past.rows, most), -1, np.int64)
    known = past.where(past.values >= 0)
    chunk = max(1, min(_CHUNK, _PAIRS // max(1, len(near.rows))))
    for start in range(0, past.rows, chunk):
        stop = min(start + chunk, past.rows)
        ranked[start:stop] = _nearest(known.part(start, stop), near, most, passing)
    return ranked if exclude is None else first_distinct(ranked, k, exclude=exclude)


def _nearest(past: Ragged, near: Neighbours, k: int, passing: np.ndarray | None) -> np.ndarray:
    seeds = past.where(list_places(past.lengths) < SEEDS)
    there = near.rows[seeds.values] >= 0
    there &= True if passing is None else passing[near.rows[seeds.values]]
    user = np.repeat(seeds.row, there.sum(axis=1))
    item, similarity = (
        near.rows[seeds.values][there].astype(np.int64),
        near.similarities[seeds.values][there],
    )
    # Sorted as one number, the pair and the bits of its similarity: those of one pair come
    # together, and sums of a few floats are exact in doubles, in whatever order.
    key = (user * len(near.rows) + item) << 32 | similarity.view(np.uint32)
    key.sort()
    pair = key >> 32
    first = np.flatnonzero(np.diff(pair, prepend=-1))
    if not len(first):
        return np.full((past.rows, k), -1, np.int64)
    sums = np.add.reduceat(
        (key & 0xFFFFFFFF).astype(np.uint32).view(np.float32).astype(np.float64), first
    )
    user, item = np.divmod(pair[first], len(near.rows))
    candidates = Ragged(item, user, past.rows).padded()
    scores = np.full(candidates.shape, -np.inf)
    scores[candidates >= 0] = sums
    column = best_of(scores, min(k, candidates.shape[1]))
    found = np.where(column >= 0, np.take_along_axis(candidates, column, axis=1), -1)
    return np.pad(found, ((0, 0), (0, k - found.shape[1])), constant_values=-1)
