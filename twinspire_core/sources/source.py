"""What a candidate source is, what queries tell it, and what it answers: lists with scores. Sources import
no TensorFlow, because serving uses them too.

U queries, C items of the corpus, L places of a list; items are positions in the corpus, -1 is none.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import numpy as np
import pyarrow as pa

from twinspire_core.metrics.list_metrics import contains
from twinspire_core.search.ragged import Ragged, list_places
from twinspire_core.sources.user_histories import (
    AGE,
    HALF_LIFE,
    PersonalCounts,
    Sequences,
    WeightedItems,
)


class ScoredLists(NamedTuple):
    """Lists of one source.

    Attributes:
      items: [U, L] int64, best first, each once, -1 after the end.
      scores: [U, L] float32, not rising, -infinity after the end. They compare the items of one
        query, and in general no two queries or sources.
    """

    items: np.ndarray
    scores: np.ndarray

    @classmethod
    def empty(cls, queries: int, depth: int) -> Self:
        """Lists without items."""
        items = np.full((queries, depth), -1, np.int64)
        return cls(items, np.full((queries, depth), -np.inf, np.float32))

    @classmethod
    def by_place(cls, items: np.ndarray) -> Self:
        """Lists, [U, L] int64, whose items have an order and no scores: an item at place n, from 0, gets
        the score 1 / (1 + n).
        """
        scores = 1 / (1 + np.arange(items.shape[1], dtype=np.float32))
        return cls(items, np.where(items >= 0, scores, np.float32(-np.inf)))

    def first(self, depth: int) -> Self:
        """The first items of each list."""
        return type(self)(self.items[:, :depth], self.scores[:, :depth])

    def take(self, queries: np.ndarray | slice) -> Self:
        """The lists of some queries, given as positions, as [U] bool or as a slice."""
        return type(self)(self.items[queries], self.scores[queries])

    def without(self, exclude: Ragged, depth: int) -> Self:
        """The first `depth` items of each list that are not in the list of U that is excluded."""
        keep = (self.items >= 0) & ~contains(exclude, self.items)
        # The new place of a kept item is the number of kept items before it: with keep [1, 0, 1],
        # places are [0, 0, 1].
        place = np.cumsum(keep, axis=1) - 1
        row, column = np.nonzero(keep & (place < depth))
        shortened = type(self).empty(len(self.items), depth)
        shortened.items[row, place[row, column]] = self.items[row, column]
        shortened.scores[row, place[row, column]] = self.scores[row, column]
        return shortened


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """U queries as candidate sources read them. Measuring and serving make them in the same way.

    Attributes:
      past: the users' purchase histories: distinct items, the most frequent first, then the most
        recent; -1 outside the corpus.
      events: [U] int64, number of events in each history.
      personal: decayed counts of what users took before; None where these were not made.
      given: lists that exist already, by source, without what is excluded: those of the two-tower,
        which are searched for elsewhere, and others that are needed more than once.
    """

    past: Ragged
    events: np.ndarray
    personal: PersonalCounts | None = None
    given: Mapping[str, ScoredLists] = field(default_factory=dict)

    @classmethod
    def of_past(cls, past: Ragged) -> Self:
        """Queries that have a history and nothing else, with an event for each of its items."""
        return cls(past=past, events=past.lengths)

    def __len__(self) -> int:
        return self.past.rows

    @property
    def seen(self) -> Ragged:
        """All items that users are known to have had, each once and in no order. `exclude_seen` leaves
        these out. Without counts, items outside the corpus may be among them, as -1.
        """
        if self.personal is None:
            return self.past
        # Counts may reach back to earlier days than the history.
        user = np.concatenate([self.past.row, self.personal.items.row])
        item = np.concatenate([self.past.values, self.personal.items.values])
        width = int(item.max(initial=0)) + 1
        pair = (user * width + item)[item >= 0]
        # Sorting in place instead of np.unique, which gives the same and takes ten times as long.
        pair.sort()
        row, values = np.divmod(pair[np.diff(pair, prepend=-1) > 0], width)
        return Ragged(values, row, len(self))

    def weighted_items(self) -> WeightedItems:
        """The items of purchase histories, weighted by age. Without counts, each item weighs 1."""
        personal = self.personal
        if personal is None:
            past = self.past.where(self.past.values >= 0)
            ones = np.ones(len(past.values), np.float32)
            return WeightedItems(past, ones, list_places(past.lengths).astype(np.float32))
        counts = personal.of_entry[HALF_LIFE]
        # A very old event may decay to 0. Such an item would be a candidate without weight.
        number = personal.newest_first[counts[personal.newest_first] > 0]
        items = personal.items.where(number)
        return WeightedItems(items, counts[number], personal.of_entry[AGE][number])

    def with_given(self, given: Mapping[str, ScoredLists]) -> Self:
        """The same queries, with more lists that exist already."""
        return replace(self, given={**self.given, **given})

    def take(self, queries: np.ndarray) -> Self:
        """The queries of these numbers, [K] int64 ascending."""
        return replace(
            self,
            past=self.past.take(queries),
            events=self.events[queries],
            personal=self.personal.take(queries) if self.personal else None,
            given={name: lists.take(queries) for name, lists in self.given.items()},
        )

    def part(self, start: int, stop: int) -> Self:
        """Queries `start` to `stop`."""
        return replace(
            self,
            past=self.past.part(start, stop),
            events=self.events[start:stop],
            personal=self.personal.part(start, stop) if self.personal else None,
            given={name: lists.take(slice(start, stop)) for name, lists in self.given.items()},
        )


Made = TypeVar("Made")
Fit = Callable[[Sequences, pa.Array], pa.Table]
"""Fits a table on what users took up to a moment, given the ids of the corpus of that moment, [C]
ascending, whose positions the sequences have.
"""
POPULAR_HALF_LIFE = "1d"
"""Of the source `popular`, until another half-life has proved better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTables:
    """The tables that sources are made of, all as of one moment.

    Attributes:
      corpus: rows of `corpus/`, or the items of a version: `_item`, and counts.
      others: tables of sources by name (`Source.fits`): those that were fitted.
      half_life: of the source `popular`.
      made: results that `once` keeps.
    """

    corpus: pa.Table
    others: Mapping[str, pa.Table] = field(default_factory=dict)
    half_life: str = POPULAR_HALF_LIFE
    made: dict[object, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, make: Callable[["SourceTables"], Made]) -> Made:
        """The result of a function of these tables, which is called only once."""
        # `with_half_life` copies the tables with `made`, so a function may read only `corpus` and `others`.
        if make not in self.made:
            self.made[make] = make(self)
        made: Made = self.made[make]
        return made


class Source(ABC):
    """A candidate source, as of a moment.

    Attributes:
      name: one of twinspire_core/config/source_registry.py.
      fits: by name, functions that fit the tables which the source needs besides the corpus; the
        feature job calls them, and a version carries each table as `NAME.parquet`.
      depth: how many items of a list are candidates of the ranker.
      is_costly: whether lists that are needed more than once are kept rather than made again.
    """

    name: ClassVar[str]
    fits: ClassVar[Mapping[str, Fit]] = {}
    depth: ClassVar[int] = 100
    is_costly: ClassVar[bool] = False

    @classmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """The source, or None where a table that it needs is missing; by default it needs none."""
        return cls()

    @abstractmethod
    def lists(
        self,
        queries: Queries,
        depth: int,
        *,
        exclude: Ragged | None = None,
        passing: np.ndarray | None = None,
    ) -> ScoredLists:
        """A list of `depth` places for each query, which ends early where the source has no more items.

        Args:
          depth: the most items of a list.
          exclude: U lists of items that must not be listed.
          passing: [C] bool, items that may be listed; None for all. Histories may still hold others.
        """
