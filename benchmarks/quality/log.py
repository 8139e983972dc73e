"""The events of a log as they lie in its daily folders, for contenders that look further back than
the days trained on, or that know of each event as it happens.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl

from beam_jobs.ingest import day_files
from beam_jobs.ingest.timestamps import to_instants
from twinspire_core.config.pipeline import Pipeline

DAYS = 280
"""How far a log is looked back, as `window.personal_days` of the groceries' pipeline file."""
_SCHEMA = {"_user": pl.String, "_item": pl.String, "_time": pl.Int64}


def events(p: Pipeline, first: date, last: date, *more: pl.Expr) -> pl.DataFrame:
    """`_user`, `_item`, `_time` (microseconds since 1970, UTC) of all events of some days, and more
    of their columns, in the order of time; events that are there twice count once. Days without a
    folder have none.
    """
    days = (first + timedelta(days=n) for n in range((last - first).days + 1))
    files = [Path(file.uri) for day in days for file in day_files.files(p, "events", day)]
    found = [_read(p, file, more) for file in files]
    every = pl.concat(found) if found else pl.DataFrame(schema=_SCHEMA)
    return every.unique().sort("_time", "_user", "_item")


def _read(p: Pipeline, file: Path, more: Sequence[pl.Expr]) -> pl.DataFrame:
    columns = p.columns
    rows = pl.read_parquet(file)
    return rows.select(
        pl.col(columns.user).cast(pl.String).alias("_user"),
        pl.col(columns.item).cast(pl.String).alias("_item"),
        to_instants(rows[columns.time], columns.time_unit, p.zone).alias("_time"),
        *more,
    )


def with_days(events: pl.DataFrame, p: Pipeline) -> pl.DataFrame:
    """Adds `_day`, the calendar day of `_time` in the pipeline's zone."""
    clock = pl.col("_time").cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(str(p.zone))
    return events.with_columns(clock.dt.date().alias("_day"))


def with_history(queries: pl.DataFrame, events: pl.DataFrame, end: datetime) -> pl.DataFrame:
    """Adds `_moment`, `_history` and `_history_times`: all events of the user before the moment,
    oldest first.

    Args:
      queries: `_query`, `_user`, and `_time` where it is as of a moment.
      events: `_user`, `_item`, `_time`.
      end: the moment of the others: when the last day trained on ended.
    """
    moment = (
        pl.col("_time") if "_time" in queries.columns else pl.lit(int(end.timestamp()) * 1_000_000)
    )
    asked = queries.with_columns(moment.cast(pl.Int64).alias("_moment"))
    pairs = asked.select("_query", "_user", "_moment").join(events, on="_user")
    pairs = pairs.filter(pl.col("_time") < pl.col("_moment")).sort("_query", "_time", "_item")
    lists = pairs.group_by("_query", maintain_order=True).agg(
        pl.col("_item").alias("_history"), pl.col("_time").alias("_history_times")
    )
    found = asked.join(lists, on="_query", how="left", maintain_order="left")
    return found.with_columns(pl.col("_history", "_history_times").fill_null([]))
