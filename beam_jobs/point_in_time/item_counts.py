"""How often items were taken, and since when, as of the start of some day.

A count table has one row per item and day with events: `_item`, `_day` (since 1970), `n` and
`first` (microseconds), and decayed sums (decayed_counts.py) if a source needs them. Tables of parts
of the users add up to the table of all. Only positives are counted.
"""

from collections.abc import Iterable, Sequence
from datetime import date

import numpy as np
import polars as pl
import pyarrow as pa

from beam_jobs import day_plan
from beam_jobs.beam import batches
from beam_jobs.point_in_time import decayed_counts
from twinspire_core.config.feature_kinds import AgeFeature, CountFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.feature_schema import FIRST_SEEN


def schema(p: Pipeline) -> pa.Schema:
    """Columns of a count table."""
    columns = [
        ("_item", pa.string()),
        ("_day", pa.int32()),
        ("n", pa.int64()),
        ("first", pa.int64()),
    ]
    decayed = [(name, pa.int64()) for name in decayed_counts.trending_columns(p)]
    return pa.schema(columns + decayed)


def empty(p: Pipeline) -> pa.RecordBatch:
    """The count table of no events."""
    return pa.RecordBatch.from_pylist([], schema=schema(p))


def partial(p: Pipeline, positives: pl.DataFrame) -> pa.RecordBatch:
    """The count table of some events with `_item`, `_day`, `_time`."""
    weighted = decayed_counts.with_weights(p, positives)
    grouped = weighted.group_by("_item", "_day").agg(
        pl.len().cast(pl.Int64).alias("n"),
        pl.col("_time").min().alias("first"),
        *(pl.col(name).sum() for name in decayed_counts.trending_columns(p)),
    )
    return batches.to_batch(grouped, schema(p))


def merge(p: Pipeline, partials: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """The sum of count tables, sorted."""
    rows = batches.to_frame(partials)
    sums = [pl.col(name).sum() for name in ("n", *decayed_counts.trending_columns(p))]
    total = rows.group_by("_item", "_day").agg(*sums, pl.col("first").min())
    return batches.to_batch(total.sort("_item", "_day"), schema(p))


def computed(p: Pipeline) -> list[str]:
    """Features that come from the count table: counts, and ages since the first event."""
    ages = [name for name, f in p.of_kind(AgeFeature).items() if f.column is None]
    return [*p.of_kind(CountFeature), *ages]


def as_of(p: Pipeline, table: pl.DataFrame, day: date) -> pl.DataFrame:
    """What is known of items at the start of `day`: one row per item with events in the windows
    before it.

    Args:
      p: the pipeline.
      table: a count table.
      day: the windows end before it.

    Returns: `_item`; the `computed` features; `_popular`, `_lately`, `_recent`: events in
      `window.count_days`, `evaluation.lately_days` and `corpus.days`.
    """
    events = {name: f.days for name, f in p.of_kind(CountFeature).items()}
    events |= {
        "_popular": p.window.count_days,
        "_lately": p.evaluation.lately_days,
        "_recent": p.corpus.days,
    }
    sums = [pl.col("n").filter(_window(n, day)).sum().alias(name) for name, n in events.items()]
    # Of the window, and not of all that was read: that depends on the mode, and the age must not.
    first = pl.col("first").filter(_window(p.window.count_days, day)).min()
    longest = max(events.values())
    by_item = table.filter(_window(longest, day)).group_by("_item")
    found = by_item.agg(*sums, first.alias("_first"))
    age = (day_plan.start_of(day, p.zone) - pl.col("_first")) / day_plan.MICROSECONDS_OF_A_DAY
    # Computed features are counts, which have their window above, and ages.
    ages = [age.alias(name) for name in computed(p) if name not in events]
    found = found.with_columns(ages)
    return found.with_columns(pl.col(computed(p)).cast(pl.Float32)).drop("_first")


def on_days(p: Pipeline, table: pl.DataFrame, days: Sequence[date]) -> pl.DataFrame:
    """What `as_of` computes at the start of several days, of the items with events on each.

    Args:
      p: the pipeline.
      table: a count table.
      days: in a row, oldest first.

    Returns: `_item`, `_day`, `n` of the day, `_time` of its start, and the `computed` features.
    """
    table = table.sort("_item", "_day")  # as `merge` leaves it, which costs next to nothing
    day = table["_day"].to_numpy().astype(np.int64)
    wanted = np.flatnonzero((day >= day_plan.number(days[0])) & (day <= day_plan.number(days[-1])))
    counts = {name: f.days for name, f in p.of_kind(CountFeature).items()}
    longest = max([p.window.count_days, *counts.values()])
    # Item and day in one ascending integer, so that a window is what stands between two places.
    # Items are further apart than the longest window, which so reaches into no other item.
    since_first = day - day.min(initial=0)
    apart = int(since_first.max(initial=0)) + longest + 1
    moment = table["_item"].rle_id().to_numpy().astype(np.int64) * apart + since_first

    def window_start(length: int) -> np.ndarray:
        place: np.ndarray = np.searchsorted(moment, moment[wanted] - length)
        return place

    events_before = np.concatenate([[0], np.cumsum(table["n"].to_numpy())])
    found: dict[str, pl.Series] = {}
    for name, length in counts.items():
        events = events_before[wanted] - events_before[window_start(length)]
        found[name] = pl.Series(name, events).cast(pl.Float32)
    # Rows of an item are in order of time: the first event of a window is that of its first row.
    start = window_start(p.window.count_days)
    first = table["first"].gather(start)
    number_of = {day_plan.number(at): day_plan.start_of(at, p.zone) for at in days}
    rows = table.select("_item", "_day", "n")[wanted]
    moments = rows["_day"].replace_strict(number_of, return_dtype=pl.Int64).alias("_time")
    age = (moments - first) / day_plan.MICROSECONDS_OF_A_DAY
    age = age.set(pl.Series(start == wanted), None).cast(pl.Float32)
    for name in computed(p):
        if name not in found:
            found[name] = age.alias(name)
    return rows.with_columns(moments, *(found[name] for name in computed(p)))


def first_seen(p: Pipeline, table: pl.DataFrame, day: date) -> pl.DataFrame:
    """Since when items are known at the start of `day`: `_item`, and `_first_seen`, days since the
    first event in the longer one of `window.count_days` and `window.history_days`.
    """
    longest = max(p.window.count_days, p.window.history_days)
    first = table.filter(_window(longest, day)).group_by("_item").agg(pl.col("first").min())
    age = (day_plan.start_of(day, p.zone) - pl.col("first")) / day_plan.MICROSECONDS_OF_A_DAY
    return first.select("_item", age.cast(pl.Float32).alias(FIRST_SEEN))


def add(p: Pipeline, rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Joins to rows with `_item` what `as_of` knows.

    An item without events has counts of 0 and no age: nobody knows since when it is there, and 0
    would call it new.
    """
    joined = rows.join(known, on="_item", how="left", maintain_order="left")
    not_counted = {"_item", FIRST_SEEN, *p.of_kind(AgeFeature)}
    counted = [name for name in known.columns if name not in not_counted]
    return joined.with_columns(pl.col(name).fill_null(0) for name in counted)


def _window(length: int, day: date) -> pl.Expr:
    """Whether a row is of the days before `day`, so many of them; never of the day itself."""
    end = day_plan.number(day)
    return pl.col("_day").is_between(end - length, end, closed="left")
