"""Versions besides the live one: which are stored, and a few that were loaded because somebody looks at them."""

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
class _Entry:
    """A version in the cache. It is being loaded until `version` or `failure` is there."""

    version: Version | None = None
    failure: Exception | None = None


class VersionCache:
    """Keeps the versions that were asked for last. The live version is none of them.

    A thread loads them one after the other. A version that leaves the cache while a page is made of it
    stays in memory until the page is done.

    Args:
      opened: opens a version by its id.
      warm: asks a version what users will ask, and raises if it does not answer.
      most: versions that memory has room for besides the live one.
    """

    def __init__(
        self, opened: Callable[[str], Version], warm: Callable[[Version], None], most: int = 2
    ) -> None:
        self._open = opened
        self._warm = warm
        self._most = most
        # The one that was asked for last is at the end.
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = Lock()
        self._busy = False

    def get(self, version: str) -> Version | None:
        """A version; None while it is being loaded, which the first call begins.

        Raises:
          Exception: the version could not be loaded. The next call tries again.
        """
        with self._lock:
            # Taken out and put back, which makes it the last one asked for. A failure stays out.
            entry = self._entries.pop(version, None)
            if entry is not None and entry.failure:
                raise entry.failure
            self._entries[version] = entry = entry or _Entry()
            while len(self._entries) > self._most:
                self._entries.popitem(last=False)
            if not self._busy and self._waiting():
                self._busy = True
                Thread(target=self._load_all, name="twinspire-shelf", daemon=True).start()
            return entry.version

    def _waiting(self) -> list[tuple[str, _Entry]]:
        """Versions that are not loaded yet, the one that was asked for last at the end."""
        return [
            (name, entry)
            for name, entry in self._entries.items()
            if not (entry.version or entry.failure)
        ]

    def _load_all(self) -> None:
        while True:
            # Under one lock, so that nobody adds a version between the look and the end.
            with self._lock:
                waiting = self._waiting()
                self._busy = bool(waiting)
            if not waiting:
                return
            # Somebody looks at the last one now, so it comes first.
            self._load(*waiting[-1])

    def _load(self, version: str, entry: _Entry) -> None:
        try:
            opened = self._open(version)
            self._warm(opened)
        except Exception as e:
            log.warning("%s cannot be shown: %s: %s", version, type(e).__name__, e)
            entry.failure = e
        else:
            entry.version = opened


class VersionList:
    """The stored versions, and their quality. The registry is read at most every few seconds; what was
    read last is used while it cannot be read.

    Args:
      metric: the measure of quality, such as `recall@50`.
      fresh: seconds until the registry is read again.
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
        """The versions whose files are stored, the newest day first."""
        with self._lock:
            if time.monotonic() >= self._next_reading:
                try:
                    stored = [one for one in self._registry.statuses() if one.stored]
                    if stored != self._stored or None in self._figures.values():
                        # The next day's run may have measured the live version since.
                        self._figures.clear()
                    self._stored = stored
                except Exception as e:  # a broken store must not hide the live version
                    log.warning("the registry cannot be read: %s: %s", type(e).__name__, e)
                self._next_reading = time.monotonic() + self._fresh
            return self._stored

    def figure(self, version: str) -> ServedFigure | None:
        """The quality of a version's lists; None if it is not known, or cannot be read now."""
        self.stored()
        with self._lock:
            if version in self._figures:
                return self._figures[version]
        figure = None
        try:
            log_entries = self._registry.log()
            quality = quality_of(self._registry, log_entries, [version])[version]
            figure = quality.in_front(self._metric)
        except Exception as e:  # a broken store must not hide the live version
            log.warning("the registry cannot be read: %s: %s", type(e).__name__, e)
        with self._lock:
            self._figures[version] = figure
        return figure
