"""Some shards of the users: whole users, all their events, whole columns at a time.

What is made of them is in examples.py. The frames that it gives still lack what only all
shards together know: item features, and who is held out.

Events are in one order, without what does not count: copies, and what is beyond
`source.max_user_events`.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from typing import NamedTuple

import polars as pl

from beam_jobs import day_plan, hashing
from beam_jobs.beam import batches
from beam_jobs.ingest.records import within
from beam_jobs.point_in_time import item_counts
from beam_jobs.point_in_time.event_types import history_types, of_type
from beam_jobs.point_in_time.history import ITEM_NUMBER
from beam_jobs.point_in_time.job import FeatureJob

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
    _, user = item_counts.numbered(events["_user"])
    items, item = item_counts.numbered(events["_item"])
    since = pl.col("_time") - pl.col("_time").min()
    place = events.select(user * (since.max() + 1) + since).to_series()
    return items, [user.alias("_code"), place.alias(_PLACE), item.alias(ITEM_NUMBER)]


def _by_day(events: pl.DataFrame) -> Counter[int]:
    return Counter(dict(events.group_by("_day").len().iter_rows()))


SAMPLING_HASH = "_sampling_hash"
"""A number drawn for the user and the day; the users with the smallest are held out."""
_FILE = "_file"
"""Number of the file that the user's rows go to, in each table of users."""


class UserShard:
    """One shard, or several.

    Attributes:
      job: the job.
      events: sorted as by `sort_events`, without copies and excess. Columns of `columns.events`,
        `_day`, `_code` (number of the user), `_item_number`, `_positive`.
      past: those that enter histories.
      items: [D] String, the distinct items; `_item_number` of an event is the place of its own.
      duplicates: copies dropped, by number of the day.
      excess: events dropped that are beyond `source.max_user_events`, by number of the day.
      length: the most items that a history has; 0 without one.
    """

    def __init__(self, job: FeatureJob, events: pl.DataFrame, users: pl.DataFrame | None) -> None:
        """Sorts the events, and drops copies and excess.

        Args:
          events: columns of `columns.events`, `_order`, `_day`, in any order.
          users: columns of `columns.users`, `_order`, `_snapshot` (number of the day), in any
            order.
        """
        self.job = job
        p = job.p
        found = sort_events(events, p.source.max_user_events)
        self.items = found.items
        self.duplicates = found.duplicates
        self.excess = found.excess
        positive = of_type(p.columns.positives).alias("_positive")
        self.events = found.events.with_columns(positive)
        is_first = pl.col("_code") != pl.col("_code").shift(fill_value=-1)
        users_of_events = self.events.filter(is_first).select("_user", "_code")
        file = hashing.shards(users_of_events["_user"], job.user_files)
        self._numbers = users_of_events.with_columns(file.alias(_FILE))
        # Histories may have other types than the positives: what is looked at, say, beside what is
        # bought.
        self.past = self.events.filter(of_type(history_types(p)))
        self._users = users.sort("_user", "_snapshot", "_order") if users is not None else None
        self.length = p.history.length if p.history else 0
        self._hashes: dict[date, pl.DataFrame] = {}

    def positives(self, day: date | None = None) -> pl.DataFrame:
        """The positives, of one day or of all."""
        chosen = pl.col("_positive")
        if day is not None:
            chosen &= pl.col("_day") == day_plan.number(day)
        return self.events.filter(chosen)

    def sampling_hashes(self, day: date) -> pl.DataFrame:
        """The hash of each user with a positive on the day: `_user`, `_sampling_hash`."""
        if day not in self._hashes:
            users = self.positives(day)["_user"].unique(maintain_order=True)
            hashes = hashing.sampling_hashes(users, str(day))
            self._hashes[day] = pl.DataFrame([users, pl.Series(SAMPLING_HASH, hashes, pl.UInt64)])
        return self._hashes[day]

    def by_file(self, rows: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
        """The rows with `_user` by number of their file, in their order. A file may get no rows:
        all users that have events have one.
        """
        placed = rows.select("_user").join(
            self._numbers, on="_user", how="left", maintain_order="left"
        )
        found = dict(batches.slices(placed[_FILE], rows))
        for file in self._numbers[_FILE].unique().sort():
            yield file, found.get(file, rows.clear())

    def codes(self, users: pl.DataFrame) -> pl.Series:
        """Numbers of the users in `_user` of a frame, which are looked up faster than their ids."""
        return self._numbers.join(users, on="_user", how="semi")["_code"]

    def window_start(self, day: date) -> int:
        """The instant at which the history window of a day begins."""
        return self.days_before(day, self.job.p.window.history_days)[0]

    def days_before(self, day: date, days: int) -> tuple[int, int]:
        """The instants at which the `days` days before `day` begin and end."""
        zone = self.job.p.zone
        return day_plan.start_of(day - timedelta(days=days), zone), day_plan.start_of(day, zone)

    def snapshot(self, day: date) -> pl.DataFrame | None:
        """What the newest snapshot before `day` knows of the users: `_user`, their columns; None
        without one.

        A snapshot of the day itself says how users were after it, so it would tell the future.
        """
        snapshot_day = self.job.inputs.users_of.get(day)
        if self._users is None or snapshot_day is None:
            return None
        is_valid = pl.col("_snapshot") == day_plan.number(snapshot_day)
        snapshot = self._users.filter(is_valid).drop("_snapshot", "_order")
        return snapshot.unique("_user", keep="last")
