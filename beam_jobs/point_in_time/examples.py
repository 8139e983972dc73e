"""Makes rows about users. Each row only uses what was known before its moment.

They are examples of what users took; users as of the start of a day; and queries to measure by, which
are users as of then with what they took that day.
"""

from collections.abc import Iterator
from datetime import date

import numpy as np
import polars as pl
import pyarrow as pa

from beam_jobs import day_plan, hashing
from beam_jobs.beam import batches
from beam_jobs.point_in_time import item_counts, user_shard
from beam_jobs.point_in_time.user_shard import SAMPLING_HASH, UserShard
from twinspire_core.config.feature_kinds import HistoryFeature, IdFeature, TimeFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema
from twinspire_core.errors import UsageError
from twinspire_core.search.ragged import list_ranges

TAIL = "_tail"
"""The user's last items, oldest first."""


def _with_query_features(shard: UserShard, rows: pl.DataFrame, day: date) -> pl.DataFrame:
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
                    # As of the start of a day, `_time` is that of the user's last event: midnight would
                    # be an hour that towers hardly know from training.
                    "hour": clock(shard.job.p).dt.hour().cast(pl.Int64),
                    "weekday": pl.lit(day.weekday(), pl.Int64),
                }
                added += [
                    parts[part].alias(column) for column, part in f.parts_by_column(name).items()
                ]
    return _with_users(shard, rows.with_columns(added), day)


def _with_users(shard: UserShard, rows: pl.DataFrame, day: date) -> pl.DataFrame:
    """Joins the columns of the newest users snapshot before `day`."""
    snapshot = shard.snapshot(day)
    if snapshot is None:
        return rows
    return rows.join(snapshot, on="_user", how="left", maintain_order="left")


def clock(p: Pipeline) -> pl.Expr:
    """Wall-clock time of the pipeline's zone."""
    return pl.col("_time").cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(p.pipeline.time_zone)


def _known_queries(shard: UserShard, day: date, among: pl.DataFrame | None = None) -> pl.DataFrame:
    """Users with events in the longest window before `day`, sorted, as of its start.

    The towers see events of `window.history_days` alone, as in training.

    Args:
      shard: all events of its users that were read.
      day: its own events do not count.
      among: `_user` of those that are wanted; all by default.
    """
    start, end = shard.days_before(day, day_plan.known_days(shard.job.p))
    wanted = pl.col("_time").is_between(start, end, closed="left")
    if among is not None:
        wanted &= pl.col("_code").is_in(shard.codes(among).implode())
    events = shard.events.filter(wanted)
    past = shard.past.filter(wanted)
    counts = user_shard.interaction_counts(past, feature_schema.PAST_LENGTH)
    tails = user_shard.tails(past.filter(pl.col("_time") >= shard.window_start(day)), shard.length)
    # The context of a user is that of the last event, of whatever type.
    rows = user_shard.last_events(events)
    rows = rows.join(counts, on="_user", how="left", maintain_order="left")
    rows = rows.join(tails, on="_user", how="left", maintain_order="left")
    rows = rows.with_columns(pl.col("_past_events").fill_null(0))
    if shard.job.p.sources.several:
        rows = rows.join(
            _personal_counts(shard, day, rows), on="_user", how="left", maintain_order="left"
        )
    return _with_query_features(shard, rows, day)


def users(shard: UserShard) -> pl.DataFrame:
    """Users of the longest window as they would be served on the day after."""
    return _known_queries(shard, day_plan.after(shard.job.plan.day)).with_columns(
        pl.col("_time").alias("_last_time")
    )


def sequences(shard: UserShard, day: date) -> pl.DataFrame:
    """What each user took before the start of `day`, in the window of the sources that are fitted on
    it: `_user`, and newest first `_items` and `_ages` in days.
    """
    start, end = shard.days_before(day, day_plan.personal_days(shard.job.p))
    taken = shard.positives().filter(pl.col("_time").is_between(start, end, closed="left"))
    newest = taken.sort("_code", "_time", item_counts.ITEM_NUMBER, descending=[False, True, False])
    age = (pl.lit(end) - pl.col("_time")) / day_plan.MICROSECONDS_OF_A_DAY
    return newest.group_by("_user", maintain_order=True).agg(
        pl.col("_item").head(feature_schema.SEQUENCE_LENGTH).alias("_items"),
        age.head(feature_schema.SEQUENCE_LENGTH).cast(pl.Float32).alias("_ages"),
    )


def _personal_counts(shard: UserShard, day: date, among: pl.DataFrame) -> pl.DataFrame:
    """Decayed counts of what some users had before `day`, in the window `personal_days`."""
    start, end = shard.days_before(day, day_plan.personal_days(shard.job.p))
    past = shard.past.filter(pl.col("_time").is_between(start, end, closed="left"))
    past = past.join(among.select("_user"), on="_user", how="semi")
    return user_shard.personal(past, end, feature_schema.PAST_LENGTH)


