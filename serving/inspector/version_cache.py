"""Versions besides the live one: which there are, loaded when somebody looks at them, and a few of
them kept.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock, Thread

from index_builder.registry.quality_history import quality_of
from index_builder.registry.registry import Registry, Status
from serving.version.loaded_version import Version
from twinspire_core.display.served_figure import ServedFigure

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
