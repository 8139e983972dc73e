"""What is shown of a version itself: cards of the live one, and what there is to choose from."""

from dataclasses import dataclass
from datetime import datetime, tzinfo
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from serving.http.hot_swap import Served
from serving.version.loaded_version import Version
from twinspire_core.config.source_names import ANSWERING
from twinspire_core.contracts.artifact import Manifest
from twinspire_core.contracts.feature_schema import attribute_name
from twinspire_core.contracts.gate_verdict import GateFigures
from twinspire_core.display.quality_tables import list_name
from twinspire_core.display.served_figure import ServedFigure
from twinspire_core.display.table import NONE, Card, count, number, share
from twinspire_core.metrics.list_metrics import popular_items
from twinspire_core.sources.popular import popular_order

SOURCES = {name: list_name(name) for name in ANSWERING}
_VALUES = 200  # of an attribute; the others can be typed
_USERS = 100  # proposed; any other can be typed

# Goes with the version: nothing keeps one that was swapped or dropped.
_views: "WeakKeyDictionary[Version, CorpusView]" = WeakKeyDictionary()


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusView:
    """Of one version.

    Attributes:
      values: the most frequent values of each attribute, as text, by its name.
      users: ids, spread over all of the version's users.
      popular: [N] bool, the fewest items that have half of the last days' events; None without any.
      events: [N] int64, of each item in the count window.
    """

    values: dict[str, list[str]]
    users: list[str]
    popular: np.ndarray | None
    events: np.ndarray

    @classmethod
    def of(cls, version: Version) -> "CorpusView":
        """Reads it off a version, once, however its catalogue grows."""
        version = version.published
        if version not in _views:
            _views[version] = cls._read(version)
        return _views[version]

    @classmethod
    def _read(cls, version: Version) -> "CorpusView":
        items = version.items
        values: dict[str, list[str]] = {}
        for name in version.pipeline.corpus.attributes:
            if attribute_name(name) in items.column_names:
                values[name] = _most_frequent(items[attribute_name(name)].combine_chunks())
        return cls(
            values=values,
            users=version.users.some(_USERS) if version.users is not None else [],
            popular=popular_items(popular_order(items, "_lately"), items["_lately"].to_numpy()),
            events=items["_popular"].to_numpy(),
        )


def _most_frequent(values: pa.Array) -> list[str]:
    if isinstance(values, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        values = values.flatten()
    counts = pc.value_counts(values.drop_null())
    order = pc.sort_indices(counts.field("counts"), [("", "descending")])
    return [_text(value) for value in counts.field("values").take(order[:_VALUES]).to_pylist()]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def cards(served: Served, figure: ServedFigure | None, zone: tzinfo) -> list[Card]:
    """What is to be known of the live version.

    Args:
      served: it, and since when it answers.
      figure: how good what it serves is; None where that is not known.
      zone: of the times shown.
    """
    version = served.version
    manifest = version.manifest
    since = served.since.astimezone(zone)
    users = "none" if version.users is None else count(version.users.count())
    sources = version.sources
    index = version.index.settings.kind.replace("_", " ")
    all_cards = [
        Card("day", f"{manifest.date:%-d %b %Y}", _origin(manifest)),
        Card("answers since", f"{since:%H:%M}", moment(served.since, zone)),
        *_quality_cards(figure),
        Card("items", count(manifest.items), f"vectors of {manifest.dimension} numbers"),
        Card("users", users, "carried with it"),
        Card("index", index, _recall(manifest.quality)),
        Card("sources", str(len(sources)), ", ".join(SOURCES[name] for name in sources)),
    ]
    return [card for card in all_cards if card.value]


def moment(at: datetime, zone: tzinfo) -> str:
    """A time, such as 25 Nov 2026, 15:04 UTC."""
    return f"{at.astimezone(zone):%-d %b %Y, %H:%M %Z}"


def headline(figure: ServedFigure) -> str:
    """The figure in front, in a line."""
    return f"{figure.metric}: {figure.values_text}, over {figure.users_text}"


def _quality_cards(figure: ServedFigure | None) -> list[Card]:
    """How good what is served is, and the two-tower behind it."""
    if figure is None:
        return [Card("quality", NONE, "was not measured")]
    note = f"{figure.users_text}, by the {list_name(figure.source)} of {figure.whose}"
    if figure.held_out:
        note += "; no next day has measured it yet"
    found = [Card(f"{figure.metric} of what is served", number(figure.value), note)]
    if figure.simple:
        title = f"best simple list: {list_name(figure.simple)}"
        found.append(Card(title, number(figure.simple_value), f"served: {figure.change_text}"))
    if figure.two_tower is not None:
        found.append(Card("two-tower alone", number(figure.two_tower), "the same users"))
    return found


def _recall(quality: GateFigures) -> str:
    recall = quality.index_recall
    return "" if recall is None else f"finds {share(recall)} of the exact neighbours"


def _origin(manifest: Manifest) -> str:
    if manifest.refreshes:
        corpus_date = manifest.corpus_date or manifest.date
        return f"catalogue of {corpus_date}, towers of {manifest.refreshes}"
    if manifest.parent:
        return f"trained on from {manifest.parent}"
    return "trained from scratch"
