"""Features of the query tower, put beside rows of users at a moment."""

from datetime import date

import polars as pl

from beam_jobs.point_in_time.user_shard import UserShard
from twinspire_core.config.feature_kinds import HistoryFeature, IdFeature, TimeFeature
from twinspire_core.config.pipeline import Pipeline

TAIL = "_tail"
"""The user's last items, oldest first."""


def with_query_features(shard: UserShard, rows: pl.DataFrame, day: date) -> pl.DataFrame:
    """Adds the query features of rows that have `_user`, `_time`, `_tail` and the context of an
    event.
    """
    added: list[pl.Expr] = []
    for name, f in shard.job.p.tower("query").items():
        match f:
            case IdFeature():
                added.append(pl.col("_user").alias(name))
            case HistoryFeature() if TAIL in rows.columns:
                added.append(pl.col(TAIL).alias(name))
            case TimeFeature():
                parts = {
                    "hour": clock(shard.job.p).dt.hour().cast(pl.Int64),
                    "weekday": pl.lit(day.weekday(), pl.Int64),
                }
                by_column = f.parts_by_column(name).items()
                added += [parts[part].alias(column) for column, part in by_column]
    return with_users(shard, rows.with_columns(added), day)


def with_users(shard: UserShard, rows: pl.DataFrame, day: date) -> pl.DataFrame:
    """Joins what is known of the users before `day`."""
    snapshot = shard.snapshot(day)
    if snapshot is None:
        return rows
    return rows.join(snapshot, on="_user", how="left", maintain_order="left")


def clock(p: Pipeline) -> pl.Expr:
    """Wall-clock time of the pipeline's zone."""
    instant = pl.col("_time").cast(pl.Datetime("us", "UTC"))
    return instant.dt.convert_time_zone(p.pipeline.time_zone)
