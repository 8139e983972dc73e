"""What users took since the version that answers was made: its source `trending` is brought up to it.

A version's counts end with its day. Decayed counts can go on from there, event by event, and are then
what a version made just now would hold. All else of a version stays as it is.
"""

from datetime import datetime, time, timedelta

from serving.version.event_buffer import EventBuffer
from serving.version.loaded_version import Version
from twinspire_core.config.source_names import TRENDING
from twinspire_core.search.index import NONE
from twinspire_core.sources.trending import RunningCounts

LEAN = 0.8
"""The least share of the mix that `trending` has once all that its counts hold was sent: the mix's own
weights were fitted for lists of a whole day. Chosen on news (docs/decisions/0079-events-as-they-happen.md).
"""
_OF_HOURS = 12 * 3600 * 1_000_000
"""Of the longest half-life, in microseconds, by which a log changes with the hour. Where what sells is the
same for weeks, the events of a day move little, and the weights hold.
"""


class TrendingUpdater:
    """Keeps the source `trending` of a version up to the newest events, and has its mix lean on it
    meanwhile, where a log changes with the hour. One object follows a version all its life.

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

    @property
    def moves_lists(self) -> bool:
        """Whether what the version serves, where a request does not say, goes by events."""
        served = self.version.choose_source(None)
        return self._counts is not None and TRENDING in self.version.sources_of(served)

    def update(self, now: int) -> None:
        """Counts what was sent since the last update; the version's lists go by it from now on."""
        if self._counts is None:
            return
        number, items, times = self._events.after(self._read)
        rows = self.version.rows(items)
        counts = (rows != NONE) & (times >= self.since)
        if counts.any():
            self._counts.add(rows[counts], times[counts])
            self.version.put_source(self._counts.source())
        self._read = number
        if self._fitted and TRENDING in self._fitted.sources:
            share = LEAN * self._counts.added_share if self._is_fresh(now) else 0.0
            self.version.fusion = self._fitted.leaning_on(TRENDING, share)

    def _is_fresh(self, now: int) -> bool:
        """Whether the newest event still says what is taken by the hour."""
        assert self._counts is not None
        half_life = self._counts.half_life
        return half_life <= _OF_HOURS and now - self._counts.moment <= half_life


def counted_until(version: Version) -> int:
    """The end of the day that a version's counts are of, in microseconds since 1970."""
    day = version.manifest.corpus_date or version.manifest.date
    end = datetime.combine(day + timedelta(days=1), time(), version.pipeline.zone)
    return round(end.timestamp()) * 1_000_000
