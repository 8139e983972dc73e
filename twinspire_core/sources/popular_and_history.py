"""The two sources that need no table of their own.

`popular`: what is taken most, where older events weigh less.

    score(item) = sum over its events of 0.5 ^ (age / half-life)

as of the moment of the tables: the start of a day to measure it, its end to serve. With a half-life of
hours it lists what is read just now, with one of weeks what sells all the time. One half-life orders
(model/ranking/fit_orders.py chooses it); the candidates are the first `OF_EACH` by each of `HALF_LIVES`.

`history`: what the user took before, where older events weigh less.

    score(item) = sum over the user's events of it of 0.5 ^ (age / half-life)

over the longer of `window.history_days` and `window.personal_days`: a household buys some things every
other month. After the counts are made, all of a user's scores decay by the same factor, so their order
stays. The history that a request brings has no times: each event counts 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa

from twinspire_core.config import source_registry
from twinspire_core.contracts.feature_schema import TRENDING_HALF_LIVES
from twinspire_core.native_code import compiled
from twinspire_core.search.ragged import Ragged, list_offsets
from twinspire_core.search.top_k import best_entries, best_of
from twinspire_core.sources.source import Queries, ScoredLists, Source, SourceTables
from twinspire_core.sources.user_histories import HALF_LIFE

_NO_ITEMS = np.zeros(0, np.int64)


class History(Source):
    """Scores are the decayed counts with `HALF_LIFE`."""

    name = source_registry.HISTORY

    def lists(
        self,
        queries: Queries,
        depth: int,
        *,
        exclude: Ragged | None = None,
        passing: np.ndarray | None = None,
    ) -> ScoredLists:
        """The items of the highest counts; for queries without counts, their histories."""
        personal = queries.personal
        if personal is None:
            past = queries.past
            if passing is not None:
                past = past.where((past.values >= 0) & passing[past.values])
            return ScoredLists.by_place(past_then(past, _NO_ITEMS, depth, exclude=exclude))
        is_listed = personal.items.values >= 0
        if passing is not None:
            is_listed &= passing[personal.items.values]
        if exclude is not None:
            is_listed &= ~np.isin(_pairs(personal.items), _pairs(exclude))
        items = personal.items.where(is_listed)
        counts = personal.of_entry[HALF_LIFE][is_listed]
        # With equal counts, the first entry comes first. The entry -1 (none) reads the appended values.
        chosen = best_entries(list_offsets(items.lengths), counts, depth)
        return ScoredLists(
            np.append(items.values, -1)[chosen], np.append(counts, np.float32(-np.inf))[chosen]
        )


def _pairs(lists: Ragged) -> np.ndarray:
    """A number for each pair of a list and an item, [M] int64."""
    return lists.row << 32 | lists.values & 0xFFFFFFFF


def past_then(
    past: Ragged, order: np.ndarray, k: int, *, exclude: Ragged | None = None
) -> np.ndarray:
    """Each user's own items that are in the corpus, filled up from one order for all users:
    [U, k] int64, -1 after the end.

    Args:
      past: U lists of positions, -1 outside the corpus.
      order: int64, positions that follow a user's own; it may be empty.
      k: length of the lists.
      exclude: U lists of positions that must not be listed.
    """
    ranked = np.full((past.rows, k), -1, np.int64)
    excluded = exclude or Ragged.of_lengths(_NO_ITEMS, np.zeros(past.rows, np.int64))
    largest = max(values.max(initial=-1) for values in (past.values, order, excluded.values))
    _fill_lists(
        *(list_offsets(past.lengths), past.values, order),
        *(list_offsets(excluded.lengths), excluded.values),
        *(np.zeros(largest + 1, np.int32), ranked),
    )
    return ranked


@compiled
def _fill_lists(
    begin: Any,
    past: Any,
    order: Any,
    excluded_begin: Any,
    excluded: Any,
    used_by: Any,
    ranked: Any,
) -> None:
    """Writes the result of `past_then`. `used_by` has a 0 for each item."""
    users, k = ranked.shape
    for user in range(users):
        # A number for each user, so that nothing needs to be cleared.
        number = user + 1
        for entry in range(excluded_begin[user], excluded_begin[user + 1]):
            if excluded[entry] >= 0:
                used_by[excluded[entry]] = number
        first, end = begin[user], begin[user + 1]
        size = 0
        for entry in range(first, end + len(order)):
            if size == k:
                break
            item = past[entry] if entry < end else order[entry - end]
            if item >= 0 and used_by[item] != number:
                used_by[item] = number
                ranked[user, size] = item
                size += 1


HALF_LIVES = ("1h", "1d", "7d", "28d")
OF_EACH = 50
"""This many items by each half-life are candidates."""
_PREFIX = "_trending_"
_LONGEST = list(TRENDING_HALF_LIVES)[-1]


@dataclass(frozen=True, slots=True)
class OrderForAll(Source):
    """A source with one order of the corpus for all users.

    Attributes:
      order: [C] int64, best first.
      scores: [C] float32 by item, not rising along the order.
    """

    order: np.ndarray
    scores: np.ndarray

    def first(self, items: int) -> Self:
        """The same for the first items of the corpus alone."""
        return type(self)(self.order[self.order < items], self.scores[:items])

    def lists(
        self,
        queries: Queries,
        depth: int,
        *,
        exclude: Ragged | None = None,
        passing: np.ndarray | None = None,
    ) -> ScoredLists:
        """The first items of the order."""
        order = self.order
        if passing is not None:
            order = order[passing[order]]
        items = same_for_all(order, len(queries), depth, exclude=exclude)
        # The place -1, the end of a list, reads the -inf that is appended, also where there is no item at all
        return ScoredLists(items, np.append(self.scores, np.float32(-np.inf))[items])


@dataclass(frozen=True, slots=True)
class Popular(OrderForAll):
    """By decayed counts, which are the scores: the candidates first, then all others."""

    name = source_registry.POPULAR
    depth = OF_EACH * len(HALF_LIVES)

    @classmethod
    def of(cls, tables: SourceTables) -> Self:
        """By decayed counts; where the corpus has none, by events of the last day."""
        if not cls.is_counted(tables):
            order = popular_order(tables.corpus, "_lately")
            lately = tables.corpus.column("_lately").fill_null(0).to_numpy()
            return cls(order, lately.astype(np.float32))
        return cls.by([counts for _, counts in decayed_counts(tables)])

    @staticmethod
    def is_counted(tables: SourceTables) -> bool:
        """Whether the corpus holds decayed counts."""
        return _PREFIX + tables.half_life in tables.corpus.column_names

    @classmethod
    def by(cls, counts: Sequence[np.ndarray]) -> Self:
        """By counts, [C] each: with the half-life that orders, with the longest, and with the others."""
        ordering, longest, *further = counts
        # With a half-life of hours, counts of old events decay to 0. The longest one orders these items.
        order = np.lexsort((-longest, -ordering)).astype(np.int64)
        is_candidate = np.zeros(len(order), bool)
        is_candidate[order[:OF_EACH]] = True
        for count in further:
            first = best_of(count[np.newaxis], min(OF_EACH, len(count)))[0]
            is_candidate[first[count[first] > 0]] = True
        is_early = is_candidate[order]
        order = np.concatenate([order[is_early], order[~is_early]])
        # Candidates by other half-lives come early with low counts. Scores must not rise along the order.
        scores = np.empty(len(order), np.float32)
        scores[order] = np.minimum.accumulate(ordering[order])
        return cls(order, scores)


def decayed_counts(tables: SourceTables) -> list[tuple[str, np.ndarray]]:
    """Columns of the corpus and copies of their counts, [C] float64, in the order of `Popular.by`."""
    further = [_PREFIX + name for name in HALF_LIVES if name != tables.half_life]
    columns = [_PREFIX + tables.half_life, _LONGEST, *further]
    corpus = tables.corpus
    return [(x, corpus.column(x).fill_null(0).to_numpy().astype(np.float64)) for x in columns]


def popular_order(corpus: pa.Table, by: str) -> np.ndarray:
    """Positions of the corpus by the counts in `_popular` or `_lately`, [C] int64; of equal counts the other
    one decides, then the position.
    """
    tie_breaker = "_lately" if by == "_popular" else "_popular"
    events = corpus.column(by).fill_null(0).to_numpy()
    other_events = corpus.column(tie_breaker).fill_null(0).to_numpy()
    return np.lexsort((-other_events, -events)).astype(np.int64)


def same_for_all(
    order: np.ndarray, users: int, k: int, *, exclude: Ragged | None = None
) -> np.ndarray:
    """The first k of one order for each of U users, without what is excluded: [U, k] int64, -1 behind the
    end.

    Args:
      order: int64, positions, best first.
      exclude: U lists of positions that must not be listed.
    """
    no_past = Ragged.of_lengths(_NO_ITEMS, np.zeros(users, np.int64))
    return past_then(no_past, order, k, exclude=exclude)
