"""Items that came after a version was made: found among the events, and served with the version.

An item is taken up once several users took it: an id that nobody else takes may be a sender's mistake,
or a page that hardly anybody sees. From then on a `GrownVersion` answers. Two of its sources know new
items, `popular` and `co_occurrence`, and so does the fixed order that blends them (`NEW_IN`). New items
have no vector, no attributes and nothing to display but their ids, so filtered lists and lists of all
other sources are without them.

N items of the version, M that came after it; their rows follow those of the version's items.
"""

from collections.abc import Sequence
from dataclasses import replace
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
from twinspire_core.sources.live_sources import OfFirstItems

TAKERS = 3
"""Users who must have taken an item. An event without a user counts as one more user."""
HOURS = 24
"""All of these events happened within so many hours."""
MOST_EVENTS = 200_000
"""Events of unknown items that are kept, the newest, and up to a quarter more."""
NEW_IN = (FIXED_ORDER, POPULAR, CO_OCCURRENCE)
"""Sources whose lists hold new items."""

_HOUR = 3_600 * 1_000_000  # in microseconds
_COUNTS = ("_popular", "_lately")
_AS_PUBLISHED = (
    "index",
    "users",
    "vocabularies",
    "ranking_features",
    "_second_stage",
    "fixed_order",
)
"""Parts of a version that new items do not change. The index has the N items with vectors."""


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
      most: how many items are taken up at most.
    """

    def __init__(self, most: int) -> None:
        self.ids: list[str] = []
        """Items that were taken up, in this order."""
        self._most = most
        self._waiting = EventBuffer(MOST_EVENTS)
        self._has_more = False  # events that `find` has not looked at

    def add(self, events: Events) -> None:
        """Keeps events of items that are not taken up yet."""
        if self._most > len(self.ids) and len(events.items):
            self._waiting.add(events)
            self._has_more = True

    def find(self) -> Found | None:
        """The items that enough users took; None if there are none. Nothing is taken up yet."""
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

    def take_up(self, found: Found) -> None:
        """Takes up what `find` has found; the events of these items leave the buffer."""
        self.ids += found.ids
        self._waiting = EventBuffer(MOST_EVENTS)
        self._waiting.add(found.rest)
        self._has_more = False


class GrownVersion(Version):
    """A published version with new items. Its catalogue never changes: more new items make another
    object, so that one answer sees one catalogue. What is loaded is loaded once, by the published
    version.

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
        """Itself where the source's lists hold new items, else the published version."""
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
        # Left in two chunks: combining them would copy the whole corpus.
        return pa.concat_tables([old, pa.table(values, schema=old.schema)])

    @cached_property
    def ids(self) -> np.ndarray:
        """Item ids by row, [N + M] objects."""
        new: np.ndarray = self._new_ids.to_numpy(zero_copy_only=False)
        return np.concatenate([self._published.ids, new])

    @cached_property
    def candidate_sources(self) -> CandidateSources:
        """The published version's sources, until `put_source` replaces them. Where popular items fill
        up lists, new items come last.
        """
        sources = self._published.candidate_sources
        new = np.arange(self._first, self._first + len(self._new_ids))
        of_first = {
            name: OfFirstItems(source, self._first) for name, source in sources.by_name.items()
        }
        popular = np.concatenate([sources.popular, new])
        return replace(sources, by_name=of_first, popular=popular)

    @cached_property
    def attributes(self) -> Attributes:
        """Those of the published items; no new item passes a filter."""
        return _OfFirstItems(self._published.attributes, len(self._new_ids))

    def encode(self, queries: pa.Table) -> np.ndarray:
        """As the published version."""
        return self._published.encode(queries)

    def rows(self, ids: pa.Array | pa.ChunkedArray | Sequence[str]) -> np.ndarray:
        """Rows of items by id, [N + M] int32; -1 for those that neither has."""
        # Stored histories hold no new items: users are stored with the version.
        if isinstance(ids, pa.DictionaryArray):
            return super().rows(ids)
        if not isinstance(ids, pa.Array | pa.ChunkedArray):
            ids = list(ids)
        rows = self._published.rows(ids)
        new = self._new_rows.rows(ids)
        return np.where((rows == NONE) & (new != NONE), new + self._first, rows).astype(np.int32)

    def describe(self, rows: np.ndarray | Sequence[int]) -> list[dict[str, str | None]]:
        """As of the published version; of new items the id, and null for all else."""
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

    def select(self, wanted: Filter) -> Selected:
        selected = self._attributes.select(wanted)
        return selected._replace(passing=np.pad(selected.passing, (0, self._more)))
