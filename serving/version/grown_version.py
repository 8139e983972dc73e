"""A version together with items that came after it was made: all that is known of these is that users
take them.

Two of its sources know them, `popular` and `co_occurrence`, and with these the fixed order (`NEW_IN`). They
stand behind the items of the version, whose rows stay what they are. They have no vector, no attribute
and nothing to display but their ids: lists of all other sources, filtered ones and the
ranker's are without them.

N items of the version, M that came after it.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from serving.version.attributes import Attributes
from serving.version.filters import Filter, Selected
from serving.version.loaded_version import Version
from serving.version.user_store import IdTable
from twinspire_core.config.source_names import CO_OCCURRENCE, FIXED_ORDER, POPULAR
from twinspire_core.search.index import NONE
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.live_sources import OfFirstItems

NEW_IN = (FIXED_ORDER, POPULAR, CO_OCCURRENCE)
"""Sources whose lists hold new items."""
_COUNTS = ("_popular", "_lately")
_AS_PUBLISHED = (
    "index",
    "users",
    "vocabularies",
    "ranking_features",
    "_second_stage",
    "fixed_order",
)
"""Parts of a version to which new items change nothing. The index is of the N items with vectors."""


class GrownVersion(Version):
    """The version as it was published, and further items. It never gets more of them: whoever answers
    by it sees one catalogue. What is loaded is loaded once, by the version as it was published.

    Args:
      published: the version.
      new: [M] ids that it does not have.
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
        """It without the new items."""
        return self._published

    def answering(self, source: str) -> Version:
        """Itself where a list may hold new items, else the version as it was published."""
        return self if source in NEW_IN else self._published

    @cached_property
    def items(self) -> pa.Table:
        """The corpus. Of new items there is an id, and no event in the count window; all else is
        null.
        """
        old = self._published.items
        values = {field.name: pa.nulls(len(self._new_ids), field.type) for field in old.schema}
        values["_item"] = self._new_ids.cast(old.schema.field("_item").type)
        for name in values.keys() & set(_COUNTS):
            zeros = np.zeros(len(self._new_ids), np.int64)
            values[name] = pa.array(zeros).cast(old.schema.field(name).type)
        # In two chunks: one would be a copy of all.
        return pa.concat_tables([old, pa.table(values, schema=old.schema)])

    @cached_property
    def ids(self) -> np.ndarray:
        """Item ids by row, [N + M] objects."""
        new: np.ndarray = self._new_ids.to_numpy(zero_copy_only=False)
        return np.concatenate([self._published.ids, new])

    @cached_property
    def candidate_sources(self) -> CandidateSources:
        """Those of the version, until others are put in their places; new items fill up lists last."""
        sources = self._published.candidate_sources
        new = np.arange(self._first, self._first + len(self._new_ids))
        of_first = {
            name: OfFirstItems(source, self._first) for name, source in sources.by_name.items()
        }
        popular = np.concatenate([sources.popular, new])
        return replace(sources, by_name=of_first, popular=popular)

    @cached_property
    def attributes(self) -> Attributes:
        """Those of the version's items."""
        return _OfFirstItems(self._published.attributes, len(self._new_ids))

    def encode(self, queries: pa.Table) -> np.ndarray:
        """As the version."""
        return self._published.encode(queries)

    def rows(self, ids: pa.Array | pa.ChunkedArray | Sequence[str]) -> np.ndarray:
        """Rows of items by id, [N + M] int32; -1 for those outside the corpus."""
        if isinstance(ids, pa.DictionaryArray):
            return super().rows(ids)
        if not isinstance(ids, pa.Array | pa.ChunkedArray):
            ids = list(ids)
        rows = self._published.rows(ids)
        new = self._new_rows.rows(ids)
        return np.where((rows == NONE) & (new != NONE), new + self._first, rows).astype(np.int32)

    def describe(self, rows: np.ndarray | Sequence[int]) -> list[dict[str, str | None]]:
        """What people are shown of items: of new ones the id, and null for all else."""
        rows = np.asarray(rows, np.int64)
        is_new = rows >= self._first
        described = self._published.describe(np.where(is_new, 0, rows))
        for place in np.flatnonzero(is_new):
            item = str(self.ids[rows[place]])
            described[place] = dict.fromkeys(described[place]) | {"item": item}
        return described


class _OfFirstItems(Attributes):
    """Attributes of the first items of a corpus: no other passes a filter, whatever it is, as nobody
    knows what it is.

    Args:
      attributes: of the first items.
      more: how many others there are.
    """

    def __init__(self, attributes: Attributes, more: int) -> None:
        self._attributes = attributes
        self._more = more

    def entries(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """As those of the first items."""
        return self._attributes.entries(name)

    def select(self, wanted: Filter) -> Selected:
        """As of the first items."""
        selected = self._attributes.select(wanted)
        return selected._replace(passing=np.pad(selected.passing, (0, self._more)))
