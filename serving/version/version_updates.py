"""What users took since the version that answers was made: two of its sources are brought up to it.

`popular`: a version's counts end with its day. Decayed counts can go on from there, event by event, and
are then what a version made just now would hold. `co_occurrence`: where a log changes with the hour, what
is taken close together just now is fitted on the newest events alone. There, too, items are taken up that
came after the version (grown_version.py). All else of a version stays as it is.
"""

from datetime import datetime, time, timedelta

import numpy as np

from serving.version.event_buffer import NOBODY, EventBuffer, Events
from serving.version.grown_version import GrownVersion
from serving.version.loaded_version import Version
from serving.version.new_items import NewItems
from twinspire_core.config.source_names import CO_OCCURRENCE, POPULAR
from twinspire_core.search.index import NONE
from twinspire_core.sources.co_occurrence import CoOccurrence
from twinspire_core.sources.live_sources import OfFirstItems, RecentVisits, RunningCounts
from twinspire_core.sources.popular import Popular
from twinspire_core.sources.source import Source

LEAN = 0.8
"""The least share of the fixed order that `popular` has once all that its counts hold was sent: the
order's own weights are for lists of a whole day. Chosen on news (docs/decisions/0025-between-trainings.md).
"""
LEAN_TOGETHER = 0.4
"""And that `co_occurrence` has of the whole then (docs/decisions/0025-between-trainings.md)."""
_OF_HOURS = 12 * 3600 * 1_000_000
"""Of the longest half-life, in microseconds, by which a log changes with the hour. Where what sells is the
same for weeks, the events of a day move little, and the weights hold.
"""
_REFITTED = 10 * 1_000_000
"""Microseconds between two fits of what is taken together, at least; there is none while nobody takes
anything. Of 200,000 events one takes .1 to .9 s of a processor, the more the longer visits are, and 2 s
where no two of them are alike.
"""
_MOSTLY_NEW = 0.5
"""The share of the counts that was sent, from which on what was learnt takes the place of what knows
more until then: the version's own `co_occurrence`, and its ranker, which was fitted on a day's start.
"""
_GROWN = 10 * 1_000_000
"""Microseconds between two times that new items are taken up, at least."""


