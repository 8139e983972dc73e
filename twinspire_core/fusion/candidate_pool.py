"""The candidates of several sources, put together. Imports no TensorFlow: serving uses it too.

U queries, S sources, L the length of their lists, P the candidates of a query, from all its
sources.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from twinspire_core.compiled_loops import compiled
from twinspire_core.search.ragged import Ragged, list_places, list_rows
from twinspire_core.search.top_k import best_of

CONSTANT = 60.0
"""The place, from 0, whose item counts half as much as the first."""
DEPTH = 100
"""Items of each source that are looked at; as many as are asked for, if that is more."""


class CandidatePool(NamedTuple):
    """The candidates of each query, from all sources.

    Attributes:
      items: [U, P] int64, each once, ascending, -1 behind the end.
      gains: [U, P, S] float32, 1 / (1 + place / CONSTANT) where the source lists the item, else 0.
    """

    items: np.ndarray
    gains: np.ndarray

    def ordered(self, weights: np.ndarray, k: int) -> "OrderedLists":
        """The best k candidates of each query.

        Args:
          weights: [S].
          k: length of the lists.
        """
        weights = np.asarray(weights, np.float32)
        # An item of weight 0 is still a candidate, with the score 0; padding is none.
        scores = np.where(self.items >= 0, np.matmul(self.gains, weights), -np.inf)
        best = best_of(scores, min(k, scores.shape[1]))
        columns = _widened(best, k - best.shape[1], -1)
        return OrderedLists(pooled=self, pool_scores=scores, weights=weights, columns=columns)


@dataclass(frozen=True, kw_only=True)
class OrderedLists:
    """Lists made out of several. Scores and shares are computed when they are asked for.

    Attributes:
      pooled: the candidates.
      pool_scores: [U, P] float32, the score of each candidate.
      weights: [S].
      columns: [U, k] int64, the candidates that are listed, best first. Behind the end -1, which as
        an index is the last column: values of candidates get one more column there, for none.
    """

    pooled: CandidatePool
    pool_scores: np.ndarray
    weights: np.ndarray
    columns: np.ndarray

    @cached_property
    def items(self) -> np.ndarray:
        """[U, k] int64, best first, -1 behind the end."""
        return np.take_along_axis(_widened(self.pooled.items, 1, -1), self.columns, axis=1)

    @cached_property
    def scores(self) -> np.ndarray:
        """[U, k] float32, -infinity behind the end."""
        scores = _widened(self.pool_scores, 1, -np.inf)
        return np.take_along_axis(scores, self.columns, axis=1)

    @cached_property
    def shares(self) -> np.ndarray:
        """[U, k, S] float32, what each source gave to the score, 0 behind the end."""
        listed = self.columns >= 0
        shares = np.zeros((*self.columns.shape, len(self.weights)), np.float32)
        query, place = np.nonzero(listed)
        shares[query, place] = self.pooled.gains[query, self.columns[listed]] * self.weights
        return shares


class Pooled(NamedTuple):
    """The candidates of all queries, query by query; M of them.

    Attributes:
      query: [M] int64, ascending.
      item: [M] int64, ascending within a query.
      gains: [M, S] float32, as those of a `CandidatePool`.
    """

    query: np.ndarray
    item: np.ndarray
    gains: np.ndarray


def pool_candidates(lists: Sequence[np.ndarray]) -> CandidatePool:
    """Puts the lists of S sources together, [U, L] int64 each, best first, each item once, -1
    behind the end.
    """
    pooled = pool_pairs(lists)
    items = Ragged(pooled.item, pooled.query, len(lists[0])).padded()
    gains = np.zeros((*items.shape, len(lists)), np.float32)
    gains[items >= 0] = pooled.gains
    return CandidatePool(items, gains)


def pool_pairs(lists: Sequence[np.ndarray]) -> Pooled:
    """The same, query by query."""
    lengths = np.array([ranked.shape[1] for ranked in lists])
    gain = (1 / (1 + list_places(lengths) / CONSTANT)).astype(np.float32)
    items = np.concatenate(lists, axis=1, dtype=np.int64)
    query = np.empty(items.size, np.int64)
    item = np.empty(items.size, np.int64)
    gains = np.zeros((items.size, len(lists)), np.float32)
    number = np.full(int(items.max(initial=-1)) + 1, -1, np.int32)
    count = np.zeros(1, np.int64)
    _pool(items, list_rows(lengths), gain, number, query, item, gains, count)
    size = int(count[0])
    return Pooled(query[:size], item[:size], gains[:size])


@compiled
def _pool(
    items: Any,
    source: Any,
    gain: Any,
    number: Any,
    query_of: Any,
    item_of: Any,
    gains: Any,
    count: Any,
) -> None:
    """Writes what `Pooled` holds, and how much that is; `number` is -1 of each item."""
    end = 0
    for query in range(len(items)):
        start = end
        for entry in range(items.shape[1]):
            item = items[query, entry]
            if item >= 0 and number[item] < 0:
                number[item] = 0
                item_of[end] = item
                end += 1
        item_of[start:end].sort()
        for pair in range(start, end):
            query_of[pair] = query
            number[item_of[pair]] = pair
        for entry in range(items.shape[1]):
            if items[query, entry] >= 0:
                gains[number[items[query, entry]], source[entry]] = gain[entry]
        for pair in range(start, end):
            number[item_of[pair]] = -1
    count[0] = end


def _widened(table: np.ndarray, more: int, value: float) -> np.ndarray:
    """A table with more columns at its end."""
    if more == 0:
        return table
    # np.pad does the same, and takes as long as all the rest of a short request.
    return np.concatenate([table, np.full((len(table), more), value, table.dtype)], axis=1)
