"""The newest events that a server has received, in memory. A version that goes live later reads them, too."""

import sys
from array import array
from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

import numpy as np

BYTES = 140
"""Memory of an event with an id of 67 characters; those with shorter ones take less."""
NOBODY = 0
"""The user of events without a user."""


class Events(NamedTuple):
    """E events: users took items.

    Attributes:
      items: [E] item ids.
      times: [E] int64, microseconds since 1970.
      users: [E] int64, a number for each user, or `NOBODY`.
    """

    items: Sequence[str]
    times: np.ndarray
    users: np.ndarray

    @classmethod
    def of(
        cls, items: Sequence[str], times: np.ndarray, users: Sequence[str | None] | None = None
    ) -> "Events":
        """Makes events; users are given by their ids."""
        # Only hashes of user ids are kept, and Python salts them in each process: memory names nobody.
        # A hash of 0 would be `NOBODY`.
        numbers = [hash(user) or 1 if user else NOBODY for user in users or ()]
        return cls(items, times, np.array(numbers or [NOBODY] * len(items), np.int64))

    def where(self, keep: np.ndarray) -> "Events":
        """The events for which `keep`, [E] bool, is true."""
        items = [self.items[number] for number in np.flatnonzero(keep).tolist()]
        return Events(items, self.times[keep], self.users[keep])


class EventBuffer:
    """The newest events that a server was sent. Threads may share it.

    Args:
      most: events that are kept, and fewer if ids are so long that these would take more than
        `most * BYTES`. Up to a quarter more stay for a while, so that old ones leave in bulk.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: list[str] = []
        # 64 bits each; as Python's integers, a million events would take five times the memory
        self._times = array("q")
        self._users = array("q")
        self._forgotten = 0
        self._bytes = 0
        self._lock = Lock()

    def add(self, events: Events) -> None:
        """Keeps events, in the order in which they come in."""
        with self._lock:
            self._items.extend(events.items)
            self._times.frombytes(events.times.astype(np.int64).tobytes())
            self._users.frombytes(events.users.astype(np.int64).tobytes())
            self._bytes += sum(map(_bytes_of, events.items))
            # In bulk, because deleting from the front of a list moves all the rest.
            if 4 * max(len(self._items), self._bytes / BYTES) > 5 * self._most:
                sizes = np.cumsum([_bytes_of(item) for item in reversed(self._items)])
                kept = min(self._most, int(np.searchsorted(sizes, self._most * BYTES, "right")))
                extra = len(self._items) - kept
                del self._items[:extra], self._times[:extra], self._users[:extra]
                self._forgotten += extra
                self._bytes = int(sizes[kept - 1]) if kept else 0

    def after(self, number: int) -> tuple[int, Events]:
        """The number of events added so far, and the kept events after the first `number`."""
        with self._lock:
            # Events may have left the buffer before a slow reader came.
            first = max(0, number - self._forgotten)
            added = self._forgotten + len(self._items)
            times, users = (np.array(kept[first:], np.int64) for kept in (self._times, self._users))
            return added, Events(self._items[first:], times, users)


def _bytes_of(item: str) -> int:
    # With its place in the list, its time and its user
    return sys.getsizeof(item) + 24
