"""Items that a version does not know, until users have taken them often enough to be recommended.

An id that nobody else takes may be a mistake of whoever sends events, or a page that hardly anybody finds.
"""

import polars as pl

from serving.version.event_buffer import NOBODY, Events

TAKERS = 3
"""Users who took an item before it is taken up; an event that does not say who took it counts as one."""
HOURS = 24
"""That these events may lie apart."""
MOST_EVENTS = 200_000
"""Events that wait, the newest that were sent."""

_HOUR = 3_600 * 1_000_000  # in microseconds
_SCHEMA = pl.Schema({"item": pl.String, "time": pl.Int64, "user": pl.Int64})


class NewItems:
    """Events of items that a version does not know.

    Args:
      most: how many items are taken up at the most.
    """

    def __init__(self, most: int) -> None:
        self.ids: list[str] = []
        """What was taken up, in this order."""
        self._most = most
        self._waiting = pl.DataFrame(schema=_SCHEMA)
        self._has_more = False  # than when it was last looked for items

    def add(self, events: Events) -> None:
        """Takes events of items that were not taken up yet."""
        if self._most > len(self.ids) and len(events.items):
            columns = {"item": list(events.items), "time": events.times, "user": events.users}
            added = pl.DataFrame(columns, schema=_SCHEMA)
            self._waiting = pl.concat([self._waiting, added]).tail(MOST_EVENTS)
            self._has_more = True

    def take_up(self) -> Events | None:
        """Takes up the items of which there are events enough, those of the most users first.

        Returns: their events, which are no longer kept here; None if there are no such items.
        """
        if not self._has_more:
            return None
        self._has_more = False
        newest = int(self._waiting["time"].to_numpy().max())
        waiting = self._waiting.filter(pl.col("time") >= newest - HOURS * _HOUR)
        user = pl.col("user")
        takers = user.filter(user != NOBODY).n_unique() + (user == NOBODY).sum()
        enough = (
            waiting.group_by("item")
            .agg(takers=takers)
            .filter(pl.col("takers") >= TAKERS)
            .sort(["takers", "item"], descending=[True, False])
            .head(self._most - len(self.ids))
        )
        taken = pl.col("item").is_in(enough["item"].to_list())
        events = waiting.filter(taken)
        if not len(enough):
            return None
        self.ids += enough["item"].to_list()
        is_full = len(self.ids) == self._most
        self._waiting = waiting.clear() if is_full else waiting.filter(~taken)
        return Events(
            events["item"].to_list(), events["time"].to_numpy(), events["user"].to_numpy()
        )
