"""The sources `most_popular`, by events of the count window, and `popular_lately`, by those of the
last day.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa

from twinspire_core.config import source_names
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.past import past_then
from twinspire_core.sources.queries import Queries, ScoredLists
from twinspire_core.sources.source import Source, SourceTables


@dataclass(frozen=True, slots=True)
class OrderForAll(Source):
    """One order of the corpus for all users.

    Attributes:
      order: [C] int64, best first.
      scores: [C] float32 by item, not rising along the order.
    """

    order: np.ndarray
    scores: np.ndarray

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
class _ByCount(OrderForAll):
    """By one of the corpus's counts of events, which are the scores."""

    column: ClassVar[str]

    @classmethod
    def of(cls, tables: SourceTables) -> Self:
        """By counts as of the tables' moment."""
        events = tables.corpus.column(cls.column).fill_null(0).to_numpy()
        order = popular_order(tables.corpus, cls.column)
        return cls(order, events.astype(np.float32))


class MostPopular(_ByCount):
    """By events in the count window."""

    name = source_names.MOST_POPULAR
    column = "_popular"


class PopularLately(_ByCount):
    """By events of the last days."""

    name = source_names.POPULAR_LATELY
    column = "_lately"


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
