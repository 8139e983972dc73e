"""Updates the live version with live events, and adds new items to it.

`popular`: the version's decayed counts end with its day. Events continue them, so that they equal those of a
version that is made now. `co_occurrence`: on logs that change by the hour, it is fitted again on the newest
events alone. All other parts of a version stay as they are.

Items that are newer than the version appear in events. An item joins once several users took it, because an
id from one user may be a mistake. Then a `GrownVersion` answers. Only `popular`, `co_occurrence` and the fixed
order list new items (`NEW_IN`): they have no vector, no attributes, and only their id to display.

N items of the version, M that came after it; their rows follow those of the version's items.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, time, timedelta
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from serving.version.event_buffer import NOBODY, EventBuffer, Events
from serving.version.filters import Attributes, Filter, Selected
from serving.version.loaded_version import Version
from serving.version.user_store import IdTable
from twinspire_core.config.source_registry import CO_OCCURRENCE, FIXED_ORDER, POPULAR
from twinspire_core.search.index import NONE
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.co_occurrence import CoOccurrence
from twinspire_core.sources.live_sources import OfFirstItems, RecentVisits, RunningCounts
from twinspire_core.sources.popular_and_history import Popular
from twinspire_core.sources.source import Source

TAKERS = 3
"""The least number of users who took a new item. An event without a user counts as one user."""
HOURS = 24
"""These events must be from this many hours."""
MOST_EVENTS = 200_000
"""The newest events of unknown items that are kept, and up to a quarter more."""
NEW_IN = (FIXED_ORDER, POPULAR, CO_OCCURRENCE)
"""Sources whose lists may have new items."""
_HOUR = 3_600 * 1_000_000  # in microseconds
_COUNTS = ("_popular", "_lately")
# Parts of a version that new items do not change. The index has the N items with vectors.
_AS_PUBLISHED = (
    "index",
    "users",
    "vocabularies",
    "ranking_features",
    "_second_stage",
    "fixed_order",
)


class Found(NamedTuple):
    """New items that enough users took.

    Attributes:
      ids: item ids, the one with the most users first.
      events: the events of these items.
      rest: the events of other items, which stay in the buffer.
    """

    ids: Sequence[str]
    events: Events
    rest: Events


class NewItems:
    """Finds new items in the events of items that a version does not know.

    Args:
      most: most items that may be added.
    """

    def __init__(self, most: int) -> None:
        self.ids: list[str] = []
        """The added items, in the order in which they were added."""
        self._most = most
        self._waiting = EventBuffer(MOST_EVENTS)
        self._has_more = False  # events that `find` has not looked at

    def add(self, events: Events) -> None:
        """Keeps events of items that are not added yet."""
        if self._most > len(self.ids) and len(events.items):
            self._waiting.add(events)
            self._has_more = True

    def find(self) -> Found | None:
        """The items that enough users took; None if there are none. `take_up` adds them."""
        if not self._has_more:
            return None
        _, waiting = self._waiting.after(0)
        waiting = waiting.where(waiting.times >= waiting.times.max() - HOURS * _HOUR)
        table = pl.DataFrame({"item": waiting.items, "user": waiting.users})
        user = pl.col("user")
        takers = user.filter(user != NOBODY).n_unique() + (user == NOBODY).sum()
        enough = (
            table.group_by("item")
            .agg(takers=takers)
            .filter(pl.col("takers") >= TAKERS)
            .sort(["takers", "item"], descending=[True, False])
            .head(self._most - len(self.ids))["item"]
        )
        if enough.is_empty():
            self._has_more = False  # until another event comes in
            return None
        taken = table["item"].is_in(enough.to_list()).to_numpy()
        return Found(enough.to_list(), waiting.where(taken), waiting.where(~taken))

    def take_up(self, new: Found) -> None:
        """Adds the items that `find` returned. Their events leave the buffer."""
        self.ids += new.ids
        self._waiting = EventBuffer(MOST_EVENTS)
        self._waiting.add(new.rest)
        self._has_more = False


class GrownVersion(Version):
    """A published version with new items. Its catalogue never changes: for further new items, another
    object is made, so that each answer sees one catalogue. All objects share the data that the published
    version has loaded.

    Args:
      new: [M] item ids that the published version does not have.
    """

    def __init__(self, published: Version, new: Sequence[str]) -> None:
        super().__init__(published.pipeline, published.home, published.manifest)
        self._published = published
        self._first = len(published.items)
        self._new_ids = pa.array(new, pa.string())
        self._new_rows = IdTable(self._new_ids)
        for part in _AS_PUBLISHED:
            setattr(self, part, getattr(published, part))
        self.sources = list(published.sources)

    @property
    def published(self) -> Version:
        """The version without the new items."""
        return self._published

    def answering(self, source: str) -> Version:
        """Itself if the source's lists may have new items, else the published version."""
        return self if source in NEW_IN else self._published

    @cached_property
    def items(self) -> pa.Table:
        """The corpus. New items have an id and counts of 0; all other columns are null."""
        old = self._published.items
        values = {field.name: pa.nulls(len(self._new_ids), field.type) for field in old.schema}
        values["_item"] = self._new_ids.cast(old.schema.field("_item").type)
        for name in values.keys() & set(_COUNTS):
            zeros = np.zeros(len(self._new_ids), np.int64)
            values[name] = pa.array(zeros).cast(old.schema.field(name).type)
        # Two chunks, because combining them would copy the whole corpus.
        return pa.concat_tables([old, pa.table(values, schema=old.schema)])

    @cached_property
    def ids(self) -> np.ndarray:
        """Item ids by row, [N + M] objects."""
        new: np.ndarray = self._new_ids.to_numpy(zero_copy_only=False)
        return np.concatenate([self._published.ids, new])

    @cached_property
    def candidate_sources(self) -> CandidateSources:
        """The published version's sources, until `put_source` replaces them. When popular items fill up
        lists, new items come last.
        """
        sources = self._published.candidate_sources
        new = np.arange(self._first, self._first + len(self._new_ids))
        of_first = {
            name: OfFirstItems(source, self._first) for name, source in sources.by_name.items()
        }
        return replace(sources, by_name=of_first, popular=np.concatenate([sources.popular, new]))

    @cached_property
    def attributes(self) -> Attributes:
        """The attributes of the published items. No new item passes a filter."""
        return _OfFirstItems(self._published.attributes, len(self._new_ids))

    def encode(self, queries: pa.Table) -> np.ndarray:
        """Encodes with the published version."""
        return self._published.encode(queries)

    def rows(self, ids: pa.Array | pa.ChunkedArray | Sequence[str]) -> np.ndarray:
        """Rows of items by id, int32; -1 for unknown items."""
        # Stored histories have no new items, because users are stored when the version is made.
        if isinstance(ids, pa.DictionaryArray):
            return super().rows(ids)
        if not isinstance(ids, pa.Array | pa.ChunkedArray):
            ids = list(ids)
        rows = self._published.rows(ids)
        new = self._new_rows.rows(ids)
        return np.where((rows == NONE) & (new != NONE), new + self._first, rows).astype(np.int32)

    def describe(self, rows: np.ndarray | Sequence[int]) -> list[dict[str, str | None]]:
        """The display columns of published items. New items have only an id; other columns are null."""
        rows = np.asarray(rows, np.int64)
        is_new = rows >= self._first
        described = self._published.describe(np.where(is_new, 0, rows))
        for number in np.flatnonzero(is_new):
            item = str(self.ids[rows[number]])
            described[number] = dict.fromkeys(described[number]) | {"item": item}
        return described


