"""Examples of what users took, with what was known of them strictly before."""

from collections.abc import Iterator
from datetime import date

import numpy as np
import polars as pl
import pyarrow as pa

from beam_jobs import day_plan, row_hashing, user_hashing
from beam_jobs.beam import batches
from beam_jobs.beam.coded_lists import CodedLists
from beam_jobs.point_in_time import history
from beam_jobs.point_in_time.history import ITEM_NUMBER
from beam_jobs.point_in_time.known_users import clock, with_query_features, with_users
from beam_jobs.point_in_time.user_shard import UserShard
from twinspire_core.config.feature_kinds import HistoryFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema

_LOW = "_low"
_HIGH = "_high"
"""Of an example: from `_low` up to, without, `_high` stand the user's last events before it."""


def examples(shard: UserShard) -> Iterator[tuple[str, pl.DataFrame, dict[str, CodedLists]]]:
    """Examples without item features, by the file that they go to, some thousands at a time; their
    histories, by column.
    """
    timeline = history.Timeline(shard.past)
    for day in shard.job.plan.examples:
        rows = shard.positives(day)
        if rows.is_empty():
            continue
        # An example sees what came strictly before it: events of the window, and of its own day
        # up to its moment.
        low, high = timeline.spans(rows, shard.window_start(day), shard.length)
        rows = rows.with_columns(pl.Series(_LOW, low), pl.Series(_HIGH, high))
        hashes = shard.sampling_hashes(day)
        rows = rows.join(hashes, on="_user", how="left", maintain_order="left")
        rows = with_query_features(shard, rows, day)
        rows = rows.with_columns(_reward(shard.job.p, rows).alias("_reward"))
        yield from _in_blocks(shard, day, rows)


def analysis(shard: UserShard) -> pl.DataFrame:
    """Positives of the vocabulary days: `_time`, `_row`, query features."""
    first = day_plan.number(shard.job.plan.analysis[0])
    rows = shard.positives().filter(pl.col("_day") >= first)
    # Where an event was read says nothing of it: late files may hold what others held before.
    names = [name for name in ("_user", "_item", "_time", "_type") if name in rows.columns]
    event = rows.select(pl.col(names)).with_columns(pl.col(pl.Categorical).cast(pl.String))
    event = event.with_columns(pl.col(pl.String).fill_null(""))  # a type may be missing
    batch = pa.RecordBatch.from_pydict({name: event[name].to_arrow() for name in names})
    numbers = row_hashing.row_hashes(batch).view(np.int64)
    rows = rows.with_columns(pl.Series(feature_schema.ROW, numbers))
    if shard.job.p.user_id:
        rows = rows.with_columns(pl.col("_user").alias(shard.job.p.user_id))
    # As of the run's day, for all vocabulary days: what was valid on older ones may not be read.
    return with_users(shard, rows, shard.job.plan.day)


def _in_blocks(
    shard: UserShard, day: date, rows: pl.DataFrame
) -> Iterator[tuple[str, pl.DataFrame, dict[str, CodedLists]]]:
    """Examples of a day by file; their histories are gathered some thousands at a time."""
    numbers = shard.past[ITEM_NUMBER].to_numpy()
    folder = f"{feature_schema.EXAMPLES}/{feature_schema.day_folder(day)}"
    hours, parts = shard.job.example_files[day]
    first_hour = rows.select(clock(shard.job.p).dt.hour() // hours * hours).to_series()
    part = user_hashing.shards(rows["_user"], parts)
    # Histories are the most of an example's bytes: few rows have them at a time.
    for number, block in batches.slices(first_hour.cast(pl.Int32) * parts + part, rows):
        hour, of_users = divmod(number, parts)
        name = f"{hour:02d}-{of_users:03d}" if parts > 1 else f"{hour:02d}"
        for some in block.iter_slices(batches.ROW_GROUP):
            low = some[_LOW].to_numpy()
            high = some[_HIGH].to_numpy()
            tails = history.gather(shard.items, numbers, low, high)
            histories = dict.fromkeys(shard.job.p.of_kind(HistoryFeature), tails)
            yield f"{folder}/{name}.parquet", some, histories


def _reward(p: Pipeline, rows: pl.DataFrame) -> pl.Expr:
    """What examples weigh: what was logged, already cut to its range, times the factor of the
    event's type.
    """
    logged = pl.col("_reward") if "_reward" in rows.columns else pl.lit(1.0, pl.Float32)
    if not p.columns.weights:
        return logged
    factors = pl.col("_type").replace_strict(
        p.columns.weights, default=1.0, return_dtype=pl.Float64
    )
    return (logged * factors).cast(pl.Float32)
