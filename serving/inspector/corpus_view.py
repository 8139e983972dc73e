"""What a version offers to choose from, and which of its items are popular or new."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serving.version.loaded_version import Version
from twinspire_core.contracts.feature_schema import attribute_name
from twinspire_core.metrics.diversity import popular_items

_VALUES = 200  # of an attribute; the others can be typed
_USERS = 100  # proposed; any other can be typed

_seen: "WeakKeyDictionary[Version, CorpusView]" = WeakKeyDictionary()


class Tag(NamedTuple):
    """A reason.

    Attributes:
      kind: `seen`, `popular`, `new`, or a source.
      label: in two words.
      title: in one sentence.
    """

    kind: str
    label: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusView:
    """Of one version.

    Attributes:
      values: the most frequent values of each attribute, as text, by its name.
      users: ids, spread over all of the version's users.
      popular: [N] bool, the fewest items that have half of the last days' events; None where that
        is not known.
      events: [N] int64, of each item in the count window; None where that is not known.
    """

    values: dict[str, list[str]]
    users: list[str]
    popular: np.ndarray | None
    events: np.ndarray | None

    @classmethod
    def of(cls, version: Version) -> "CorpusView":
        """Reads it off a version, once."""
        if version not in _seen:
            _seen[version] = cls._read(version)
        return _seen[version]

    @classmethod
    def _read(cls, version: Version) -> "CorpusView":
        items, nominators = version.items, version.nominators
        return cls(
            values={
                name: _frequent(items[attribute_name(name)].combine_chunks())
                for name in version.pipeline.corpus.attributes
                if attribute_name(name) in items.column_names
            },
            users=version.users.some(_USERS) if version.users is not None else [],
            popular=popular_items(nominators.lately, items["_lately"].to_numpy())
            if nominators
            else None,
            events=items["_popular"].to_numpy() if nominators else None,
        )


def tags_of_items(version: Version, rows: Sequence[int]) -> list[list[Tag]]:
    """Whether items of the corpus are popular, or new or rare; `rows` are their positions in it."""
    catalogue, days = CorpusView.of(version), version.pipeline.window.count_days
    popular = Tag(
        "popular", "popular", "One of the few items that had half of the last days' events."
    )
    new = Tag("new", "new or rare", f"It had no event in the last {days} days.")
    return [
        [
            *([popular] if catalogue.popular is not None and catalogue.popular[row] else []),
            *([new] if catalogue.events is not None and not catalogue.events[row] else []),
        ]
        for row in rows
    ]


def _frequent(values: pa.Array) -> list[str]:
    if isinstance(values, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        values = values.flatten()
    counts = pc.value_counts(values.drop_null())
    order = pc.sort_indices(counts.field("counts"), [("", "descending")])
    return [_text(value) for value in counts.field("values").take(order[:_VALUES]).to_pylist()]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
