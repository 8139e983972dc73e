"""The live version, and the others of the registry, as they are shown."""

import logging
import time
from collections.abc import Mapping
from datetime import datetime, tzinfo
from threading import Lock
from typing import Any

from index_builder.registry.registry import Registry, Status
from index_builder.report.report_blocks import Card
from serving.answers.retrieval import available
from serving.http.hot_swap import Served
from serving.inspector.version_view import SOURCES

log = logging.getLogger("twinspire.serve")


class Log:
    """Which versions there are: the log is read at most every few seconds, and what it said last
    holds if it cannot be.

    Args:
      registry: whose.
      fresh: seconds that a reading is good for.
    """

    def __init__(self, registry: Registry, fresh: float = 5.0) -> None:
        self._registry, self._fresh, self._lock = registry, fresh, Lock()
        self._next, self._found = 0.0, list[Status]()

    def stored(self) -> list[Status]:
        """Versions whose files are there, the newest day first."""
        with self._lock:
            if time.monotonic() >= self._next:
                try:
                    self._found = [one for one in self._registry.statuses() if one.stored]
                except Exception as e:  # the live version is shown whatever is wrong with the store
                    log.warning("the registry cannot be read: %s: %s", type(e).__name__, e)
                self._next = time.monotonic() + self._fresh
            return self._found


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


def headline(quality: Mapping[str, Any]) -> str | None:
    """The figure by which the gate judged a version, such as recall@50 0.211."""
    value = quality.get("candidate")
    return None if value is None else f"{quality.get('metric', 'quality')} {value:.3f}"


def _quality(quality: Mapping[str, Any]) -> list[Card]:
    metric = quality.get("metric", "quality")
    if quality.get("candidate") is None:
        return [Card("quality", "–", "was not measured")]
    before = quality.get("baseline")
    note = (
        f"of {quality['users']:,} held-out users" if quality.get("users") else "of held-out users"
    )
    found = [
        Card(
            metric,
            f"{quality['candidate']:.3f}",
            note + (f"; its parent {before:.3f}" if before else ""),
        )
    ]
    mix = quality.get("mix") or {}
    if mix.get("candidate") is not None:
        found.append(
            Card(
                f"{metric}, mix",
                f"{mix['candidate']:.3f}",
                f"of {mix.get('users', 0):,} held-out users",
            )
        )
    return found


def _recall(quality: Mapping[str, Any]) -> str:
    recall = quality.get("index_recall")
    return "" if recall is None else f"finds {recall:.1%} of the exact neighbours"


def _origin(manifest: Any) -> str:
    if manifest.refreshes:
        return (
            f"catalogue of {manifest.corpus_date or manifest.date}, towers of {manifest.refreshes}"
        )
    return f"trained on from {manifest.parent}" if manifest.parent else "trained from scratch"
