"""Counts in which an event weighs less the older it is: 1 at the moment, a half after one half-life.

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
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.feature_schema import (
    PERSONAL_DAYS,
    PERSONAL_HALF_LIVES,
    PERSONAL_SPAN,
    TRENDING_HALF_LIVES,
    VISITS,
)

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
