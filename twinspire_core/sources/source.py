"""What a candidate source is, what queries tell it, and what it answers: lists with scores. Sources import
no TensorFlow: serving asks them too.

U queries, C items of the corpus, L places of a list; items are positions in the corpus, -1 is none.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import numpy as np
import pyarrow as pa

from twinspire_core.metrics.list_metrics import contains
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.personal_counts import PersonalCounts
from twinspire_core.sources.sequences import Sequences


class ScoredLists(NamedTuple):
    """Lists of one source.

    Attributes:
      items: [U, L] int64, best first, each once, -1 behind the end.
      scores: [U, L] float32, not rising, -infinity behind the end. They compare the items of one
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
        """Lists, [U, L] int64, of whose items no more is known than their order: an item at place
        n, from 0, has the score 1 / (1 + n).
        """
        scores = 1 / (1 + np.arange(items.shape[1], dtype=np.float32))
        return cls(items, np.where(items >= 0, scores, np.float32(-np.inf)))

    @classmethod
    def by_item(cls, items: np.ndarray, scores: np.ndarray) -> Self:
        """Lists, [U, L] int64, of items that have the same score for all queries, [C] float32."""
        # The position -1, no item, reads the last score, which is that of none.
        return cls(items, np.append(scores, -np.inf).astype(np.float32)[items])

    def first(self, depth: int) -> Self:
        """The first items of each list."""
        return type(self)(self.items[:, :depth], self.scores[:, :depth])

    def take(self, queries: np.ndarray | slice) -> Self:
        """The lists of some queries, given as positions, as [U] bool or as a slice."""
        return type(self)(self.items[queries], self.scores[queries])

    def without(self, exclude: Ragged, depth: int) -> Self:
        """The first `depth` items of each list that are not in the list of U that is excluded."""
        keep = (self.items >= 0) & ~contains(exclude, self.items)
        place = np.cumsum(keep, axis=1) - 1
        row, column = np.nonzero(keep & (place < depth))
        shortened = type(self).empty(len(self.items), depth)
        shortened.items[row, place[row, column]] = self.items[row, column]
        shortened.scores[row, place[row, column]] = self.scores[row, column]
        return shortened


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """What U queries tell candidate sources; measuring and serving make it alike.

    Attributes:
      past: what users had before: distinct items, the most frequent first, then the most recent; -1
        outside the corpus.
      events: [U] int64, how many events that were.
      personal: decayed counts of what they had before; None where nobody counted.
      given: lists that are known already, by source, without what is excluded: those of the
        two-tower, which are searched for elsewhere, and others that are needed more than once.
    """

    past: Ragged
    events: np.ndarray
    personal: PersonalCounts | None = None
    given: Mapping[str, ScoredLists] = field(default_factory=dict)

    @classmethod
    def of_past(cls, past: Ragged) -> Self:
        """Queries of which nothing but the past is known, an event for each item."""
        return cls(past=past, events=past.lengths)

    def __len__(self) -> int:
        return self.past.rows

    @property
    def seen(self) -> Ragged:
        """All that users are known to have had, which is what is excluded: the past, and what is counted,
        which may be of earlier days; each item once, in no order. What is outside the corpus may be
        among it, as -1, and excludes nothing.
        """
        if self.personal is None:
            return self.past
        counted = self.personal.entries
        user = np.concatenate([self.past.row, counted.row])
        item = np.concatenate([self.past.values, self.personal.item[counted.values]])
        width = int(item.max(initial=0)) + 1
        pair = (user * width + item)[item >= 0]
        # np.unique says the same, and takes ten times as long.
        pair.sort()
        row, values = np.divmod(pair[np.diff(pair, prepend=-1) > 0], width)
        return Ragged(values, row, len(self))

    def with_given(self, given: Mapping[str, ScoredLists]) -> Self:
        """The same queries, with these lists known besides."""
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
"""Makes a table of what users took up to a moment, and of the ids of the corpus of that moment,
ascending.
"""
HALF_LIFE = "1d"
"""Of the source `popular`, until another one is found to serve better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTables:
    """What sources are made of, all as of one moment.

    Attributes:
      corpus: rows of `corpus/`, or the items of a version: `_item`, and counts.
      others: tables of sources by name (`Source.fits`), as far as they were made.
      half_life: of the source `popular`.
      made: what `once` has made.
    """

    corpus: pa.Table
    others: Mapping[str, pa.Table] = field(default_factory=dict)
    half_life: str = HALF_LIFE
    made: dict[object, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, make: Callable[["SourceTables"], Made]) -> Made:
        """What several make of these tables, made once.

        Args:
          make: makes it; of the corpus and of `others` alone.
        """
        if make not in self.made:
            self.made[make] = make(self)
        made: Made = self.made[make]
        return made


class Source(ABC):
    """A candidate source, as of a moment.

    Attributes:
      name: what it is called everywhere (twinspire_core/config/source_names.py).
      fits: what it is made of besides the corpus, by name: tables that the feature job fits, of which
        the version carries `NAME.parquet`.
      depth: items of a list that are candidates of the ranker.
      is_costly: whether lists that are needed more than once are kept rather than made again.
    """

    name: ClassVar[str]
    fits: ClassVar[Mapping[str, Fit]] = {}
    depth: ClassVar[int] = 100
    is_costly: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def of(cls, tables: SourceTables) -> Self | None:
        """The source, or None where what it is made of is not there: it then lists nothing."""

    @abstractmethod
    def lists(
        self,
        queries: Queries,
        depth: int,
        *,
        exclude: Ragged | None = None,
        passing: np.ndarray | None = None,
    ) -> ScoredLists:
        """What it lists for each query. A list ends where the source knows no more.

        Args:
          queries: U.
          depth: items of a list at the most.
          exclude: U lists of items that must not be listed.
          passing: [C] bool, what may be listed; None for everything. Items that do not pass may
            still be in a past.

        Returns: lists of `depth` places.
        """
