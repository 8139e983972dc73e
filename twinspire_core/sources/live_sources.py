"""Sources that a server keeps up to date between trainings, with the events and new items that it gets:
decayed counts for `popular`, co-occurrence of the last hours, and sources made before the corpus grew.

U queries, C items of the corpus, E events.
"""

from dataclasses import dataclass, replace

import numpy as np

from twinspire_core.contracts.feature_schema import TRENDING_HALF_LIVES
from twinspire_core.search.ragged import Ragged, list_places
from twinspire_core.sources.co_occurrence import (
    KEPT,
    CoOccurrence,
    CoOccurrenceSettings,
    near_items,
)
from twinspire_core.sources.popular_and_history import Popular, decayed_counts
from twinspire_core.sources.source import Queries, ScoredLists, Source, SourceTables
from twinspire_core.sources.user_histories import Sequences

_HOUR = 3_600 * 1_000_000  # in microseconds
_DAY = 24 * _HOUR
# Chosen on news (docs/decisions/0025-between-trainings.md).
_SETTINGS = CoOccurrenceSettings(reach=1 / 24, half_life=3 / 24)
# Places after which an item of a history counts 1/e.
_NEAR = 1.35
HOURS = 24
"""Older events are dropped: at these settings one counts less than a 256th."""
MOST_EVENTS = 200_000
"""The most events that are fitted on, the newest."""
MOST_OF_ONE = 100
"""The most events of one user, the newest, each item once: no crawler, and no id that many people share,
changes all lists or leaves no room for others.
"""

# Cells of the table of neighbours: in a large corpus each item has fewer.
_CELLS = 5_000_000


class RunningCounts:
    """Decayed counts for the source `popular`, updated event by event. They always equal the counts of tables
    that are made at the moment of the newest event.
    """

    def __init__(self, tables: SourceTables, moment: int) -> None:
        """Begins with the counts of tables as of a moment, in microseconds since 1970."""
        counted = decayed_counts(tables)
        self._counts = [counts for _, counts in counted]
        self._half_lives = [TRENDING_HALF_LIVES[column] * _DAY for column, _ in counted]
        self._moment = moment
        self._added = 0.0

    @property
    def half_life(self) -> float:
        """The half-life that orders the source, in microseconds."""
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
        """Goes on for a corpus with `items` more items at its end."""
        self._counts = [np.pad(counts, (0, items)) for counts in self._counts]

    def add(self, items: np.ndarray, times: np.ndarray) -> None:
        """Counts events.

        Args:
          items: [E] positions in the corpus, at least one.
          times: [E] int64, microseconds since 1970, in any order.
        """
        newest = max(self._moment, int(times.max()))
        # All earlier counts decay by the same factor, so no event needs to be kept.
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


class RecentVisits:
    """Events of the last hours, to fit the source `co_occurrence` again, as the daily job fits it on many
    days (co_occurrence.py). The constants differ, since news of the morning is not read with that of the
    evening. Users are numbers.

    Args:
      corpus_size: number of items in the corpus, C.
    """

    def __init__(self, corpus_size: int) -> None:
        self.has_more = False
        """Whether anything has come since a source was last made."""
        self._corpus_size = corpus_size
        self._users = np.zeros(0, np.int64)
        self._items = np.zeros(0, np.int64)
        self._times = np.zeros(0, np.int64)

    @property
    def moment(self) -> int:
        """Of the newest event, in microseconds since 1970; 0 before there is one."""
        return int(self._times.max(initial=0))

    def grow(self, items: int) -> None:
        """Goes on for a corpus with `items` more items at its end."""
        self._corpus_size += items
        self.has_more = True

    def add(self, users: np.ndarray, items: np.ndarray, times: np.ndarray) -> None:
        """Takes events, in any order.

        Args:
          users: [E] int64, a number for each user.
          items: [E] positions in the corpus.
          times: [E] int64, microseconds since 1970.
        """
        self._users = np.concatenate([self._users, users])
        self._items = np.concatenate([self._items, items])
        self._times = np.concatenate([self._times, times])
        self.has_more = True
        # Not at each call, because this sorts all events.
        if len(self._times) > MOST_EVENTS + MOST_EVENTS // 4:
            self._forget()

    def source(self) -> CoOccurrence:
        """The source as of the newest event."""
        self._forget()
        order, row = self._by_user()
        ages = (self.moment - self._times[order]) / _DAY
        items = Ragged(self._items[order], row, int(row.max(initial=-1)) + 1)
        # The table has a row for every item: a large corpus keeps fewer neighbours of each.
        near = max(1, min(KEPT, _CELLS // max(1, self._corpus_size)))
        sequences = Sequences(items, ages.astype(np.float32))
        self.has_more = False
        return CoOccurrence(near_items(sequences, self._corpus_size, _SETTINGS, near), _NEAR)

    def _forget(self) -> None:
        """Keeps only what is fitted on."""
        self._keep(np.flatnonzero(self._times >= self.moment - HOURS * _HOUR))
        order, row = self._by_user()
        _, newest = np.unique(row * self._corpus_size + self._items[order], return_index=True)
        newest.sort()
        lengths = np.bincount(row[newest])
        events = order[newest[list_places(lengths) < MOST_OF_ONE]]
        events = events[np.argsort(self._times[events], kind="stable")[-MOST_EVENTS:]]
        self._keep(np.sort(events))  # in the order in which they came

    def _keep(self, kept: np.ndarray) -> None:
        self._users, self._items, self._times = (
            values[kept] for values in (self._users, self._items, self._times)
        )

    def _by_user(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of events, each user's newest first, of equally old ones the one that came later; and
        the number of each event's user, from 0 on.
        """
        order = np.lexsort((-np.arange(len(self._times)), -self._times, self._users))
        users = self._users[order]
        return order, np.cumsum(np.diff(users, prepend=users[:1]) != 0)


@dataclass(frozen=True, slots=True)
class OfFirstItems(Source):
    """A source that was made before the corpus grew. It lists only the items that it was made of.

    Attributes:
      source: made of the first items of the corpus.
      size: how many items these are.
    """

    source: Source
    size: int

    def lists(
        self,
        queries: Queries,
        depth: int,
        *,
        exclude: Ragged | None = None,
        passing: np.ndarray | None = None,
    ) -> ScoredLists:
        """As the other source, for which all further items are outside the corpus."""
        if exclude is not None:
            exclude = exclude.where(exclude.values < self.size)
        if passing is not None:
            passing = passing[: self.size]
        return self.source.lists(
            _of_first(queries, self.size), depth, exclude=exclude, passing=passing
        )


def _of_first(queries: Queries, size: int) -> Queries:
    """The queries with -1, outside the corpus, for items from `size` on."""
    past = queries.past
    personal = queries.personal
    if past.values.max(initial=-1) >= size:
        past = past._replace(values=np.where(past.values < size, past.values, -1))
    if personal is not None and personal.items.values.max(initial=-1) >= size:
        items = personal.items
        items = items._replace(values=np.where(items.values < size, items.values, -1))
        personal = replace(personal, items=items)
    return replace(queries, past=past, personal=personal)