def evaluation_queries(shard: UserShard) -> pl.DataFrame:
    """Queries as of the start of each day for users with a positive on it; for newcomers, as of their
    first positive. On days before the last, only for users who may be held out.
    """
    highest = hashing.limit(shard.job.p.evaluation.holdout)
    days = []
    for day in shard.job.plan.evaluation:
        hashes = shard.sampling_hashes(day)
        # Only all shards together know who is held out, but nobody with a larger hash is.
        if day != shard.job.plan.day:
            hashes = hashes.filter(pl.col(SAMPLING_HASH) < highest)
        days.append(_queries(shard, day, hashes))
    return pl.concat(days, how="diagonal")


def replayed_queries(shard: UserShard, day: date) -> pl.DataFrame:
    """Queries of a replayed day, for users whose hash is too large to be held out: those with the largest
    hashes of the shard, among which are the largest of all shards.
    """
    highest = hashing.limit(shard.job.p.evaluation.holdout)
    hashes = shard.sampling_hashes(day).filter(pl.col(SAMPLING_HASH) >= highest)
    return _queries(shard, day, hashes.top_k(shard.job.most_replayed, by=SAMPLING_HASH))


def _queries(shard: UserShard, day: date, hashes: pl.DataFrame) -> pl.DataFrame:
    """Queries as of the start of a day, for the users of some sampling hashes."""
    distinct_items = shard.positives(day).unique(
        ["_code", item_counts.ITEM_NUMBER], keep="first", maintain_order=True
    )
    truth = distinct_items.group_by("_code", maintain_order=True).agg(
        pl.col("_user").first(), pl.col("_item").alias("_truth")
    )
    # An inner join: only users whose hashes are given.
    queried = truth.drop("_code").join(hashes, on="_user")
    known_users = _known_queries(shard, day, queried)
    newcomers = _newcomers(shard, day, queried.join(known_users, on="_user", how="anti"))
    rows = pl.concat([known_users, newcomers], how="diagonal")
    rows = rows.join(queried, on="_user", maintain_order="left")
    return rows.with_columns(pl.lit(day).alias("_day"))


def _newcomers(shard: UserShard, day: date, among: pl.DataFrame) -> pl.DataFrame:
    """Users without an event before `day`, in the context of their first positive of the day."""
    rows = shard.positives(day).join(among, on="_user", how="semi", maintain_order="left")
    rows = rows.unique("_user", keep="first", maintain_order=True)
    nothing = pl.lit([], pl.List(pl.String))
    rows = rows.with_columns(
        nothing.alias(TAIL), nothing.alias("_past"), pl.lit(0, pl.Int64).alias("_past_events")
    )
    return _with_query_features(shard, rows, day)


_LOW = "_low"
# Columns of examples: the user's last events before an example are those from `_low` up to, but
# without, `_high`.
_HIGH = "_high"


def of_users(shard: UserShard) -> Iterator[tuple[str, pl.DataFrame, dict[str, batches.CodedLists]]]:
    """Examples without item features, some thousands at a time: the file that they go to, the rows, and
    their histories by column.
    """
    timeline = Timeline(shard.past)
    for day in shard.job.plan.examples:
        rows = shard.positives(day)
        if rows.is_empty():
            continue
        # An example sees what came strictly before it: events of the window, and those of its own day
        # up to its moment.
        low, high = timeline.spans(rows, shard.window_start(day), shard.length)
        rows = rows.with_columns(pl.Series(_LOW, low), pl.Series(_HIGH, high))
        rows = rows.join(shard.sampling_hashes(day), on="_user", how="left", maintain_order="left")
        # Without histories, which `_in_blocks` adds: they are too large for a whole day at once.
        rows = _with_query_features(shard, rows, day)
        rows = rows.with_columns(_reward(shard.job.p, rows).alias("_reward"))
        yield from _in_blocks(shard, day, rows)


def analysis(shard: UserShard) -> pl.DataFrame:
    """Positives of the vocabulary days: `_time`, `_row`, query features."""
    rows = shard.positives().filter(pl.col("_day") >= day_plan.number(shard.job.plan.analysis[0]))
    # Not by the place in the logs: an event may come again in the files of a later day.
    names = [name for name in ("_user", "_item", "_time", "_type") if name in rows.columns]
    event = rows.select(pl.col(names)).with_columns(pl.col(pl.Categorical).cast(pl.String))
    event = event.with_columns(pl.col(pl.String).fill_null(""))  # a type may be missing
    batch = pa.RecordBatch.from_pydict({name: event[name].to_arrow() for name in names})
    rows = rows.with_columns(
        pl.Series(feature_schema.ROW, hashing.row_hashes(batch).view(np.int64))
    )
    if shard.job.p.user_id:
        rows = rows.with_columns(pl.col("_user").alias(shard.job.p.user_id))
    # As of the run's day for all vocabulary days: snapshots of older days may not be read.
    return _with_users(shard, rows, shard.job.plan.day)