class _OfFirstItems(Attributes):
    """The attributes of a corpus's first items. New items pass no filter: their values are unknown.

    Args:
      more: how many new items there are.
    """

    def __init__(self, attributes: Attributes, more: int) -> None:
        self._attributes = attributes
        self._more = more

    def entries(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        return self._attributes.entries(name)

    def select(self, wanted: Filter) -> Selected | None:
        selected = self._attributes.select(wanted)
        return selected and selected._replace(passing=np.pad(selected.passing, (0, self._more)))


LEAN = 0.8
"""The least weight of `popular` in the fixed order if all of its counts come from live events, and in
proportion less if fewer do. The fitted weights are for lists of a whole day. Chosen on news
(docs/decisions/0025-between-trainings.md).
"""
LEAN_TOGETHER = 0.4
"""The share of `co_occurrence` in all weights at that time (the same record)."""
# A log changes by the hour if the half-life of `popular` is at most this many microseconds. With a longer
# one, the same items sell for weeks, so the fitted weights stay right during the day.
_OF_HOURS = 12 * 3600 * 1_000_000
# The least time between two fits of co-occurrence, in microseconds. A fit on 200,000 events takes 0.1
# to 0.9 s of a processor, more for longer visits, and 2 s if no two visits are alike.
_REFITTED = 10 * 1_000_000
# If at least this share of the counts is from live events, sources fitted on them replace the
# version's own `co_occurrence` and its ranker, which was fitted for the start of a day.
_MOSTLY_NEW = 0.5
# The least time between two additions of new items, in microseconds: each copies columns of the corpus.
_GROWN = 10 * 1_000_000


class VersionUpdater:
    """Updates one version with live events while it answers. On logs that change by the hour, the fixed
    order gives the updated sources more weight.

    Args:
      version: the version as it was published.
      now: the current time, in microseconds since 1970.
      new_items: most new items that may be added.

    Attributes:
      version: the version, with the added new items.
      since: events from this time on count, in microseconds since 1970. The version contains the earlier
        ones: up to the end of its day, or up to now if it is a refresh of a day that is not over.
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
        # Long ago, so that the first new items join without waiting
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
            # Also events before the version's end, because its own co-occurrence is not for the last
            # hours. Events that are added twice after an error change nothing.
            self._visits.add(users[of_users], rows[of_users], times[of_users])
        counts = (rows != NONE) & (times >= self.since)
        if counts.any():
            self._counts.add(rows[counts], times[counts])
        return bool(counts.any())

    def _take_up(self, now: int) -> bool:
        """Adds the new items that enough users took. Returns whether there were any."""
        if 0 <= now - self._grew < _GROWN:
            return False
        taken = self._new.find()
        if taken is None:
            return False
        version = GrownVersion(self.version.published, [*self._new.ids, *taken.ids])
        rows = version.rows(taken.events.items)
        more = len(version.items) - len(self.version.items)
        self._counts.grow(more)
        # After this line nothing can fail, so an item joins everywhere or nowhere.
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
            self.version.put_source(OfFirstItems(together, len(published.items)), CO_OCCURRENCE)

    def _lean(self, now: int) -> None:
        """Gives both sources weight in the fixed order by the share of live events in the counts."""
        # Without recent events, counts would be for another time of the day.
        is_fresh = self._of_hours and self._is_recent(self._counts.moment, now)
        new = self._counts.added_share if is_fresh else 0.0
        order = self._published.leaning_on(POPULAR, LEAN * new)
        if self._visits_say_more(now, new):
            is_new = self._visits.has_more or not self._visits_fitted
            # A negative time means that the clock was set back: fit at once instead of waiting.
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
