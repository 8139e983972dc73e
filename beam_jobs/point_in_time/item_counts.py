"""How often items were taken, and since when, as of the start of some day.

A count table has one row per item and day with events: `_item`, `_day` (since 1970), `n` and
`first` (microseconds), and decayed sums (decayed_counts.py) if a source needs them. Tables of parts
of the users add up to the table of all. Only positives are counted.
"""

from collections.abc import Iterable
from datetime import date

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