class VersionUpdater:
    """Keeps sources of a version up to the newest events, and has its fixed order lean on them meanwhile, where a
    log changes with the hour. One object follows a version all its life.

    Attributes:
      version: the version, with the items that were taken up.
      since: microseconds since 1970 from which on events count. The version knows what was before:
        up to the end of its day, or, if a refresh was made of a day that is not over, up to now.
    """

    def __init__(self, version: Version, events: EventBuffer, now: int, new_items: int = 0) -> None:
        """Begins.

        Args:
          version: as it was published.
          events: what was sent.
          now: microseconds since 1970.
          new_items: how many items are taken up at the most.
        """
        self.version = version
        self.since = min(counted_until(version), now)
        self._events = events
        self._read = 0
        self._published = version.fixed_order
        self._counts: RunningCounts | None = None
        sources = version.candidate_sources
        if Popular.is_counted(sources.tables):
            self._counts = RunningCounts(sources.tables, self.since)
        self._visits = RecentVisits(len(version.items))
        self._own_together = sources.by_name.get(CO_OCCURRENCE)
        self._visits_fitted = 0
        self._new = NewItems(new_items)
        self._grew = 0

    @property
    def moves_lists(self) -> bool:
        """Whether what the version serves, where a request does not say, uses events."""
        served = self.version.choose_source(None)
        return self._counts is not None and POPULAR in self.version.sources_of(served)

    def update(self, now: int) -> None:
        """Counts what was sent since the last update; the version's lists use it from now on."""
        if self._counts is None:
            return
        number, sent = self._events.after(self._read)
        rows = self.version.rows(sent.items)
        counted = self._count(rows, sent)
        self._read = number
        if self._counts.half_life <= _OF_HOURS:
            self._new.add(sent.where((rows == NONE) & (sent.times >= self.since)))
            counted |= self._take_up(now)
        if counted:
            self._put(self._counts.source())
        if POPULAR in self._published.sources:
            self._lean(now)

    def _count(self, rows: np.ndarray, events: Events) -> bool:
        """Counts events of items, [E] rows, as far as these are known and the version does not count
        them already; whether there were any.
        """
        assert self._counts is not None
        _, times, users = events
        of_users = (rows != NONE) & (users != NOBODY)
        if of_users.any() and self._counts.half_life <= _OF_HOURS:
            # Those of before the version's end too: it knows nothing of that evening by the hour.
            # What is added twice, after a fault, changes nothing.
            self._visits.add(users[of_users], rows[of_users], times[of_users])
        counts = (rows != NONE) & (times >= self.since)
        if counts.any():
            self._counts.add(rows[counts], times[counts])
        return bool(counts.any())

    def _take_up(self, now: int) -> bool:
        """Has the version grow by the items of which enough was sent; whether there were any."""
        assert self._counts is not None
        if 0 <= now - self._grew < _GROWN:
            return False
        found = self._new.find()
        if found is None:
            return False
        version = GrownVersion(self.version.published, [*self._new.ids, *found.ids])
        rows = version.rows(found.events.items)
        more = len(version.items) - len(self.version.items)
        self._counts.grow(more)
        # From here on nothing can fail: an item is taken up in all places, or in none.
        self._visits.grow(more)
        self._new.take_up(found)
        self.version = version
        self._grew = now
        # What was fitted has no place for the new items: it is fitted again at once.
        self._visits_fitted = min(self._visits_fitted, now - _REFITTED)
        return self._count(rows, found.events)

    def _put(self, source: Popular | CoOccurrence) -> None:
        """Has lists made by a source; those that are without new items by what it knows of the others."""
        self.version.put_source(source)
        published = self.version.published
        if published is not self.version:
            published.put_source(source.first(len(published.items)))

    def _put_own(self, together: Source) -> None:
        """Has lists made by what the version itself says that is taken together."""
        published = self.version.published
        published.put_source(together)
        if published is not self.version:
            first = OfFirstItems(together, len(published.items))
            self.version.put_source(first, CO_OCCURRENCE)

    def _lean(self, now: int) -> None:
        """Has the fixed order use both sources as far as the counts are new."""
        assert self._counts is not None
        new = self._counts.added_share if self._is_fresh(now) else 0.0
        order = self._published.leaning_on(POPULAR, LEAN * new)
        if self._visits_say_more(now, new):
            is_new = self._visits.has_more or not self._visits_fitted
            # A clock that was set back waits for nothing.
            if is_new and not 0 <= now - self._visits_fitted < _REFITTED:
                self._put(self._visits.source())
                self._visits_fitted = now
            order = order.leaning_on(CO_OCCURRENCE, LEAN_TOGETHER * new, adding=True)
        elif self._own_together is not None and self._visits_fitted:
            self._put_own(self._own_together)
            self._visits_fitted = 0
        self.version.fixed_order = order
        self.version.order_knows_more = new >= _MOSTLY_NEW

    def _visits_say_more(self, now: int, new: float) -> bool:
        """Whether what users took together just now serves, where so much of the counts is new."""
        if self._own_together is not None and new < _MOSTLY_NEW:
            return False
        return new > 0 and self._is_recent(self._visits.moment, now)

    def _is_fresh(self, now: int) -> bool:
        """Whether the newest event still says what is taken by the hour."""
        assert self._counts is not None
        return self._counts.half_life <= _OF_HOURS and self._is_recent(self._counts.moment, now)

    def _is_recent(self, moment: int, now: int) -> bool:
        assert self._counts is not None
        return now - moment <= self._counts.half_life


def counted_until(version: Version) -> int:
    """The end of the day that a version's counts are of, in microseconds since 1970."""
    day = version.manifest.corpus_date or version.manifest.date
    end = datetime.combine(day + timedelta(days=1), time(), version.pipeline.zone)
    return round(end.timestamp()) * 1_000_000
