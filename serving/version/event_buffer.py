"""The newest events that a server was sent, kept in memory: a version that takes over is brought up to
them too.

Items that a version does not know, until users have taken them often enough to be recommended.

An id that nobody else takes may be a mistake of whoever sends events, or a page that hardly anybody finds.
"""

from array import array
from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

import numpy as np
import polars as pl

TAKERS = 3
"""Users who took an item before it is taken up; an event that does not say who took it counts as one."""


HOURS = 24
"""That these events may lie apart."""


MOST_EVENTS = 200_000
"""Events that wait, the newest that were sent, and up to a quarter more."""


_HOUR = 3_600 * 1_000_000  # in microseconds


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


class Found(NamedTuple):
    """Items to be taken up.

    Attributes:
      ids: theirs, those of the most users first.
      events: what was sent of them.
      rest: what goes on to wait.
    """

    ids: Sequence[str]
    events: Events
    rest: Events


class NewItems:
    """Events of items that a version does not know.

    Args:
      most: how many items are taken up at the most.
    """

    def __init__(self, most: int) -> None:
        self.ids: list[str] = []
        """What was taken up, in this order."""
        self._most = most
        self._waiting = EventBuffer(MOST_EVENTS)
        self._has_more = False  # than when it was last looked for items

    def add(self, events: Events) -> None:
        """Takes events of items that were not taken up yet."""
        if self._most > len(self.ids) and len(events.items):
            self._waiting.add(events)
            self._has_more = True

    def find(self) -> Found | None:
        """The items of which there are events enough; None if there are none. Nothing is taken up yet."""
        if not self._has_more:
            return None
        _, waiting = self._waiting.after(0)
        waiting = waiting.where(waiting.times >= waiting.times.max() - HOURS * _HOUR)
        table = pl.DataFrame({"item": waiting.items, "user": waiting.users})
        user = pl.col("user")
        takers = user.filter(user != NOBODY).n_unique() + (user == NOBODY).sum()
        enough = (
            table.group_by("item")
            .agg(takers=takers)
            .filter(pl.col("takers") >= TAKERS)
            .sort(["takers", "item"], descending=[True, False])
            .head(self._most - len(self.ids))["item"]
        )
        if enough.is_empty():
            self._has_more = False
            return None
        taken = table["item"].is_in(enough.to_list()).to_numpy()
        return Found(enough.to_list(), waiting.where(taken), waiting.where(~taken))

    def take_up(self, found: Found) -> None:
        """Takes up what was found just now; its events wait no longer."""
        self.ids += found.ids
        self._waiting = EventBuffer(MOST_EVENTS)
        self._waiting.add(found.rest)
        self._has_more = False


NOBODY = 0
"""Of events that do not say who took the item."""


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
