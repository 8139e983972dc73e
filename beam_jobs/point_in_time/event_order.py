"""Events of whole users in one order, without what does not count: copies, and what is beyond
`source.max_user_events`.
"""

from collections import Counter
from typing import NamedTuple

import polars as pl

from beam_jobs.ingest.records import within
from beam_jobs.point_in_time import distinct
from beam_jobs.point_in_time.history import ITEM_NUMBER

_PLACE = "_place"


class SortedEvents(NamedTuple):
    """Events, sorted.

    Attributes:
      events: by user, time, item; no two with the same user, item, time and type (the first in the
        logs stays). Beside their own columns `_code` (number of the user) and `_item_number`.
      items: [D] String, the distinct items; `_item_number` of an event is the place of its own.
      duplicates: copies dropped, by number of the day.
      excess: events dropped that are beyond the limit, by number of the day.
    """

    events: pl.DataFrame
    items: pl.Series
    duplicates: Counter[int]
    excess: Counter[int]


def sort_events(events: pl.DataFrame, most: int) -> SortedEvents:
    """Sorts events, and drops copies and excess.

    Args:
      events: columns of `columns.events`, `_order`, `_day`, in any order.
      most: events of a user in a day that count.
    """
    items, places = _places(events)
    events = events.with_columns(places)
    within_limit = within(events, most, user="_code")
    excess: Counter[int] = Counter()
    if len(within_limit) < len(events):
        excess = _by_day(events) - _by_day(within_limit)

    # Of equal events the first in the logs is kept: `_order` is last among the sort keys, and a
    # copy has the same keys as the row before it.
    keys = ["_code", "_time", ITEM_NUMBER]
    if "_type" in events.columns:
        keys.append("_type")
    events = within_limit.sort(_PLACE, ITEM_NUMBER, *keys[3:], "_order").drop(_PLACE)
    same_as_before = (pl.col(name).eq_missing(pl.col(name).shift()) for name in keys)
    is_copy = events.select(pl.all_horizontal(same_as_before).fill_null(False)).to_series()
    return SortedEvents(
        events=events.filter(~is_copy),
        items=items,
        duplicates=_by_day(events.filter(is_copy)),
        excess=excess,
    )


def _places(events: pl.DataFrame) -> tuple[pl.Series, list[pl.Series]]:
    """The distinct items; and what events are sorted by: `_code`; user and time in one number,
    `_PLACE`; `_item_number`.
    """
    # Numbers are sorted in half the time of strings, and one number faster than two. Shards that
    # are worked on together are so few users that this one has room (shard_steps.Work).
    _, user = distinct.numbered(events["_user"])
    items, item = distinct.numbered(events["_item"])
    since = pl.col("_time") - pl.col("_time").min()
    place = events.select(user * (since.max() + 1) + since).to_series()
    return items, [user.alias("_code"), place.alias(_PLACE), item.alias(ITEM_NUMBER)]


def _by_day(events: pl.DataFrame) -> Counter[int]:
    return Counter(dict(events.group_by("_day").len().iter_rows()))
