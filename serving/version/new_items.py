"""Items that a version does not know, until users have taken them often enough to be recommended.

An id that nobody else takes may be a mistake of whoever sends events, or a page that hardly anybody finds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from serving.version.event_buffer import NOBODY, EventBuffer, Events

TAKERS = 3
"""Users who took an item before it is taken up; an event that does not say who took it counts as one."""
HOURS = 24
"""That these events may lie apart."""
MOST_EVENTS = 200_000
"""Events that wait, the newest that were sent, and up to a quarter more."""

_HOUR = 3_600 * 1_000_000  # in microseconds


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
