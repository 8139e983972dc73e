"""The newest events that a server was sent, kept in memory: a version that takes over is brought up to
them too.
"""

from array import array
from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

import numpy as np

NOBODY = 0
"""Of events that do not say who took the item."""


class Events(NamedTuple):
    """Events.

    Attributes:
      items: [E] ids.
      times: [E] int64, microseconds since 1970.
      users: [E] int64, the same number for what one user took; `NOBODY` where nothing is said.
    """

    items: Sequence[str]
    times: np.ndarray
    users: np.ndarray

    @classmethod
    def of(
        cls, items: Sequence[str], times: np.ndarray, users: Sequence[str | None] | None = None
    ) -> "Events":
        """Events of users by their ids; only a number of each id is kept that no other process makes of
        them.
        """
        numbers = [hash(user) or 1 if user else NOBODY for user in users or ()]
        return cls(items, times, np.array(numbers or [NOBODY] * len(items), np.int64))

    def where(self, keep: np.ndarray) -> "Events":
        """Only the events where `keep`, [E] bool, holds."""
        items = [self.items[number] for number in np.flatnonzero(keep).tolist()]
        return Events(items, self.times[keep], self.users[keep])


class EventBuffer:
    """The newest events that a server was sent. Any thread may call it."""

    def __init__(self, most: int) -> None:
        """Keeps so many events, and up to a quarter more."""
        self._most = most
        self._items: list[str] = []
        self._times = array("q")
        self._users = array("q")
        self._forgotten = 0
        self._lock = Lock()

    def add(self, events: Events) -> None:
        """Takes events."""
        with self._lock:
            self._items.extend(events.items)
            self._times.frombytes(events.times.astype(np.int64).tobytes())
            self._users.frombytes(events.users.astype(np.int64).tobytes())
            extra = len(self._items) - self._most
            if extra > self._most // 4:
                del self._items[:extra], self._times[:extra], self._users[:extra]
                self._forgotten += extra

    def after(self, number: int) -> tuple[int, Events]:
        """The events added after the first `number`, as far as they are kept; and how many were added
        in all.
        """
        with self._lock:
            first = max(0, number - self._forgotten)
            added = self._forgotten + len(self._items)
            times, users = (np.array(kept[first:], np.int64) for kept in (self._times, self._users))
            return added, Events(self._items[first:], times, users)
