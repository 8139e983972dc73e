"""What is known of users at a moment: their last items, and all that they had.

Events are frames sorted by user, time, item, with the columns `_user`, `_item`, `_time`
(microseconds, UTC), and the numbers of user and item in the order of their strings: `_code` and
`_item_number`. Nothing here looks at an event that is not strictly before the moment of a query.

Counts in which an event weighs less the older it is: 1 at the moment, a half after one half-life.

A weight is a whole number of 2^-32: sums of whole numbers are the same in whatever order workers
add them up, and what is rounded away is 2^-33 of an event.

The sum of a day's events as of the end of the day, times the decay since then, is their sum as of
any later moment. So the count table (item_counts.py) carries one sum for each item, day and
half-life, and both moments are read off it.
"""

from collections.abc import Mapping
from datetime import date

import numpy as np
import polars as pl

from beam_jobs import day_plan
from beam_jobs.beam.batches import CodedLists
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.feature_schema import (
    PERSONAL_DAYS,
    PERSONAL_HALF_LIVES,
    PERSONAL_SPAN,
    TRENDING_HALF_LIVES,
    VISITS,
)
from twinspire_core.errors import UsageError
from twinspire_core.search.ragged import list_ranges

_ONE = 1 << 32
"""The weight of an event at the moment."""


def trending_columns(p: Pipeline) -> Mapping[str, float]:
    """Half-lives in days by their column, if the pipeline counts them."""
    return TRENDING_HALF_LIVES if p.sources.several else {}


def with_weights(p: Pipeline, events: pl.DataFrame) -> pl.DataFrame:
    """Adds to events, with `_day` and `_time`, their weights as of the end of their own day, by
    half-life: one column each, in units of 2^-32.
    """
    columns = trending_columns(p)
    if not columns:
        return events
    ends = {
        number: day_plan.start_of(day_plan.date_of(number + 1), p.zone)
        for number in events["_day"].unique()
    }
    end = pl.col("_day").replace_strict(ends, return_dtype=pl.Int64)
    return events.with_columns(
        _weight(end - pl.col("_time"), half_life).alias(name) for name, half_life in columns.items()
    )


def trending(p: Pipeline, table: pl.DataFrame, moment: date) -> pl.DataFrame:
    """Decayed counts of items at the start of a day.

    Args:
      p: the pipeline.
      table: a count table with such columns, sorted by item and day.
      moment: the day. Its own events do not count, nor those before the window: the longer one of
        `window.count_days` and `window.history_days`.

    Returns: `_item`, and a float64 column by half-life: events, each as of the moment.
    """
    columns = trending_columns(p)
    end = day_plan.number(moment)
    first = end - max(p.window.count_days, p.window.history_days)
    rows = table.filter(pl.col("_day").is_between(first, end, closed="left"))
    items = rows["_item"].unique(maintain_order=True)
    if items.is_empty():
        empty = [pl.Series(name, [], pl.Float64) for name in columns]
        return pl.DataFrame([items, *empty])
    starts = np.flatnonzero(rows["_item"].rle_id().diff().fill_null(1).to_numpy())
    start = day_plan.start_of(moment, p.zone)
    since = {
        number: start - day_plan.start_of(day_plan.date_of(number + 1), p.zone)
        for number in rows["_day"].unique()
    }
    age = rows["_day"].replace_strict(since, return_dtype=pl.Int64).to_numpy()
    age = age / day_plan.MICROSECONDS_OF_A_DAY
    sums = []
    for name, half_life in columns.items():
        as_of_moment = rows[name].to_numpy() / _ONE * 0.5 ** (age / half_life)
        sums.append(pl.Series(name, np.add.reduceat(as_of_moment, starts)))
    return pl.DataFrame([items, *sums])


