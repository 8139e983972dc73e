"""What users take just now, as the source `co_visitation`: what is taken close together in these hours.

It is fitted anew on the newest events, as the daily job fits it on those of many days
(co_visitation_fitting.py), with constants of its own: news of the morning is not read with that of the
evening.
"""

import numpy as np

from twinspire_core.search.ragged import Ragged
from twinspire_core.sources import co_visitation_fitting
from twinspire_core.sources.co_occurrence import Neighbours
from twinspire_core.sources.co_visitation import KEPT, CoVisitation
from twinspire_core.sources.co_visitation_fitting import Settings
from twinspire_core.sources.sequences import Sequences

SETTINGS = Settings(reach=1 / 24, half_life=3 / 24, exponent=0.5)
"""Chosen on news (docs/decisions/0081-what-is-taken-together-now.md)."""
NEAR = 1.35
"""Places after which an item of a past counts 1/e."""
HOURS = 24
"""Older events say nothing any more: an eighth of a hundredth, at these settings."""
MOST_EVENTS = 200_000
"""Events that are fitted on, the newest."""

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
        self._corpus_size = corpus_size
        self._users = np.zeros(0, np.int64)
        self._items = np.zeros(0, np.int64)
        self._times = np.zeros(0, np.int64)

    def __len__(self) -> int:
        """Events that are kept."""
        return len(self._times)

    def add(self, users: np.ndarray, items: np.ndarray, times: np.ndarray) -> None:
        """Takes events, in any order, and keeps the newest of all.

        Args:
          users: [E] int64, the same number for what one user took.
          items: [E] positions in the corpus.
          times: [E] int64, microseconds since 1970.
        """
        users = np.concatenate([self._users, users])
        items = np.concatenate([self._items, items])
        times = np.concatenate([self._times, times])
        oldest = times.max(initial=0) - HOURS * _HOUR
        kept = np.argsort(times, kind="stable")[-MOST_EVENTS:]
        kept = kept[times[kept] >= oldest]
        self._users, self._items, self._times = users[kept], items[kept], times[kept]

    def source(self) -> CoVisitation:
        """The source as of the newest event."""
        # Each user's newest first; of equally old ones the one that came later.
        order = np.lexsort((-np.arange(len(self)), -self._times, self._users))
        users = self._users[order]
        row = np.cumsum(np.diff(users, prepend=users[:1]) != 0)
        ages = (self._times.max(initial=0) - self._times[order]) / _DAY
        items = Ragged(self._items[order], row, int(row.max(initial=-1)) + 1)
        kept = max(1, min(KEPT, _CELLS // max(1, self._corpus_size)))
        rows, similarities = co_visitation_fitting.fit(
            Sequences(items, ages.astype(np.float32)), self._corpus_size, SETTINGS, kept
        )
        return CoVisitation(Neighbours(rows, similarities), NEAR)
