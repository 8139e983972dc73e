"""Rows about users: examples of what they took, with what was known strictly before; what is known of
them at the start of a day; and queries to measure by: users as of then, and what they took that day.
"""

from collections.abc import Iterator
from datetime import date

import numpy as np
import polars as pl
import pyarrow as pa

from beam_jobs import day_plan, hashing
from beam_jobs.beam import batches
from beam_jobs.beam.batches import CodedLists
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
    highest = hashing.limit(shard.job.p.evaluation.holdout)
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
    highest = hashing.limit(shard.job.p.evaluation.holdout)
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
    """Users with no known event at the start of `day`, in the context of their first
    positive of the day.
    """
    rows = shard.positives(day).join(among, on="_user", how="semi", maintain_order="left")
    rows = rows.unique("_user", keep="first", maintain_order=True)
    nothing = pl.lit([], pl.List(pl.String))
    rows = rows.with_columns(
        nothing.alias(TAIL), nothing.alias("_past"), pl.lit(0, pl.Int64).alias("_past_events")
    )
    return with_query_features(shard, rows, day)


_LOW = "_low"
_HIGH = "_high"
"""Of an example: from `_low` up to, without, `_high` stand the user's last events before it."""


def of_users(shard: UserShard) -> Iterator[tuple[str, pl.DataFrame, dict[str, CodedLists]]]:
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
    numbers = hashing.row_hashes(batch).view(np.int64)
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
    part = hashing.shards(rows["_user"], parts)
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
