"""The candidates of several sources, put together. Imports no TensorFlow: serving uses it too.

U queries, S sources, L the length of their lists, P the candidates of a query, from all its
sources.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from twinspire_core.search.ragged import list_places, list_rows
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


def pool_candidates(lists: Sequence[np.ndarray]) -> CandidatePool:
    """Puts the lists of S sources together, [U, L] int64 each, best first, each item once, -1
    behind the end.
    """
    lengths = np.array([ranked.shape[1] for ranked in lists])
    source = list_rows(lengths)
    gain = (1 / (1 + list_places(lengths) / CONSTANT)).astype(np.float32)

    # A key is an entry's item, then its number in the row: sorting keys brings what is said of an
    # item together. Half as wide, they sort twice as fast.
    items = np.concatenate(lists, axis=1)
    bits = len(source).bit_length()
    narrow = items.max(initial=0) < 1 << (30 - bits)
    dtype = np.int32 if narrow else np.int64
    none = np.iinfo(dtype).max
    keys = np.left_shift(items.astype(dtype), bits) | np.arange(len(source), dtype=dtype)
    keys[keys < 0] = none  # items of -1
    keys.sort(axis=1)

    # Each distinct item of a row gets a column of its own.
    item = keys >> bits
    is_new = np.ones(keys.shape, bool)
    np.not_equal(item[:, 1:], item[:, :-1], out=is_new[:, 1:])
    column = np.cumsum(is_new, axis=1, dtype=np.int32) - 1
    entries = np.flatnonzero(keys < none)
    column = column.ravel()[entries]
    width = int(column.max(initial=-1)) + 1
    cell = entries // max(1, keys.shape[1]) * width + column
    number = keys.ravel()[entries] & ((1 << bits) - 1)

    candidates = np.full((len(keys), width), -1, np.int64)
    candidates.ravel()[cell] = item.ravel()[entries]
    gains = np.zeros((*candidates.shape, len(lists)), np.float32)
    gains.ravel()[cell * len(lists) + source[number]] = gain[number]
    return CandidatePool(candidates, gains)


def _widened(table: np.ndarray, more: int, value: float) -> np.ndarray:
    """A table with more columns at its end."""
    if more == 0:
        return table
    # np.pad does the same, and takes as long as all the rest of a short request.
    return np.concatenate([table, np.full((len(table), more), value, table.dtype)], axis=1)