def personal(past: pl.DataFrame, moment: int, most: int) -> pl.DataFrame:
    """What each user had before a moment: distinct items with decayed counts.

    Args:
      past: events before the moment with `_user`, `_item`, `_time`, `_day`.
      moment: microseconds.
      most: items per user, at the most: those that come first with a half-life of 60 days.

    Returns: `_user`; `_personal`, the items; by half-life, their decayed counts as of the moment;
    `_personal_age`, days since the last event of each; `_personal_span`, days from the first event of
    each to the last, and `_personal_days`, days with events of each; `_personal_visits`, days with any;
    sorted by user.
    """
    age = pl.lit(moment) - pl.col("_time")
    weights = past.select("_user", "_item", "_time", "_day").with_columns(
        _weight(age, half_life).alias(name) for name, half_life in PERSONAL_HALF_LIVES.items()
    )
    pairs = weights.group_by("_user", "_item").agg(
        *(pl.col(name).sum() for name in PERSONAL_HALF_LIVES),
        pl.col("_time").max(),
        pl.col("_time").min().alias("_first"),
        pl.col("_day").n_unique().alias("_days"),
    )
    order = ["_user", "_personal_60d", "_time", "_item"]
    ranked = pairs.sort(order, descending=[False, True, True, False])
    last = (pl.lit(moment) - pl.col("_time")) / day_plan.MICROSECONDS_OF_A_DAY
    lists = {"_personal": pl.col("_item"), "_personal_age": last.cast(pl.Float32)}
    for name in PERSONAL_HALF_LIVES:
        lists[name] = (pl.col(name) / _ONE).cast(pl.Float32)
    span = (pl.col("_time") - pl.col("_first")) / day_plan.MICROSECONDS_OF_A_DAY
    lists[PERSONAL_SPAN] = span.cast(pl.Float32)
    lists[PERSONAL_DAYS] = pl.col("_days").cast(pl.Float32)
    users = ranked.group_by("_user", maintain_order=True).agg(
        column.head(most).alias(name) for name, column in lists.items()
    )
    visits = past.group_by("_user").agg(pl.col("_day").n_unique().cast(pl.Float32).alias(VISITS))
    return users.join(visits, on="_user", how="left", maintain_order="left")


def _weight(age: pl.Expr, half_life: float) -> pl.Expr:
    """The weights of events of some ages in microseconds, in units of 2^-32."""
    halvings = age / (half_life * day_plan.MICROSECONDS_OF_A_DAY)
    return (pl.lit(0.5).pow(halvings) * _ONE).round().cast(pl.Int64)


ITEM_NUMBER = "_item_number"


class Timeline:
    """Events in the order of user and time, in which a binary search finds what a user had before a
    moment.

    Example: a user's events at 10, 20 and 30; what was known at 30 is the first two.
      >>> timeline = Timeline(pl.DataFrame({"_code": [0, 0, 0], "_time": [10, 20, 30]}))
      >>> queries = pl.DataFrame({"_code": [0], "_time": [30]})
      >>> low, high = timeline.spans(queries, start=0, length=5)
      >>> low.tolist(), high.tolist()
      ([0], [2])
    """

    def __init__(self, past: pl.DataFrame) -> None:
        """Looks at events, sorted."""
        codes = past["_code"].to_numpy().astype(np.int64)
        times = past["_time"].to_numpy()
        # User and time in one integer: the events are in its order. One more than the span of the
        # times leaves room for a moment after all events, which must not run into the next user's.
        self._first = int(times.min()) if len(times) else 0
        self._width = int(times.max()) - self._first + 2 if len(times) else 1
        self._last_code = int(codes.max(initial=0))
        self._keys = codes * self._width + (times - self._first)

    def spans(
        self, queries: pl.DataFrame, start: np.ndarray | int, length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds, for each query, the user's last events before it.

        Args:
          queries: [N] rows with `_code` and `_time`: the user, and the moment.
          start: [N] or one int64, microseconds; events before it do not count.
          length: how many events at the most.

        Returns: [N] and [N] int64: event lo[i] up to, without, hi[i] of the events are those of
          query i, oldest first.
        """
        moments = queries["_time"].to_numpy()
        if not len(self._keys) or not len(moments):
            nothing = np.zeros(len(moments), np.int64)
            return nothing, nothing
        codes = queries["_code"].to_numpy().astype(np.int64)
        if (max(int(codes.max()), self._last_code) + 1) * self._width >= 1 << 63:
            raise UsageError(
                f"A shard takes up to {(1 << 63) // self._width:,} users for so many days; found"
                f" {codes.max():,}. Raise beam.shards."
            )
        base = codes * self._width
        ends = base + np.clip(moments - self._first, 0, self._width - 1)
        starts = base + np.clip(np.asarray(start) - self._first, 0, self._width - 1)
        # From the left: an event at the very moment is not before it.
        high = np.searchsorted(self._keys, ends, side="left")
        low = np.searchsorted(self._keys, starts, side="left")
        return np.minimum(np.maximum(low, high - length), high), high


def gather(items: pl.Series, numbers: np.ndarray, low: np.ndarray, high: np.ndarray) -> CodedLists:
    """Lists of the items of the events from low[i] up to high[i].

    Args:
      items: [D] String, distinct.
      numbers: [M], places in `items` of the events.
      low: [N] int64.
      high: [N] int64, at least `low`.

    Returns: N lists.
    """
    lengths = high - low
    return CodedLists(items, numbers[list_ranges(low, lengths)], lengths)


def interaction_counts(past: pl.DataFrame, most: int) -> pl.DataFrame:
    """Each user's distinct items, the most frequent first, then the most recent, then by name.

    Args:
      past: events.
      most: items per user, at the most.

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
    return events.filter((user != user.shift(-1)).fill_null(True))
