"""Pairs of a query and one of its candidates, which the ranker scores, and the interface of the groups of
features that it scores them by. Groups import no TensorFlow, because serving uses them too.

U queries, S sources, L places of a list, M pairs, C items of the corpus, D dimensions of vectors.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np

from twinspire_core.fusion.rank_fusion import CONSTANT, pool_pairs
from twinspire_core.search.top_k import best_entries
from twinspire_core.sources.candidate_sources import depth_of
from twinspire_core.sources.source import Queries, ScoredLists, SourceTables
from twinspire_core.sources.user_histories import HALF_LIFE, PersonalCounts, WeightedItems

NEWEST = 20
"""Candidates are compared with this many items of a history, the newest."""


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """The towers' vectors of queries and items.

    Attributes:
      queries: [U, D] float32, of length 1.
      items: [C, D] float32, of length 1.
    """

    queries: np.ndarray
    items: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """All candidates of some queries.

    Attributes:
      query: [M] int64, ascending.
      item: [M] int64, ascending within a query.
      queries: U of them.
      lists: by source; the candidates are the items of all lists.
      gains: [M, S] float32, 1 / (1 + place / 60) in each source's list, 0 where that lacks the item.
      corpus_size: number of items in the corpus, C.
      vectors: None where no tower was used.
    """

    query: np.ndarray
    item: np.ndarray
    queries: Queries
    lists: Mapping[str, ScoredLists]
    gains: np.ndarray
    corpus_size: int
    vectors: Vectors | None = None

    @classmethod
    def of(
        cls,
        lists: Mapping[str, ScoredLists],
        queries: Queries,
        corpus_size: int,
        vectors: Vectors | None = None,
    ) -> Self:
        """The candidates of some queries' lists by source; vectors are of these queries and all items."""
        query, item, gains = pool_pairs([of_source.items for of_source in lists.values()])
        return cls(
            query=query,
            item=item,
            queries=queries,
            lists=lists,
            gains=gains,
            corpus_size=corpus_size,
            vectors=vectors,
        )

    def __len__(self) -> int:
        return len(self.query)

    @cached_property
    def begin(self) -> np.ndarray:
        """[U + 1] int64, where the pairs of each query begin."""
        return np.searchsorted(self.query, np.arange(len(self.queries) + 1))

    @cached_property
    def least_gains(self) -> np.ndarray:
        """[S] float64: an item with more gain is a candidate of the source (`Source.depth`)."""
        depths = np.array([depth_of(name) for name in self.lists])
        # Half a place further: a gain between those of the last candidate and of the next item.
        return np.asarray(1 / (1 + (depths - 0.5) / CONSTANT))

    @cached_property
    def personal(self) -> PersonalCounts:
        """What the queries' users took before; where that was not counted, each item of a history once."""
        return self.queries.personal or PersonalCounts.of_histories(self.queries.past)

    @cached_property
    def past_pair(self) -> np.ndarray:
        """The pair of each entry of the queries' counts, [N] int64; -1 for an item that is no candidate."""
        return self.find(self.personal.items.row, self.personal.items.values)

    @cached_property
    def past_totals(self) -> np.ndarray:
        """[U] float64, the sum of what each query's user took before, decayed with `HALF_LIFE`."""
        weights = self.personal.of_entry[HALF_LIFE]
        return np.bincount(self.personal.items.row, weights=weights, minlength=len(self.queries))

    @cached_property
    def newest(self) -> WeightedItems:
        """The `NEWEST` items that each query's user took last."""
        return self.queries.weighted_items().first(NEWEST)

    def some(self, kept: np.ndarray) -> Self:
        """Some of the pairs: [K] int64, ascending."""
        return replace(self, query=self.query[kept], item=self.item[kept], gains=self.gains[kept])

    def part(self, start: int, stop: int) -> Self:
        """The pairs of queries `start` to `stop`."""
        first, last = np.searchsorted(self.query, [start, stop])
        vectors = self.vectors
        if vectors is not None:
            vectors = replace(vectors, queries=vectors.queries[start:stop])
        return type(self)(
            query=self.query[first:last] - start,
            item=self.item[first:last],
            queries=self.queries.part(start, stop),
            lists={name: x.take(slice(start, stop)) for name, x in self.lists.items()},
            gains=self.gains[first:last],
            corpus_size=self.corpus_size,
            vectors=vectors,
        )

    def find(self, query: np.ndarray, item: np.ndarray) -> np.ndarray:
        """The numbers of the pairs of these queries and items, [N] int64; -1 where there is no such pair.

        Args:
          query: [N] int64.
          item: [N] int64, -1 for no item of the corpus.
        """
        wanted = query * self.corpus_size + item
        number = np.searchsorted(self._keys, wanted)
        is_pair = (item >= 0) & (item < self.corpus_size)
        is_pair &= np.append(self._keys, -1)[number] == wanted
        return np.where(is_pair, number, -1)

    @cached_property
    def _keys(self) -> np.ndarray:
        """[M] int64, a number for each query and item, ascending."""
        return self.query * self.corpus_size + self.item

    def best(self, scores: np.ndarray, k: int) -> np.ndarray:
        """The best k pairs of each query by scores, [M] float32: [U, k] int64, best first, -1 behind the
        end. Of equal scores the lower item comes first.
        """
        return best_entries(self.begin, scores, k)


class Feature(NamedTuple):
    """What a feature's values say.

    Attributes:
      words: a value in plain words: `bought 3 times in the last weeks`.
      unknown: what is said where the value is missing.
      needs_times: whether it is missing where the times of the user's events are unknown.
    """

    words: Callable[[float], str]
    unknown: str
    needs_times: bool = False

    def describe(self, value: float) -> str:
        """A value, NaN where it is missing, in plain words."""
        return self.unknown if np.isnan(value) else self.words(value)


class FeatureGroup(ABC):
    """Features that are made from the same data, as of one moment."""

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """The group, or None where its data is missing, and with it its features; by default it needs none.

        Whatever is the same for all queries is computed here, once.
        """
        return cls()

    @abstractmethod
    def features(self, sources: Sequence[str]) -> Mapping[str, Feature]:
        """Its F features by name, for candidates of these sources. Names are in lower case, with `:` before a
        source or an attribute.
        """

    @abstractmethod
    def write(self, pairs: Pairs, values: np.ndarray) -> None:
        """Writes the features of M pairs into values, [F, M] float32, in the order of the names. All of it
        is written, with NaN where a value is not known.
        """
