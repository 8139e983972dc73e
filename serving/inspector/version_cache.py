"""Versions besides the live one: which are stored, and a few that were loaded because somebody looks at them."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock, Thread

from index_builder.registry.quality_history import quality_of
from index_builder.registry.registry import Registry, Status
from serving.version.loaded_version import Version
from twinspire_core.display.served_figure import ServedFigure

log = logging.getLogger("twinspire.serve")


class VersionCache:
    """Keeps the versions that were asked for last. The live version is none of them.

    They are loaded in threads, one after the other. A version that leaves the cache while a page is made
    of it stays in memory until the page is done.

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
        self._entries: OrderedDict[str, Future[Version]] = OrderedDict()
        self._lock = Lock()
        self._loading = Lock()  # memory has no room to load two at once

    def get(self, version: str) -> Version | None:
        """A version; None while it is being loaded, which the first call begins.

        Raises:
          Exception: the version could not be loaded. The next call tries again.
        """
        with self._lock:
            # Taken out and put back, which makes it the last one asked for. A failure stays out.
            entry = self._entries.pop(version, None)
            opened = entry.result() if entry and entry.done() else None
            if entry is None:
                entry = Future()
                Thread(target=self._load, args=(version, entry), daemon=True).start()
            self._entries[version] = entry
            if len(self._entries) > self._most:
                _, oldest = self._entries.popitem(last=False)
                oldest.cancel()
            return opened

    def _load(self, version: str, entry: Future[Version]) -> None:
        with self._loading:
            if not entry.set_running_or_notify_cancel():
                return  # it left the cache while it waited
            try:
                opened = self._open(version)
                self._warm(opened)
            except Exception as e:
                log.warning("%s cannot be shown: %s: %s", version, type(e).__name__, e)
                entry.set_exception(e)
            else:
                entry.set_result(opened)


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
            if version not in self._figures:
                self._figures[version] = None
                try:
                    log_entries = self._registry.log()
                    quality = quality_of(self._registry, log_entries, [version])[version]
                    self._figures[version] = quality.in_front(self._metric)
                except Exception as e:  # a broken store must not hide the live version
                    log.warning("the registry cannot be read: %s: %s", type(e).__name__, e)
            return self._figures[version]
