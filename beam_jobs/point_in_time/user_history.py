"""What users did before a moment: their last items, and all that they had, by count or decayed.

Events are frames sorted by user, time, item, with the columns `_user`, `_item`, `_time`
(microseconds, UTC), and the numbers of user and item in the order of their strings: `_code` and
`_item_number`. Nothing here looks at an event that is not strictly before the moment of a query.
"""

import numpy as np
import polars as pl

from beam_jobs import day_plan
from beam_jobs.beam.batches import CodedLists
from twinspire_core.contracts.feature_schema import (
    PERSONAL_DAYS,
    PERSONAL_HALF_LIVES,
    PERSONAL_SPAN,
    VISITS,
)
from twinspire_core.errors import UsageError
from twinspire_core.search.ragged import list_ranges

ITEM_NUMBER = "_item_number"
WEIGHT_OF_ONE = 1 << 32
"""Decayed counts add up weights of events: this one at the moment, half of it after one half-life, rounded.
Sums of whole numbers are the same in whatever order workers add them up, and what rounding takes away is
2^-33 of an event.
"""


class Timeline:
    """Events in order of user and time, in which a binary search finds what a user did before a moment.

    Example: a user has events at 10, 20 and 30; before 30 there are the first two.
      >>> timeline = Timeline(pl.DataFrame({"_code": [0, 0, 0], "_time": [10, 20, 30]}))
      >>> queries = pl.DataFrame({"_code": [0], "_time": [30]})
      >>> low, high = timeline.spans(queries, start=0, length=5)
      >>> low.tolist(), high.tolist()
      ([0], [2])
    """

    def __init__(self, past: pl.DataFrame) -> None:
        """Takes events sorted by user and time, with `_code` and `_time`."""
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
          length: largest number of events.

        Returns: [N] and [N] int64, low and high: the events from low[i] up to, but without, high[i]
          are those of query i, oldest first.
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
        # Side left: an event at the very moment is not before it.
        high = np.searchsorted(self._keys, ends, side="left")
        low = np.searchsorted(self._keys, starts, side="left")
        # A start after the moment gives an empty span, not one of negative length.
        return np.minimum(np.maximum(low, high - length), high), high


def gather(items: pl.Series, numbers: np.ndarray, low: np.ndarray, high: np.ndarray) -> CodedLists:
    """Lists of the items of the events from low[i] up to high[i].

    Args:
      numbers: [M], places in `items` of the events.
      high: [N] int64, at least `low`.

    Returns: N lists.
    """
    lengths = high - low
    return CodedLists(items, numbers[list_ranges(low, lengths)], lengths)


def interaction_counts(past: pl.DataFrame, most: int) -> pl.DataFrame:
    """Each user's distinct items, the most frequent first, then the most recent, then by name.

    Args:
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


def decayed_weight(age: pl.Expr, half_life: float) -> pl.Expr:
    """The weights of events by their age in microseconds, for a half-life in days."""
    halvings = age / (half_life * day_plan.MICROSECONDS_OF_A_DAY)
    return (pl.lit(0.5).pow(halvings) * WEIGHT_OF_ONE).round().cast(pl.Int64)
