"""What users take just now, as the source `co_occurrence`: what is taken close together in these hours.

It is fitted again on the newest events, as the daily job fits it on those of many days
(co_occurrence_fitting.py), with constants of its own: news of the morning is not read with that of the
evening.
"""

import numpy as np

from twinspire_core.search.ragged import Ragged, list_places
from twinspire_core.sources import co_occurrence_fitting
from twinspire_core.sources.co_occurrence import KEPT, CoOccurrence, Neighbours
from twinspire_core.sources.co_occurrence_fitting import CoOccurrenceSettings
from twinspire_core.sources.sequences import Sequences

SETTINGS = CoOccurrenceSettings(reach=1 / 24, half_life=3 / 24)
"""Chosen on news (docs/decisions/0025-between-trainings.md)."""
NEAR = 1.35
"""Places after which an item of a past counts 1/e."""
HOURS = 24
"""Older events say nothing any more: a 256th, at these settings."""
MOST_EVENTS = 200_000
"""Events that are fitted on, the newest."""
MOST_OF_ONE = 100
"""Of one user, the newest; each item once. So no crawler, and no id that many share, moves all lists
alone, or leaves no room for others.
"""

_CELLS = 5_000_000
"""Of the table of neighbours, so that a large corpus has fewer of each item."""
_HOUR = 3_600 * 1_000_000  # in microseconds
_DAY = 24 * _HOUR


class RecentVisits:
    """Events of the last hours, of users whose names nobody knows.

    Args:
      corpus_size: C.
    """

    def __init__(self, corpus_size: int) -> None:
        self.has_more = False
        """Whether anything came since a source was last made."""
        self._corpus_size = corpus_size
        self._users = np.zeros(0, np.int64)
        self._items = np.zeros(0, np.int64)
        self._times = np.zeros(0, np.int64)

    @property
    def moment(self) -> int:
        """Of the newest event, in microseconds since 1970; 0 before there is one."""
        return int(self._times.max(initial=0))

    def grow(self, items: int) -> None:
        """Goes on for a corpus of so many items more."""
        self._corpus_size += items
        self.has_more = True

    def add(self, users: np.ndarray, items: np.ndarray, times: np.ndarray) -> None:
        """Takes events, in any order.

        Args:
          users: [E] int64, the same number for what one user took.
          items: [E] positions in the corpus.
          times: [E] int64, microseconds since 1970.
        """
        self._users = np.concatenate([self._users, users])
        self._items = np.concatenate([self._items, items])
        self._times = np.concatenate([self._times, times])
        self.has_more = True
        # Not each time: it sorts them all.
        if len(self._times) > MOST_EVENTS + MOST_EVENTS // 4:
            self._forget()

    def source(self) -> CoOccurrence:
        """The source as of the newest event."""
        self._forget()
        order, row = self._by_user()
        ages = (self.moment - self._times[order]) / _DAY
        items = Ragged(self._items[order], row, int(row.max(initial=-1)) + 1)
        kept = max(1, min(KEPT, _CELLS // max(1, self._corpus_size)))
        rows, similarities = co_occurrence_fitting.fit(
            Sequences(items, ages.astype(np.float32)), self._corpus_size, SETTINGS, kept
        )
        self.has_more = False
        return CoOccurrence(Neighbours(rows, similarities), NEAR)

    def _forget(self) -> None:
        """Keeps what is fitted on."""
        self._keep(np.flatnonzero(self._times >= self.moment - HOURS * _HOUR))
        order, row = self._by_user()
        _, newest = np.unique(row * self._corpus_size + self._items[order], return_index=True)
        newest.sort()
        lengths = np.bincount(row[newest])
        kept = order[newest[list_places(lengths) < MOST_OF_ONE]]
        kept = kept[np.argsort(self._times[kept], kind="stable")[-MOST_EVENTS:]]
        self._keep(np.sort(kept))  # in the order in which they came

    def _keep(self, kept: np.ndarray) -> None:
        self._users, self._items, self._times = (
            values[kept] for values in (self._users, self._items, self._times)
        )

    def _by_user(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of events, each user's newest first, of equally old ones the one that came later; and
        which user each is of, from 0 on.
        """
        order = np.lexsort((-np.arange(len(self._times)), -self._times, self._users))
        users = self._users[order]
        return order, np.cumsum(np.diff(users, prepend=users[:1]) != 0)
