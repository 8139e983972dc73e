"""Pairs of a query and one of its candidates: what the second stage gives scores to.

U queries, S sources, L places of a list, M pairs, C items of the corpus, D dimensions of vectors.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from twinspire_core.fusion.candidate_pool import CONSTANT, pool_candidates
from twinspire_core.ranking.past_entries import PastEntries
from twinspire_core.search.top_k import best_of
from twinspire_core.sources.registry import depth_of
from twinspire_core.sources.source import Queries, ScoredLists
from twinspire_core.sources.weighted_items import HALF_LIFE, WeightedItems

NEWEST = 20
"""Items of a history, the newest ones, that candidates are compared with."""
_SLOTS = 1 << 22
"""Pairs are found in a table of so many numbers at the most; beyond it they are searched for."""


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """What the towers make of queries and items.

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
      queries: U, what they say.
      lists: by source, what it listed: the candidates are those of all lists.
      gains: [M, S] float32, 1 / (1 + place / 60) in each source's list, 0 where that lacks the item.
      corpus_size: C.
      vectors: None where no tower was asked.
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
        """The candidates of some lists.

        Args:
          lists: by source, of U queries.
          queries: U.
          corpus_size: C.
          vectors: of these queries and all items.
        """
        pooled = pool_candidates([one.items for one in lists.values()])
        query, column = np.nonzero(pooled.items >= 0)
        return cls(
            query=query,
            item=pooled.items[query, column],
            queries=queries,
            lists=lists,
            gains=pooled.gains[query, column],
            corpus_size=corpus_size,
            vectors=vectors,
        )

    def __len__(self) -> int:
        return len(self.query)

    @cached_property
    def is_near(self) -> np.ndarray:
        """[M, S] bool, whether the item is among the candidates of a source (`Source.depth`)."""
        depths = np.array([depth_of(name) for name in self.lists])
        # Between the gains of the last place that counts and of the one behind it.
        is_near: np.ndarray = self.gains > 1 / (1 + (depths - 0.5) / CONSTANT)
        return is_near

    @cached_property
    def key(self) -> np.ndarray:
        """[M] int64, ascending: the pair as one number."""
        key: np.ndarray = self.query * self.corpus_size + self.item
        return key

    @cached_property
    def past(self) -> PastEntries | None:
        """What the queries say of pasts; None where nobody counted."""
        personal = self.queries.personal
        return None if personal is None else PastEntries.of(personal)

    @cached_property
    def past_pair(self) -> np.ndarray:
        """The pair of each entry of `past`, [N] int64; -1 for what is no candidate."""
        if self.past is None:
            return np.zeros(0, np.int64)
        return self.find(self.past.query, self.past.item)

    @cached_property
    def newest(self) -> WeightedItems:
        """The `NEWEST` items that each query's user took last."""
        queries = self.queries
        if queries.personal is not None and HALF_LIFE not in queries.personal.counts:
            queries = replace(queries, personal=None)
        return WeightedItems.of_queries(queries).first(NEWEST)

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
            lists={name: one.take(slice(start, stop)) for name, one in self.lists.items()},
            gains=self.gains[first:last],
            corpus_size=self.corpus_size,
            vectors=vectors,
        )

    @cached_property
    def _slots(self) -> np.ndarray | None:
        """The number of each pair, by its key; slots of no pair hold arbitrary numbers."""
        cells = len(self.queries) * self.corpus_size
        if cells > _SLOTS:
            return None
        # Not written all over: whoever reads a place compares what it leads to.
        slots = np.empty(cells, np.int32)
        slots[self.key] = np.arange(len(self), dtype=np.int32)
        return slots

    def find(self, query: np.ndarray, item: np.ndarray) -> np.ndarray:
        """Which pair each is, [N] int64; -1 where it is none.

        Args:
          query: [N] int64.
          item: [N] int64, -1 for no item of the corpus.
        """
        if not len(self):
            return np.full(len(query), -1)
        wanted = query * self.corpus_size + item
        if self._slots is None:
            place = np.minimum(np.searchsorted(self.key, wanted), len(self) - 1)
        else:
            # As unsigned numbers, what was never written lies mostly behind the end.
            found = self._slots[wanted].view(np.uint32)
            place = np.minimum(found, np.uint32(len(self) - 1)).astype(np.int64)
        return np.where((item >= 0) & (self.key[place] == wanted), place, -1)

    def best(self, scores: np.ndarray, k: int) -> np.ndarray:
        """The best k pairs of each query, [U, k] int64, best first, -1 behind the end. Of equal
        scores the smaller item comes first.

        Args:
          scores: [M] float32.
          k: length of the lists.
        """
        lengths = np.bincount(self.query, minlength=len(self.queries))
        begin = np.cumsum(lengths) - lengths
        column = np.arange(len(self)) - begin[self.query]
        table = np.full((len(lengths), int(lengths.max(initial=0))), -np.inf, np.float32)
        table[self.query, column] = scores
        columns = best_of(table, min(k, table.shape[1]))
        chosen = np.full((len(lengths), k), -1)
        chosen[:, : columns.shape[1]] = np.where(columns >= 0, begin[:, np.newaxis] + columns, -1)
        return chosen

    def ranked(self, scores: np.ndarray, k: int) -> ScoredLists:
        """The best k candidates of each query as lists; arguments as those of `best`."""
        chosen = self.best(scores, k)
        # The pair -1 reads what is appended for none.
        items = np.append(self.item, -1)[chosen]
        return ScoredLists(items, np.append(scores, -np.inf).astype(np.float32)[chosen])
