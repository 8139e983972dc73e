"""What is known of users at the start of a day."""

from datetime import date

import polars as pl

from beam_jobs import day_plan
from beam_jobs.point_in_time import decayed_counts, history
from beam_jobs.point_in_time.history import ITEM_NUMBER
from beam_jobs.point_in_time.query_features import with_query_features
from beam_jobs.point_in_time.user_shard import UserShard
from twinspire_core.contracts import feature_schema


def known(shard: UserShard, day: date, among: pl.DataFrame | None = None) -> pl.DataFrame:
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
    rows = known(shard, day_plan.after(shard.job.plan.day))
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
