"""What users took since the version that answers was made: two of its sources are brought up to it.

`trending`: a version's counts end with its day. Decayed counts can go on from there, event by event, and
are then what a version made just now would hold. `co_visitation`: where a log changes with the hour, what
is taken close together just now is fitted on the newest events alone. All else of a version stays as it
is.
"""

from datetime import datetime, time, timedelta

from serving.version.event_buffer import NOBODY, EventBuffer
from serving.version.loaded_version import Version
from twinspire_core.config.source_names import CO_VISITATION, RANKED, TRENDING
from twinspire_core.search.index import NONE
from twinspire_core.sources.recent_visits import RecentVisits
from twinspire_core.sources.trending import RunningCounts

LEAN = 0.8
"""The least share of the mix that `trending` has once all that its counts hold was sent: the mix's own
weights were fitted for lists of a whole day. Chosen on news (docs/decisions/0079-events-as-they-happen.md).
"""
LEAN_TOGETHER = 0.4
"""And that `co_visitation` has of the whole then (docs/decisions/0081-what-is-taken-together-now.md)."""
_OF_HOURS = 12 * 3600 * 1_000_000
"""Of the longest half-life, in microseconds, by which a log changes with the hour. Where what sells is the
same for weeks, the events of a day move little, and the weights hold.
"""
_REFITTED = 10 * 1_000_000
"""Microseconds between two fits of what is taken together, at least: of 200,000 events one takes .05
to .4 s of a processor, the more the longer visits are.
"""
_REPLACES = 0.5
"""The share of the counts that was told, from which on what was learnt takes the place of the version's own
`co_visitation`, which knows more until then.
"""


class VersionUpdater:
    """Keeps sources of a version up to the newest events, and has its mix lean on them meanwhile, where a
    log changes with the hour. One object follows a version all its life.

    Attributes:
      version: the version.
      since: microseconds since 1970 from which on events count. The version knows what was before:
        up to the end of its day, or, if a refresh was made of a day that is not over, up to now.
    """

    def __init__(self, version: Version, events: EventBuffer, now: int) -> None:
        """Begins; `now` is in microseconds since 1970."""
        self.version = version
        self.since = min(counted_until(version), now)
        self._events = events
        self._read = 0
        self._fitted = version.fusion
        self._counts: RunningCounts | None = None
        sources = version.candidate_sources
        if sources is not None and TRENDING in sources:
            self._counts = RunningCounts(sources.tables, self.since)
        self._visits = RecentVisits(len(version.items))
        self._own_together = sources.by_name.get(CO_VISITATION) if sources else None
        # A ranker knows what scores of the daily table say, and nothing of others.
        self._ranks_by_own = CO_VISITATION in version.sources_of(RANKED)
        self._visits_fitted = 0

    @property
    def moves_lists(self) -> bool:
        """Whether what the version serves, where a request does not say, goes by events."""
        served = self.version.choose_source(None)
        return self._counts is not None and TRENDING in self.version.sources_of(served)

    def update(self, now: int) -> None:
        """Counts what was sent since the last update; the version's lists go by it from now on."""
        if self._counts is None:
            return
        number, (items, times, users) = self._events.after(self._read)
        rows = self.version.rows(items)
        tells = (rows != NONE) & (users != NOBODY)
        if tells.any() and self._counts.half_life <= _OF_HOURS:
            # Those of before the version's end too: it knows nothing of that evening by the hour.
            # What is added twice, after a fault, changes nothing.
            self._visits.add(users[tells], rows[tells], times[tells])
        counts = (rows != NONE) & (times >= self.since)
        if counts.any():
            self._counts.add(rows[counts], times[counts])
        self._read = number
        if counts.any():
            self.version.put_source(self._counts.source())
        if self._fitted and TRENDING in self._fitted.sources:
            self._lean(now)

    def _lean(self, now: int) -> None:
        """Has the mix go by both sources as far as the counts are new."""
        assert self._counts is not None and self._fitted is not None
        new = self._counts.added_share if self._is_fresh(now) else 0.0
        fusion = self._fitted.leaning_on(TRENDING, LEAN * new)
        if self._visits_say_more(now, new):
            # A clock that was set back waits for nothing.
            if not 0 <= now - self._visits_fitted < _REFITTED:
                self.version.put_source(self._visits.source())
                self._visits_fitted = now
            fusion = fusion.leaning_on(CO_VISITATION, LEAN_TOGETHER * new, adding=True)
        elif self._own_together is not None and self._visits_fitted:
            self.version.put_source(self._own_together)
            self._visits_fitted = 0
        self.version.fusion = fusion

    def _visits_say_more(self, now: int, new: float) -> bool:
        """Whether what users took together just now serves, where so much of the counts is new."""
        if self._own_together is not None and (self._ranks_by_own or new < _REPLACES):
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
