"""What is shown of a version itself: cards of the live one, what there is to choose from, and which
items are popular or new.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from index_builder.report.report_blocks import LISTS, Card
from serving.answers import retrieval
from serving.answers.retrieval import available
from serving.http.hot_swap import Served
from serving.version.loaded_version import Version
from twinspire_core.contracts.feature_schema import attribute_name
from twinspire_core.contracts.gate_verdict import GateFigures
from twinspire_core.metrics.diversity import popular_items

SOURCES = {name: LISTS[name] for name in retrieval.SOURCES}
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


def cards(served: Served, zone: tzinfo) -> list[Card]:
    """What is to be known of the live version.

    Args:
      served: it, and since when it answers.
      zone: of the times shown.
    """
    version, quality = served.version, served.version.manifest.quality
    manifest = version.manifest
    found = [
        Card("day", f"{manifest.date:%-d %b %Y}", _origin(manifest)),
        Card("answers since", f"{served.since.astimezone(zone):%H:%M}", moment(served.since, zone)),
        *_quality(quality),
        Card("items", f"{manifest.items:,}", f"vectors of {manifest.dimension} numbers"),
        Card(
            "users",
            f"{version.users.count():,}" if version.users is not None else "none",
            "carried with it",
        ),
        Card("index", version.index.settings.kind.replace("_", " "), _recall(quality)),
        Card(
            "sources",
            str(len(available(version))),
            ", ".join(SOURCES[one] for one in available(version)),
        ),
    ]
    return [card for card in found if card.value]


def moment(at: datetime, zone: tzinfo) -> str:
    """A time, such as 25 Nov 2026, 15:04 UTC."""
    return f"{at.astimezone(zone):%-d %b %Y, %H:%M %Z}"


def headline(quality: GateFigures) -> str | None:
    """The figure by which the gate judged a version, such as recall@50 0.211."""
    if quality.candidate is None:
        return None
    return f"{quality.metric or 'quality'} {quality.candidate:.3f}"


def _quality(quality: GateFigures) -> list[Card]:
    metric = quality.metric or "quality"
    if quality.candidate is None:
        return [Card("quality", "–", "was not measured")]
    note = f"of {quality.users:,} held-out users" if quality.users else "of held-out users"
    if quality.baseline:
        note += f"; its parent {quality.baseline:.3f}"
    found = [Card(metric, f"{quality.candidate:.3f}", note)]
    mix = quality.mix
    if mix and mix.candidate is not None:
        note = f"of {mix.users or 0:,} held-out users"
        found.append(Card(f"{metric}, mix", f"{mix.candidate:.3f}", note))
    return found


def _recall(quality: GateFigures) -> str:
    recall = quality.index_recall
    return "" if recall is None else f"finds {recall:.1%} of the exact neighbours"


def _origin(manifest: Any) -> str:
    if manifest.refreshes:
        return (
            f"catalogue of {manifest.corpus_date or manifest.date}, towers of {manifest.refreshes}"
        )
    return f"trained on from {manifest.parent}" if manifest.parent else "trained from scratch"
