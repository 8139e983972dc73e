"""The source `popular`: what is taken most, where an event weighs the less the older it is.

    score(item) = sum over its events of .5 ^ (age / half-life)

as of the moment that the tables are of: the start of a day to measure it, its end to serve. With a
half-life of hours it lists what is read just now, with one of weeks what sells all the time. One
half-life orders (model/ranking/fit_orders.py chooses it); the candidates are the first `OF_EACH` by
each of `HALF_LIVES`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from twinspire_core.config import source_names
from twinspire_core.contracts.feature_schema import TRENDING_HALF_LIVES
from twinspire_core.search.ragged import Ragged
from twinspire_core.search.top_k import best_of
from twinspire_core.sources.history import past_then
from twinspire_core.sources.source import Queries, ScoredLists, Source, SourceTables

HALF_LIVES = ("1h", "1d", "7d", "28d")
OF_EACH = 50
"""The first items by each half-life that are candidates."""

_PREFIX = "_trending_"
_LONGEST = list(TRENDING_HALF_LIVES)[-1]
_MICROSECONDS = 86_400 * 1_000_000  # of a day


@dataclass(frozen=True, slots=True)
class OrderForAll(Source):
    """One order of the corpus for all users.

    Attributes:
      order: [C] int64, best first.
      scores: [C] float32 by item, not rising along the order.
    """

    order: np.ndarray
    scores: np.ndarray

    def first(self, items: int) -> Self:
        """The same of so many first items of the corpus alone."""
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
        return ScoredLists.by_item(items, self.scores)


@dataclass(frozen=True, slots=True)
class Popular(OrderForAll):
    """By decayed counts, which are the scores: the candidates first, then all others."""

    name = source_names.POPULAR
    depth = OF_EACH * len(HALF_LIVES)

    @classmethod
    def of(cls, tables: SourceTables) -> Self:
        """By decayed counts; where nobody made them, by events of the last day."""
        if not cls.is_counted(tables):
            order = popular_order(tables.corpus, "_lately")
            lately = tables.corpus.column("_lately").fill_null(0).to_numpy()
            return cls(order, lately.astype(np.float32))
        return cls.by([_counts(tables, column) for column in _columns(tables)])

    @staticmethod
    def is_counted(tables: SourceTables) -> bool:
        """Whether the corpus holds decayed counts."""
        return _PREFIX + tables.half_life in tables.corpus.column_names

    @classmethod
    def by(cls, counts: Sequence[np.ndarray]) -> Self:
        """By counts, [C] each: those of the half-life that orders, of the longest one, and of the
        others. Events so old that nothing is left of them are told apart by the longest.
        """
        own, longest, *others = counts
        order = np.lexsort((-longest, -own)).astype(np.int64)
        is_candidate = np.zeros(len(order), bool)
        is_candidate[order[:OF_EACH]] = True
        for count in others:
            first = best_of(count[np.newaxis], min(OF_EACH, len(count)))[0]
            is_candidate[first[count[first] > 0]] = True
        is_early = is_candidate[order]
        order = np.concatenate([order[is_early], order[~is_early]])
        scores = np.empty(len(order), np.float32)
        scores[order] = np.minimum.accumulate(own[order])
        return cls(order, scores)


class RunningCounts:
    """Decayed counts that are kept up to date, event by event. They always equal what tables made
    at the moment of the newest event would hold, since all that was counted before decays alike.
    """

    def __init__(self, tables: SourceTables, moment: int) -> None:
        """Begins with the counts of tables that `Popular` can be made of.

        Args:
          tables: the tables.
          moment: microseconds since 1970 that they are as of.
        """
        columns = _columns(tables)
        self._counts = [_counts(tables, column) for column in columns]
        self._half_lives = [TRENDING_HALF_LIVES[column] * _MICROSECONDS for column in columns]
        self._moment = moment
        self._added = 0.0

    @property
    def half_life(self) -> float:
        """The one that the source uses, in microseconds."""
        return self._half_lives[0]

    @property
    def moment(self) -> int:
        """Of the newest event, in microseconds since 1970."""
        return self._moment

    @property
    def added_share(self) -> float:
        """The share of the counts that was added since they began."""
        total = float(self._counts[0].sum())
        return self._added / total if total else 0.0

    def grow(self, items: int) -> None:
        """Goes on for a corpus of so many items more."""
        self._counts = [np.pad(counts, (0, items)) for counts in self._counts]

    def add(self, items: np.ndarray, times: np.ndarray) -> None:
        """Counts events.

        Args:
          items: [E] positions in the corpus, one at least.
          times: [E] int64, microseconds since 1970, in any order.
        """
        newest = max(self._moment, int(times.max()))
        for counts, half_life in zip(self._counts, self._half_lives, strict=True):
            counts *= 0.5 ** ((newest - self._moment) / half_life)
            np.add.at(counts, items, 0.5 ** ((newest - times) / half_life))
        half_life = self.half_life
        self._added *= 0.5 ** ((newest - self._moment) / half_life)
        self._added += float((0.5 ** ((newest - times) / half_life)).sum())
        self._moment = newest

    def source(self) -> Popular:
        """The source as of the newest event."""
        return Popular.by(self._counts)


def _counts(tables: SourceTables, column: str) -> np.ndarray:
    """[C] float64, an array of its own."""
    counts: np.ndarray = tables.corpus.column(column).fill_null(0).to_numpy().astype(np.float64)
    return counts


def _columns(tables: SourceTables) -> list[str]:
    """Of counts, in the order of `Popular.by`."""
    others = [_PREFIX + name for name in HALF_LIVES if name != tables.half_life]
    return [_PREFIX + tables.half_life, _LONGEST, *others]


def popular_order(corpus: pa.Table, by: str) -> np.ndarray:
    """Positions of the corpus by popularity, [C] int64; ties by the other count, then by position.

    Args:
      corpus: has `_popular` and `_lately`, events up to the start of the day evaluated.
      by: `_popular` or `_lately`.
    """
    other = "_lately" if by == "_popular" else "_popular"
    events = corpus.column(by).fill_null(0).to_numpy()
    other_events = corpus.column(other).fill_null(0).to_numpy()
    return np.lexsort((-other_events, -events)).astype(np.int64)


def same_for_all(
    order: np.ndarray, users: int, k: int, *, exclude: Ragged | None = None
) -> np.ndarray:
    """The first k of one order for every user, without the items excluded.

    Args:
      order: [C] int64.
      users: U.
      k: length of the lists.
      exclude: U lists of positions.

    Returns: [U, k] int64, -1 behind the end.
    """
    if exclude is None:
        first = np.full(k, -1, np.int64)
        first[: len(order)] = order[:k]
        return np.tile(first, (users, 1))
    no_past = Ragged.of_lengths(np.zeros(0, np.int64), np.zeros(users, np.int64))
    return past_then(no_past, order, k, exclude=exclude)