def _in_blocks(
    shard: UserShard, day: date, rows: pl.DataFrame
) -> Iterator[tuple[str, pl.DataFrame, dict[str, batches.CodedLists]]]:
    """Examples of a day by file; their histories are gathered some thousands at a time."""
    numbers = shard.past[item_counts.ITEM_NUMBER].to_numpy()
    folder = f"{feature_schema.EXAMPLES}/{feature_schema.day_folder(day)}"
    hours, parts = shard.job.example_files[day]
    first_hour = rows.select(clock(shard.job.p).dt.hour() // hours * hours).to_series()
    part = hashing.shards(rows["_user"], parts)
    # Histories take most of the bytes of an example, so only some rows have them at a time.
    for number, block in batches.slices(first_hour.cast(pl.Int32) * parts + part, rows):
        # The number has both the hour and the part of the users.
        hour, of_users = divmod(number, parts)
        name = f"{hour:02d}-{of_users:03d}" if parts > 1 else f"{hour:02d}"
        for some in block.iter_slices(batches.ROW_GROUP):
            low = some[_LOW].to_numpy()
            high = some[_HIGH].to_numpy()
            tails = gather(shard.items, numbers, low, high)
            histories = dict.fromkeys(shard.job.p.of_kind(HistoryFeature), tails)
            yield f"{folder}/{name}.parquet", some, histories


def _reward(p: Pipeline, rows: pl.DataFrame) -> pl.Expr:
    """The weights of examples: the logged reward, already clipped, times the factor of the event's type."""
    logged = pl.col("_reward") if "_reward" in rows.columns else pl.lit(1.0, pl.Float32)
    if not p.columns.weights:
        return logged
    factors = pl.col("_type").replace_strict(
        p.columns.weights, default=1.0, return_dtype=pl.Float64
    )
    return (logged * factors).cast(pl.Float32)


class Timeline:
    """Events in order of user and time, in which a binary search finds what a user did before a moment.

    Example: a user has events at 10, 20 and 30; before 30 there are the first two.
      >>> timeline = Timeline(pl.DataFrame({"_code": [0, 0, 0], "_time": [10, 20, 30]}))
      >>> queries = pl.DataFrame({"_code": [0], "_time": [30]})
      >>> low, high = timeline.spans(queries, start=0, length=5)
      >>> low.tolist(), high.tolist()
      ([0], [2])
    """

    def __init__(self, past: pl.DataFrame) -> None:
        """Takes events sorted by user and time, with `_code` and `_time`."""
        codes = past["_code"].to_numpy().astype(np.int64)
        times = past["_time"].to_numpy()
        # User and time in one integer: the events are in its order. One more than the span of the
        # times leaves room for a moment after all events, which must not run into the next user's.
        self._first = int(times.min()) if len(times) else 0
        self._width = int(times.max()) - self._first + 2 if len(times) else 1
        self._last_code = int(codes.max(initial=0))
        self._keys = codes * self._width + (times - self._first)

    def spans(
        self, queries: pl.DataFrame, start: np.ndarray | int, length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds, for each query, the user's last events before it.

        Args:
          queries: [N] rows with `_code` and `_time`: the user, and the moment.
          start: [N] or one int64, microseconds; events before it do not count.
          length: largest number of events.

        Returns: [N] and [N] int64, low and high: the events from low[i] up to, but without, high[i]
          are those of query i, oldest first.
        """
        moments = queries["_time"].to_numpy()
        if not len(self._keys) or not len(moments):
            nothing = np.zeros(len(moments), np.int64)
            return nothing, nothing
        codes = queries["_code"].to_numpy().astype(np.int64)
        if (max(int(codes.max()), self._last_code) + 1) * self._width >= 1 << 63:
            raise UsageError(
                f"A shard can have up to {(1 << 63) // self._width:,} users for this many days; found"
                f" {codes.max():,}. Raise beam.shards."
            )
        base = codes * self._width
        ends = base + np.clip(moments - self._first, 0, self._width - 1)
        starts = base + np.clip(np.asarray(start) - self._first, 0, self._width - 1)
        # Side left: an event at the very moment is not before it.
        high = np.searchsorted(self._keys, ends, side="left")
        low = np.searchsorted(self._keys, starts, side="left")
        # A start after the moment gives an empty span, not one of negative length.
        return np.minimum(np.maximum(low, high - length), high), high


def gather(
    items: pl.Series, numbers: np.ndarray, low: np.ndarray, high: np.ndarray
) -> batches.CodedLists:
    """Lists of the items of the events from low[i] up to high[i].

    Args:
      numbers: [M], places in `items` of the events.
      high: [N] int64, at least `low`.

    Returns: N lists.
    """
    lengths = high - low
    return batches.CodedLists(items, numbers[list_ranges(low, lengths)], lengths)
