"""The newest events that a server was sent, kept in memory: a version that takes over is brought up to
them too.
"""

from array import array
from collections.abc import Sequence
from threading import Lock

import numpy as np


class EventBuffer:
    """The newest events that a server was sent. Any thread may call it."""

    def __init__(self, most: int) -> None:
        """Keeps so many events, and up to a quarter more."""
        self._most = most
        self._items: list[str] = []
        self._times = array("q")
        self._forgotten = 0
        self._lock = Lock()

    def add(self, items: Sequence[str], times: np.ndarray) -> None:
        """Takes events: ids of items, and when, [E] int64 microseconds since 1970."""
        with self._lock:
            self._items.extend(items)
            self._times.frombytes(times.astype(np.int64).tobytes())
            extra = len(self._items) - self._most
            if extra > self._most // 4:
                del self._items[:extra], self._times[:extra]
                self._forgotten += extra

    def after(self, number: int) -> tuple[int, list[str], np.ndarray]:
        """The events added after the first `number`, as far as they are kept.

        Returns: how many were added in all; ids of items; times.
        """
        with self._lock:
            first = max(0, number - self._forgotten)
            added = self._forgotten + len(self._items)
            return added, self._items[first:], np.array(self._times[first:], np.int64)
