"""What is shown of a version itself: cards of the live one, and what there is to choose from.

Versions besides the live one: which there are, loaded when somebody looks at them, and a few of
them kept.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, tzinfo
from threading import Lock, Thread
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from index_builder.registry.quality_history import quality_of
from index_builder.registry.registry import Registry, Status
from serving.http.hot_swap import Served
from serving.version.loaded_version import Version
from twinspire_core.config.source_names import ANSWERING
from twinspire_core.contracts.feature_schema import attribute_name
from twinspire_core.contracts.gate_verdict import GateFigures
from twinspire_core.contracts.manifest import Manifest
from twinspire_core.display.measured_lists import list_name
from twinspire_core.display.served_figure import ServedFigure
from twinspire_core.display.table import NONE, Card, count, number, share
from twinspire_core.metrics.ranking import popular_items
from twinspire_core.sources.popular import popular_order

log = logging.getLogger("twinspire.serve")


@dataclass(slots=True)
class _Place:
    """A version in the cache: it is being loaded until it, or what went wrong, is there."""

    version: Version | None = None
    failure: Exception | None = None


class VersionCache:
    """Keeps the versions that were asked for last.

    They are loaded one after the other by a thread of its own; the live version is none of them,
    and answers meanwhile. A version that was dropped while somebody shows it goes when that is
    done.

    Args:
      opened: opens a version by its id.
      warm: asks it what users will ask; raises if it does not answer.
      most: how many are kept: memory holds so many besides the live one.
    """

    def __init__(
        self, opened: Callable[[str], Version], warm: Callable[[Version], None], most: int = 2
    ) -> None:
        self._open = opened
        self._warm = warm
        self._most = most
        # In the order in which they were asked for, the last one at the end.
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._lock = Lock()
        self._busy = False

    def get(self, version: str) -> Version | None:
        """The version; None while it is being loaded, which begins now if it has not.

        Raises:
          Exception: why it could not be loaded. The next call tries again.
        """
        with self._lock:
            place = self._places.pop(version, None)
            if place is not None and place.failure:
                raise place.failure
            self._places[version] = place = place or _Place()
            while len(self._places) > self._most:
                self._places.popitem(last=False)
            if not self._busy and self._waiting():
                self._busy = True
                Thread(target=self._load_all, name="twinspire-shelf", daemon=True).start()
            return place.version

    def _waiting(self) -> list[tuple[str, _Place]]:
        """What is not there yet, what was asked for last at the end."""
        return [
            (name, place)
            for name, place in self._places.items()
            if not (place.version or place.failure)
        ]

    def _load_all(self) -> None:
        while True:
            with self._lock:
                waiting = self._waiting()
                self._busy = bool(waiting)
            if not waiting:
                return
            # The one that was asked for last comes first: somebody looks at it now.
            self._load(*waiting[-1])

    def _load(self, version: str, place: _Place) -> None:
        try:
            opened = self._open(version)
            self._warm(opened)
        except Exception as e:
            log.warning("%s cannot be shown: %s: %s", version, type(e).__name__, e)
            place.failure = e
        else:
            place.version = opened


class VersionList:
    """Which versions there are, and how good the live one is: the registry is read at most every few
    seconds, and what it said last holds if it cannot be.

    Args:
      registry: whose.
      metric: what tells how good a version is, such as `recall@50`.
      fresh: seconds that a reading is good for.
    """

    def __init__(self, registry: Registry, metric: str, fresh: float = 5.0) -> None:
        self._registry = registry
        self._metric = metric
        self._figures: dict[str, ServedFigure | None] = {}
        self._fresh = fresh
        self._lock = Lock()
        self._next_reading = 0.0
        self._stored: list[Status] = []

    def stored(self) -> list[Status]:
        """Versions whose files are there, the newest day first."""
        with self._lock:
            if time.monotonic() >= self._next_reading:
                try:
                    stored = [one for one in self._registry.statuses() if one.stored]
                    if stored != self._stored or None in self._figures.values():
                        # A day that was run since may have measured the live version
                        self._figures.clear()
                    self._stored = stored
                except Exception as e:  # the live version is shown whatever is wrong with the store
                    log.warning("the registry cannot be read: %s: %s", type(e).__name__, e)
                self._next_reading = time.monotonic() + self._fresh
            return self._stored

    def figure(self, version: str) -> ServedFigure | None:
        """How good what a version serves is; None where that is not known, or cannot be read now."""
        self.stored()
        with self._lock:
            if version in self._figures:
                return self._figures[version]
        figure = None
        try:
            log_entries = self._registry.log()
            quality = quality_of(self._registry, log_entries, [version])[version]
            figure = quality.in_front(self._metric)
        except Exception as e:  # the live version is shown whatever is wrong with the store
            log.warning("the registry cannot be read: %s: %s", type(e).__name__, e)
        with self._lock:
            self._figures[version] = figure
        return figure


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
