"""Some shards of the users: all relevant events of each user, in one order, and what a user did before a
moment: the last items, and all items, by count or decayed.

An event is relevant if its type is used, if it is not a copy of another, and if it is within
`source.max_user_events`. If a user has more events in a day (a crawler, or an id that many people
share), the first events in the logs are kept. All events of a user are in the memory of one
worker, so most of the excess is dropped earlier: each part of a file drops its own events beyond
the limit. These are never among the first events of all parts.

Events are frames sorted by user, time, item, with the columns `_user`, `_item`, `_time`
(microseconds, UTC), and the numbers of user and item in the order of their strings: `_code` and
`_item_number`. No history has an event that is not strictly before the moment of a query.

examples.py makes rows of a shard. They do not have item features yet, nor which users are held
out, because these need all shards.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, timedelta

import polars as pl

from beam_jobs import day_plan, hashing
from beam_jobs.beam import batches
from beam_jobs.ingest.records import ORDER
from beam_jobs.point_in_time import item_counts
from beam_jobs.point_in_time.item_counts import ITEM_NUMBER, WEIGHT_OF_ONE, decayed_weight
from beam_jobs.point_in_time.job import FeatureJob
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.feature_schema import (
    PERSONAL_DAYS,
    PERSONAL_HALF_LIVES,
    PERSONAL_SPAN,
    VISITS,
)

SAMPLING_HASH = "_sampling_hash"
"""A number drawn for the user and the day; the users with the smallest are held out."""
_PLACE = "_place"
# Number of the file that the user's rows go to, in every table of users.
_FILE = "_file"


def relevant_types(p: Pipeline) -> set[str]:
    """Event types that are used at all; an empty set if all are."""
    return {*p.columns.positives, *_history_types(p)} if p.columns.positives else set()


def _history_types(p: Pipeline) -> tuple[str, ...]:
    """Event types that enter histories: those that the history lists, else the positives; empty if all
    do.
    """
    return (p.history and p.history.types) or p.columns.positives


def of_type(types: Sequence[str]) -> pl.Expr:
    """Whether an event is of one of these types; always true without types."""
    return pl.col("_type").is_in(types).fill_null(False) if types else pl.lit(True)


def within(events: pl.DataFrame, most: int, user: str = "_user") -> pl.DataFrame:
    """Each user's first `most` events of each day, by their place in the logs; in the frame's order.

    Args:
      events: with `_day`, `_order` and the column of users.
      most: events of a user that are kept for each day.
      user: column that tells users apart.
    """
    user_day = (user, "_day")
    if not (events.group_by(user_day).len()["len"] > most).any():
        return events
    return events.filter(pl.col(ORDER).rank("ordinal").over(user_day) <= most)


def _places(events: pl.DataFrame) -> tuple[pl.Series, list[pl.Series]]:
    """The distinct items; and what events are sorted by: `_code`; user and time in one number,
    `_PLACE`; `_item_number`.
    """
    # Numbers are sorted in half the time of strings, and one number faster than two. Shards that are
    # worked on together have few enough users for this one to fit 63 bits (table_steps.Work).
    _, user = item_counts.numbered(events["_user"])
    items, item = item_counts.numbered(events["_item"])
    since = pl.col("_time") - pl.col("_time").min()
    key = events.select(user * (since.max() + 1) + since).to_series()
    return items, [user.alias("_code"), key.alias(_PLACE), item.alias(item_counts.ITEM_NUMBER)]


def _by_day(events: pl.DataFrame) -> Counter[int]:
    return Counter(dict(events.group_by("_day").len().iter_rows()))


class UserShard:
    """One shard of the users, or several.

    Attributes:
      events: those that count, in order, with `_positive`: whether the event is a positive.
      past: the events that enter histories.
      items: [D] String, the distinct items; `_item_number` of an event is the place of its item.
      duplicates: copies dropped, by number of the day.
      excess: events dropped that are beyond `source.max_user_events`, by number of the day.
      length: the most items that a history has; 0 without one.
    """

    def __init__(self, job: FeatureJob, events: pl.DataFrame, users: pl.DataFrame | None) -> None:
        """Sorts the events, and drops copies and excess.

        Args:
          events: those of `columns.of_tables`, `_order`, `_day`, in any order.
          users: those of `columns.of_tables`, `_order`, `_snapshot` (number of the day), in any
            order.
        """
        self.job = job
        p = job.p
        self.events = self._sorted(events).with_columns(
            of_type(p.columns.positives).alias("_positive")
        )
        # Events are sorted by user: the first event of a user follows another code, or nothing (-1).
        is_first = pl.col("_code") != pl.col("_code").shift(fill_value=-1)
        users_of_events = self.events.filter(is_first).select("_user", "_code")
        self._numbers = users_of_events.with_columns(
            hashing.shards(users_of_events["_user"], job.user_files).alias(_FILE)
        )
        # Histories may have other types than the positives: views, for example, besides purchases.
        self.past = self.events.filter(of_type(_history_types(p)))
        self._users = users.sort("_user", "_snapshot", "_order") if users is not None else None
        self.length = p.history.length if p.history else 0
        self._hashes: dict[date, pl.DataFrame] = {}

    def _sorted(self, events: pl.DataFrame) -> pl.DataFrame:
        """The events sorted by user, time, item, with `_code` (number of the user) and `_item_number`; of
        events with the same user, item, time and type only the first in the logs.
        """
        self.items, places = _places(events)
        events = events.with_columns(places)
        within_limit = within(events, self.job.p.source.max_user_events, user="_code")
        # A difference of counters drops days without excess.
        self.excess = _by_day(events) - _by_day(within_limit)
        # Of equal events the first in the logs is kept: `_order` is last among the sort keys, and a
        # copy has the same keys as the row before it.
        keys = ["_code", "_time", item_counts.ITEM_NUMBER]
        if "_type" in events.columns:
            keys.append("_type")
        # The place stands for user and time, the first two keys.
        ordered = within_limit.sort(_PLACE, item_counts.ITEM_NUMBER, *keys[3:], "_order").drop(
            _PLACE
        )
        same_as_before = (pl.col(name).eq_missing(pl.col(name).shift()) for name in keys)
        is_copy = ordered.select(pl.all_horizontal(same_as_before).fill_null(False)).to_series()
        self.duplicates = _by_day(ordered.filter(is_copy))
        return ordered.filter(~is_copy)

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
        """The rows with `_user` by number of their file, in their order. Every file of users in the
        shard comes, also without rows.
        """
        numbers = rows.select("_user").join(
            self._numbers, on="_user", how="left", maintain_order="left"
        )
        rows_of = dict(batches.slices(numbers[_FILE], rows))
        for file in self._numbers[_FILE].unique().sort():
            yield file, rows_of.get(file, rows.clear())

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
        """Users as in the newest snapshot before `day`: `_user`, their columns; None without one.

        A snapshot of the day itself says how users were after it, so it would leak the future.
        """
        snapshot_day = self.job.inputs.users_of.get(day)
        if self._users is None or snapshot_day is None:
            return None
        is_valid = pl.col("_snapshot") == day_plan.number(snapshot_day)
        snapshot = self._users.filter(is_valid).drop("_snapshot", "_order")
        # A user may come twice in the files; the last record counts.
        return snapshot.unique("_user", keep="last")


def interaction_counts(past: pl.DataFrame, most: int) -> pl.DataFrame:
    """Each user's distinct items, the most frequent first, then the most recent, then by name.

    Args:
      most: the most items per user.

    Returns: `_user`, `_past` (list of items), `_past_counts` (events of each), `_past_events`
    (events of all items, those left out too), sorted by user.
    """
    # Numbers are sorted and grouped faster than ids.
    pairs = past.group_by("_code", ITEM_NUMBER).agg(
        pl.col("_user", "_item").first(), pl.len().alias("n"), pl.col("_time").max()
    )
    ranked = pairs.sort("_code", "n", "_time", ITEM_NUMBER, descending=[False, True, True, False])
    counts = ranked.group_by("_code", maintain_order=True).agg(
        pl.col("_user").first(),
        pl.col("_item").head(most).alias("_past"),
        pl.col("n").head(most).cast(pl.Float32).alias("_past_counts"),
        pl.col("n").sum().cast(pl.Int64).alias("_past_events"),
    )
    return counts.drop("_code")


def tails(past: pl.DataFrame, length: int) -> pl.DataFrame:
    """Each user's last items, oldest first.

    Returns: `_user`, `_tail`.
    """
    tails = past.group_by("_code", maintain_order=True).agg(
        pl.col("_user").first(), pl.col("_item").tail(length).alias("_tail")
    )
    return tails.drop("_code")


def last_events(events: pl.DataFrame) -> pl.DataFrame:
    """Each user's last event, of events sorted by user and time."""
    user = events["_code"]
    # Null at the very last event, which is the last one of its user.
    return events.filter((user != user.shift(-1)).fill_null(True))


