"""The items of a version as they are exported, and what differs from the items at a destination.

An exported item is its id, its vector and its text. The text is JSON with the towers that made the vector,
the attributes that requests may filter by, and the columns that people see. A digest of all this is exported
too: the next export compares it, and sends only items that are new or have changed.

Vectors of different towers must not be compared. Destinations keep them apart, and each item names its
towers.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np

from serving.version.loaded_version import Version
from twinspire_core.contracts import version_manifest
from twinspire_core.contracts.feature_schema import attribute_name, display_name
from twinspire_core.search.index import stored_vectors

BATCH = 500
"""Items that are sent at a time."""


class Changes(NamedTuple):
    """What an export changes at a destination.

    Attributes:
      sent: rows of items to send, [N] int64: those that are not there, then those that differ there.
      gone: ids of items there that the version does not have.
      counts: the numbers of `new`, `changed`, `deleted` and `unchanged` items.
    """

    sent: np.ndarray
    gone: list[str]
    counts: dict[str, int]


@dataclass(frozen=True)
class ExportedItems:
    """The items of a version.

    Attributes:
      name: of the pipeline.
      version: id of the version.
      towers: id of the version that its towers come from.
      ids: item ids.
      vectors: [N, D] float32, compared by inner product.
      attributes: for each item, its values by attribute.
      display: for each item, its display columns.
    """

    name: str
    version: str
    towers: str
    ids: list[str]
    vectors: np.ndarray
    attributes: list[dict[str, Any]]
    display: list[dict[str, str | None]]

    @classmethod
    def of(cls, version: Version) -> "ExportedItems":
        """Reads a version's items."""

        def values(prefix: str) -> list[dict[str, Any]]:
            columns = [name for name in version.items.column_names if name.startswith(prefix)]
            names = [name.removeprefix(prefix) for name in columns]
            table = version.items.select(columns).rename_columns(names)
            return table.to_pylist() if columns else [{}] * len(version.items)

        return cls(
            name=version.pipeline.name,
            version=version.id,
            towers=version.towers,
            ids=version.items["_item"].to_pylist(),
            # Not `version.index`, which loads ScaNN
            vectors=stored_vectors(version.home / version_manifest.INDEX),
            attributes=[_as_json(row) for row in values(attribute_name(""))],
            display=values(display_name("")),
        )

    def record(self, row: int) -> dict[str, Any]:
        """All that is exported of an item."""
        return {
            "item": self.ids[row],
            "vector": self.vectors[row].tolist(),
            "towers": self.towers,
            "attributes": self.attributes[row],
            "display": self.display[row],
            "digest": self.digests[row],
        }

    @cached_property
    def digests(self) -> list[str]:
        """A digest of each item."""
        texts = zip(self.ids, self.attributes, self.display, strict=True)
        return [
            blake2b(
                json.dumps([self.towers, *text]).encode() + vector.tobytes(), digest_size=12
            ).hexdigest()
            for text, vector in zip(texts, self.vectors, strict=True)
        ]

    def compared(self, there: Mapping[str, str]) -> Changes:
        """The difference from a destination.

        Args:
          there: digests of the items there, by id.
        """
        is_new = np.array([item not in there for item in self.ids], bool)
        before = [there.get(item) for item in self.ids]
        differs = np.array(before, object) != np.array(self.digests, object)
        new, changed = np.flatnonzero(is_new), np.flatnonzero(differs & ~is_new)
        gone = sorted(there.keys() - set(self.ids))
        counts = {
            "new": len(new),
            "changed": len(changed),
            "deleted": len(gone),
            "unchanged": int((~differs).sum()),
        }
        return Changes(np.concatenate([new, changed]), gone, counts)

    def outdated(self, names: Iterable[str], current: str | None) -> list[str]:
        """The tables at a destination that can be deleted: those of this pipeline whose towers are of an
        earlier day than the current ones, and not the exported ones. Another export may be filling a later
        one.
        """
        prefix = f"{self.name}-"
        ids = {name: name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        day = ids.get(current or "", "")[:10]
        return [
            name
            for name, towers in ids.items()
            if version_manifest.is_id(towers) and towers[:10] < day and name != self.table
        ]

    @property
    def table(self) -> str:
        """The name of the table, or collection, of these towers' vectors."""
        return f"{self.name}-{self.towers}"


def _as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """Values as JSON has them: dates as text, and no NaN."""
    text = json.dumps(row, default=str)
    return dict(json.loads(text, parse_constant=lambda _: None))
