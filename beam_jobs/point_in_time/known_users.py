"""What is known of users at the start of a day, with the features of the query tower; and queries to
measure by: users as of then, and what they took on the day.
"""

from datetime import date

import polars as pl

from beam_jobs import day_plan, user_hashing
from beam_jobs.point_in_time import decayed_counts, history
from beam_jobs.point_in_time.history import ITEM_NUMBER
from beam_jobs.point_in_time.user_shard import SAMPLING_HASH, UserShard
from twinspire_core.config.feature_kinds import HistoryFeature, IdFeature, TimeFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema

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


def known_queries(shard: UserShard, day: date, among: pl.DataFrame | None = None) -> pl.DataFrame:
    """Users with events in the longest window before `day`, sorted, as known at its start.

    What the towers see of them is of `window.history_days` alone, as in training.

    Args:
      shard: their events.
      day: the day.
      among: `_user` of those that are wanted; all by default.
    """
    start, end = shard.days_before(day, day_plan.known_days(shard.job.p))
    wanted = pl.col("_time").is_between(start, end, closed="left")
    if among is not None:
        wanted &= pl.col("_code").is_in(shard.codes(among).implode())
    events = shard.events.filter(wanted)
    past = shard.past.filter(wanted)
    counts = history.interaction_counts(past, feature_schema.PAST_LENGTH)
    lately = past.filter(pl.col("_time") >= shard.window_start(day))
    tails = history.tails(lately, shard.length)
    # Their context is that of their last event, of whatever type.
    rows = history.last_events(events)
    rows = rows.join(counts, on="_user", how="left", maintain_order="left")
    rows = rows.join(tails, on="_user", how="left", maintain_order="left")
    rows = rows.with_columns(pl.col("_past_events").fill_null(0))
    if shard.job.p.sources.several:
        personal = _personal_counts(shard, day, rows)
        rows = rows.join(personal, on="_user", how="left", maintain_order="left")
    return with_query_features(shard, rows, day)


def users(shard: UserShard) -> pl.DataFrame:
    """Users of the longest window as they would be served on the day after."""
    rows = known_queries(shard, day_plan.after(shard.job.plan.day))
    return rows.with_columns(pl.col("_time").alias("_last_time"))


def sequences(shard: UserShard, day: date) -> pl.DataFrame:
    """What each user took before the start of `day`, in the window of the sources that are
    fitted on it: `_user`, `_items` and `_ages` in days, newest first.
    """
    start, end = shard.days_before(day, day_plan.personal_days(shard.job.p))
    taken = shard.positives().filter(pl.col("_time").is_between(start, end, closed="left"))
    newest = taken.sort("_code", "_time", ITEM_NUMBER, descending=[False, True, False])
    age = (pl.lit(end) - pl.col("_time")) / day_plan.MICROSECONDS_OF_A_DAY
    return newest.group_by("_user", maintain_order=True).agg(
        pl.col("_item").head(feature_schema.SEQUENCE_LENGTH).alias("_items"),
        age.head(feature_schema.SEQUENCE_LENGTH).cast(pl.Float32).alias("_ages"),
    )


def _personal_counts(shard: UserShard, day: date, among: pl.DataFrame) -> pl.DataFrame:
    """Decayed counts of what some users had before `day`, in a window of its own."""
    start, end = shard.days_before(day, day_plan.personal_days(shard.job.p))
    past = shard.past.filter(pl.col("_time").is_between(start, end, closed="left"))
    past = past.join(among.select("_user"), on="_user", how="semi")
    return decayed_counts.personal(past, end, feature_schema.PAST_LENGTH)


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
    known = known_queries(shard, day, queried)
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
