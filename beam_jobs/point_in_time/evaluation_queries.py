"""Queries to measure by: users as of the start of a day, and what they took on it."""

from datetime import date

import polars as pl

from beam_jobs import user_hashing
from beam_jobs.point_in_time import known_users
from beam_jobs.point_in_time.history import ITEM_NUMBER
from beam_jobs.point_in_time.query_features import TAIL, with_query_features
from beam_jobs.point_in_time.user_shard import SAMPLING_HASH, UserShard


def evaluation_queries(shard: UserShard) -> pl.DataFrame:
    """Queries as of the start of each day for users with a positive on it; newcomers' as of
    their first one.

    On days before the last, only of users that may be held out.
    """
    highest = user_hashing.limit(shard.job.p.evaluation.holdout)
    days = []
    for day in shard.job.plan.evaluation:
        hashes = shard.sampling_hashes(day)
        # Who is held out only all shards know; it is nobody with a hash above this.
        if day != shard.job.plan.day:
            hashes = hashes.filter(pl.col(SAMPLING_HASH) < highest)
        days.append(_queries(shard, day, hashes))
    return pl.concat(days, how="diagonal")


def replayed_queries(shard: UserShard, day: date) -> pl.DataFrame:
    """The same of a replayed day, of users whose hash is too large for them to be held out: of these the
    largest of the shard, among which are all that are the largest of all shards.
    """
    highest = user_hashing.limit(shard.job.p.evaluation.holdout)
    hashes = shard.sampling_hashes(day).filter(pl.col(SAMPLING_HASH) >= highest)
    return _queries(shard, day, hashes.top_k(shard.job.most_replayed, by=SAMPLING_HASH))


def _queries(shard: UserShard, day: date, hashes: pl.DataFrame) -> pl.DataFrame:
    """Queries of the users of some hashes as of the start of a day."""
    distinct_items = shard.positives(day).unique(
        ["_code", ITEM_NUMBER], keep="first", maintain_order=True
    )
    truth = distinct_items.group_by("_code", maintain_order=True).agg(
        pl.col("_user").first(), pl.col("_item").alias("_truth")
    )
    queried = truth.drop("_code").join(hashes, on="_user")
    known = known_users.known(shard, day, queried)
    newcomers = _newcomers(shard, day, queried.join(known, on="_user", how="anti"))
    rows = pl.concat([known, newcomers], how="diagonal")
    rows = rows.join(queried, on="_user", maintain_order="left")
    return rows.with_columns(pl.lit(day).alias("_day"))


def _newcomers(shard: UserShard, day: date, among: pl.DataFrame) -> pl.DataFrame:
    """Users of whom nothing is known at the start of `day`, in the context of their first
    positive of the day.
    """
    rows = shard.positives(day).join(among, on="_user", how="semi", maintain_order="left")
    rows = rows.unique("_user", keep="first", maintain_order=True)
    nothing = pl.lit([], pl.List(pl.String))
    rows = rows.with_columns(
        nothing.alias(TAIL), nothing.alias("_past"), pl.lit(0, pl.Int64).alias("_past_events")
    )
    return with_query_features(shard, rows, day)
