"""Events since a version was made update two of its sources while it answers.

`popular`: the version's decayed counts end with its day. They go on event by event, and are then the
same as in a version that is made now. `co_occurrence`: where a log changes with the hour, it is fitted
again on the newest events alone. New items are taken up as well (serving/version/new_items.py). All
other parts of a version stay as they are.
"""

from datetime import datetime, time, timedelta

import numpy as np

from serving.version.event_buffer import NOBODY, EventBuffer, Events
from serving.version.loaded_version import Version
from serving.version.new_items import GrownVersion, NewItems
from twinspire_core.config.source_registry import CO_OCCURRENCE, POPULAR
from twinspire_core.search.index import NONE
from twinspire_core.sources.co_occurrence import CoOccurrence
from twinspire_core.sources.live_sources import OfFirstItems, RecentVisits, RunningCounts
from twinspire_core.sources.popular_and_history import Popular
from twinspire_core.sources.source import Source

LEAN = 0.8
"""The least weight of `popular` in the fixed order once all of its counts come from live events; fewer
give it less in proportion. The fitted weights are for lists of a whole day. Chosen on news
(docs/decisions/0025-between-trainings.md).
"""
LEAN_TOGETHER = 0.4
"""The weight of `co_occurrence` at that time, of all sources' together (the same record)."""
_OF_HOURS = 12 * 3600 * 1_000_000
"""Longest half-life, in microseconds, of a log that changes with the hour. Where the same items sell for
weeks, the events of a day move little, and the fitted weights hold.
"""
_REFITTED = 10 * 1_000_000
"""Least microseconds between two fits of co-occurrence, which also need a new event. A fit on 200,000
events takes 0.1 to 0.9 s of a processor, the more the longer visits are, and 2 s if no two are alike.
"""
_MOSTLY_NEW = 0.5
"""Share of live events in the counts from which sources fitted on these replace what knows more until
then: the version's own `co_occurrence`, and its ranker, which was fitted for the start of a day.
"""
_GROWN = 10 * 1_000_000
"""Least microseconds between two times that new items are taken up."""


class VersionUpdater:
    """Updates one version with live events for as long as it answers. Where a log changes with the
    hour, the fixed order gives the updated sources more weight.

    Args:
      version: the version as it was published.
      now: the present, in microseconds since 1970.
      new_items: how many new items are taken up at most.

    Attributes:
      version: the version, with the new items that were taken up.
      since: microseconds since 1970 from which events count. The version itself holds all before: up
        to the end of its day, or up to now if it is a refresh of a day that is not over.
    """

    def __init__(self, version: Version, events: EventBuffer, now: int, new_items: int = 0) -> None:
        self.version = version
        self.since = min(counted_until(version), now)
        self._events = events
        self._read = 0
        self._published = version.fixed_order
        sources = version.candidate_sources
        self._is_counted = Popular.is_counted(sources.tables)
        if self._is_counted:
            self._counts = RunningCounts(sources.tables, self.since)
            self._of_hours = self._counts.half_life <= _OF_HOURS
        self._visits = RecentVisits(len(version.items))
        self._own_together = sources.by_name.get(CO_OCCURRENCE)
        self._visits_fitted = 0  # microseconds since 1970; 0: the version's own is in use
        self._new = NewItems(new_items)
        self._grew = 0

    @property
    def moves_lists(self) -> bool:
        """Whether the version's default lists use live events."""
        served = self.version.choose_source(None)
        return self._is_counted and POPULAR in self.version.sources_of(served)

    def update(self, now: int) -> None:
        """Counts the events since the last update. The version's lists use them from now on."""
        if not self._is_counted:
            return
        number, sent = self._events.after(self._read)
        # `_read` moves on only once events are counted, so that a fault loses none.
        rows = self.version.rows(sent.items)
        counted = self._count(rows, sent)
        self._read = number
        if self._of_hours:
            self._new.add(sent.where((rows == NONE) & (sent.times >= self.since)))
            counted |= self._take_up(now)
        if counted:
            self._put(self._counts.source())
        if POPULAR in self._published.sources:
            self._lean(now)

    def _count(self, rows: np.ndarray, events: Events) -> bool:
        """Counts events of known items that the version's counts do not hold yet.

        Args:
          rows: [E], of the events' items.

        Returns: whether there were any.
        """
        _, times, users = events
        of_users = (rows != NONE) & (users != NOBODY)
        if of_users.any() and self._of_hours:
            # Events before the version's end count too: it knows nothing of that evening by the
            # hour. Events that are added twice, after a fault, change nothing.
            self._visits.add(users[of_users], rows[of_users], times[of_users])
        counts = (rows != NONE) & (times >= self.since)
        if counts.any():
            self._counts.add(rows[counts], times[counts])
        return bool(counts.any())

    def _take_up(self, now: int) -> bool:
        """Takes up the new items that enough users took; whether there were any."""
        if 0 <= now - self._grew < _GROWN:
            return False
        taken = self._new.find()
        if taken is None:
            return False
        version = GrownVersion(self.version.published, [*self._new.ids, *taken.ids])
        rows = version.rows(taken.events.items)
        more = len(version.items) - len(self.version.items)
        self._counts.grow(more)
        # Nothing below can fail, so an item is taken up everywhere or nowhere.
        self._visits.grow(more)
        self._new.take_up(taken)
        self.version = version
        self._grew = now
        # The fitted co-occurrence does not hold the new items: fit it again at once.
        self._visits_fitted = min(self._visits_fitted, now - _REFITTED)
        return self._count(rows, taken.events)

    def _put(self, source: Popular | CoOccurrence) -> None:
        """Puts a source into the version, and its part without new items into the published version."""
        self.version.put_source(source)
        published = self.version.published
        if published is not self.version:
            published.put_source(source.first(len(published.items)))

    def _put_own(self, together: Source) -> None:
        """Puts the version's own co-occurrence back."""
        published = self.version.published
        published.put_source(together)
        if published is not self.version:
            first = OfFirstItems(together, len(published.items))
            self.version.put_source(first, CO_OCCURRENCE)

    def _lean(self, now: int) -> None:
        """Gives both sources weight in the fixed order by the share of live events in the counts."""
        # Counts of another time of day would mislead: the newest event is not too old.
        is_fresh = self._of_hours and self._is_recent(self._counts.moment, now)
        new = self._counts.added_share if is_fresh else 0.0
        order = self._published.leaning_on(POPULAR, LEAN * new)
        if self._visits_say_more(now, new):
            is_new = self._visits.has_more or not self._visits_fitted
            # Below 0 the clock was set back: fit at once instead of waiting for it to catch up.
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
        """Whether co-occurrence of live events beats the version's own.

        Args:
          new: share of live events in the counts.
        """
        if self._own_together is not None and new < _MOSTLY_NEW:
            return False
        return new > 0 and self._is_recent(self._visits.moment, now)

    def _is_recent(self, moment: int, now: int) -> bool:
        return now - moment <= self._counts.half_life


def counted_until(version: Version) -> int:
    """The end of the last day in a version's counts, in microseconds since 1970."""
    day = version.manifest.corpus_date or version.manifest.date
    end = datetime.combine(day + timedelta(days=1), time(), version.pipeline.zone)
    return round(end.timestamp()) * 1_000_000