def personal(past: pl.DataFrame, moment: int, most: int) -> pl.DataFrame:
    """The distinct items that each user had before a moment, with decayed counts.

    Args:
      past: events before the moment with `_user`, `_item`, `_time`, `_day`.
      moment: in microseconds since 1970.
      most: largest number of items of a user: those with the largest counts of a half-life of 60
        days.

    Returns: `_user`; `_personal`, the items; by half-life, their decayed counts as of the moment;
    `_personal_age`, days since the last event of each; `_personal_span`, days from the first event of
    each to the last, and `_personal_days`, days with events of each; `_personal_visits`, days with any;
    sorted by user.
    """
    age = pl.lit(moment) - pl.col("_time")
    weights = past.select("_user", "_item", "_time", "_day").with_columns(
        decayed_weight(age, half_life).alias(name)
        for name, half_life in PERSONAL_HALF_LIVES.items()
    )
    pairs = weights.group_by("_user", "_item").agg(
        *(pl.col(name).sum() for name in PERSONAL_HALF_LIVES),
        pl.col("_time").max(),
        pl.col("_time").min().alias("_first"),
        pl.col("_day").n_unique().alias("_days"),
    )
    # The last two break ties, so that equal events give equal lists.
    order = ["_user", "_personal_60d", "_time", "_item"]
    ranked = pairs.sort(order, descending=[False, True, True, False])
    last = (pl.lit(moment) - pl.col("_time")) / day_plan.MICROSECONDS_OF_A_DAY
    lists = {"_personal": pl.col("_item"), "_personal_age": last.cast(pl.Float32)}
    for name in PERSONAL_HALF_LIVES:
        lists[name] = (pl.col(name) / WEIGHT_OF_ONE).cast(pl.Float32)
    span = (pl.col("_time") - pl.col("_first")) / day_plan.MICROSECONDS_OF_A_DAY
    lists[PERSONAL_SPAN] = span.cast(pl.Float32)
    lists[PERSONAL_DAYS] = pl.col("_days").cast(pl.Float32)
    users = ranked.group_by("_user", maintain_order=True).agg(
        column.head(most).alias(name) for name, column in lists.items()
    )
    visits = past.group_by("_user").agg(pl.col("_day").n_unique().cast(pl.Float32).alias(VISITS))
    return users.join(visits, on="_user", how="left", maintain_order="left")
