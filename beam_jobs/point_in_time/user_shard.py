"""All that is made of some shards of the users: whole users, all their events, whole columns at a
time.

The frames that come out still lack what only all shards together know: item features, and who is
held out.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, timedelta

import polars as pl

from beam_jobs import day_plan, user_hashing
from beam_jobs.beam import batches
from beam_jobs.beam.coded_lists import CodedLists
from beam_jobs.ingest.records import within
from beam_jobs.point_in_time import decayed_counts, distinct, history
from beam_jobs.point_in_time.history import ITEM_NUMBER
from beam_jobs.point_in_time.job import FeatureJob
from twinspire_core.config.feature_kinds import HistoryFeature, IdFeature, TimeFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema

SAMPLING_HASH = "_sampling_hash"
"""A number drawn for the user and the day; the users with the smallest are held out."""
TAIL = "_tail"
"""The user's last items, oldest first."""
_PLACE = "_place"
_FILE = "_file"
"""Number of the file that the user's rows go to, in each table of users."""
_LOW = "_low"
_HIGH = "_high"
"""Of an example: from `_low` up to, without, `_high` stand the user's last events before it."""


def relevant_types(p: Pipeline) -> set[str]:
    """Event types that are used at all; empty when all are."""
    if not p.columns.positives:
        return set()
    return {*p.columns.positives, *history_types(p)}


def history_types(p: Pipeline) -> tuple[str, ...]:
    """Event types that enter histories: the positives, if the history does not list its own; empty
    when all do.
    """
    own = p.history.types if p.history else ()
    return own or p.columns.positives


class UserShard:
    """One shard, or several.

    Attributes:
      events: sorted by user, time, item; no two with the same user, item, time and type (the first
        in the logs stays). Columns of `columns.events`, `_day`, `_code` (number of the user),
        `_positive`.
      past: those that enter histories.
      items: [D] String, the distinct items; `_item_number` of an event is the place of its own.
      duplicates: copies dropped, by number of the day.
      excess: events dropped that are beyond `source.max_user_events`, by number of the day.
    """

    def __init__(self, job: FeatureJob, events: pl.DataFrame, users: pl.DataFrame | None) -> None:
        """Sorts the events, and drops copies and excess.

        Args:
          job: the job.
          events: columns of `columns.events`, `_order`, `_day`, in any order.
          users: columns of `columns.users`, `_order`, `_snapshot` (number of the day), in any
            order.
        """
        self._job = job
        self._p = job.p
        self.items, places = _places(events)
        events = events.with_columns(places)
        within_limit = within(events, self._p.source.max_user_events, user="_code")
        self.excess: Counter[int] = Counter()
        if len(within_limit) < len(events):
            self.excess = _by_day(events) - _by_day(within_limit)

        # Of equal events the first in the logs is kept: `_order` is last among the sort keys, and
        # a copy has the same keys as the row before it.
        keys = ["_code", "_time", ITEM_NUMBER]
        if "_type" in events.columns:
            keys.append("_type")
        events = within_limit.sort(_PLACE, ITEM_NUMBER, *keys[3:], "_order").drop(_PLACE)
        same_as_before = (pl.col(name).eq_missing(pl.col(name).shift()) for name in keys)
        is_copy = events.select(pl.all_horizontal(same_as_before).fill_null(False)).to_series()
        self.duplicates = _by_day(events.filter(is_copy))
        positive = _of_type(self._p.columns.positives).alias("_positive")
        self.events = events.filter(~is_copy).with_columns(positive)
        is_first = pl.col("_code") != pl.col("_code").shift(fill_value=-1)
        users_of_events = self.events.filter(is_first).select("_user", "_code")
        file = user_hashing.shards(users_of_events["_user"], job.user_files)
        self._numbers = users_of_events.with_columns(file.alias(_FILE))
        # Histories may have other types than the positives: what is looked at, say, beside what is
        # bought.
        self.past = self.events.filter(_of_type(history_types(self._p)))
        self._users = users.sort("_user", "_snapshot", "_order") if users is not None else None
        self._length = self._p.history.length if self._p.history else 0
        self._hashes: dict[date, pl.DataFrame] = {}

    def positives(self, day: date | None = None) -> pl.DataFrame:
        """The positives, of one day or of all."""
        chosen = pl.col("_positive")
        if day is not None:
            chosen &= pl.col("_day") == day_plan.number(day)
        return self.events.filter(chosen)

    def sampling_hashes(self, day: date) -> pl.DataFrame:
        """The hash of each user with a positive on the day: `_user`, `_sampling_hash`."""
        if day not in self._hashes:
            users = self.positives(day)["_user"].unique(maintain_order=True)
            hashes = user_hashing.sampling_hashes(users, str(day))
            self._hashes[day] = pl.DataFrame([users, pl.Series(SAMPLING_HASH, hashes, pl.UInt64)])
        return self._hashes[day]

    def by_file(self, rows: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
        """The rows with `_user` by number of their file, in their order. It may be none: there is a
        file of all users that have events.
        """
        placed = rows.select("_user").join(
            self._numbers, on="_user", how="left", maintain_order="left"
        )
        found = dict(batches.slices(placed[_FILE], rows))
        for file in self._numbers[_FILE].unique().sort():
            yield file, found.get(file, rows.clear())

    def examples(self) -> Iterator[tuple[str, pl.DataFrame, dict[str, CodedLists]]]:
        """Examples without item features, by the file that they go to, some thousands at a time; their
        histories, by column.
        """
        timeline = history.Timeline(self.past)
        for day in self._job.plan.examples:
            rows = self.positives(day)
            if rows.is_empty():
                continue
            # An example sees what came strictly before it: events of the window, and of its own
            # day up to its moment.
            low, high = timeline.spans(rows, self._window_start(day), self._length)
            rows = rows.with_columns(pl.Series(_LOW, low), pl.Series(_HIGH, high))
            hashes = self.sampling_hashes(day)
            rows = rows.join(hashes, on="_user", how="left", maintain_order="left")
            rows = self._with_query_features(rows, day)
            rows = rows.with_columns(_reward(self._p, rows).alias("_reward"))
            yield from self._in_blocks(day, rows)

    def _in_blocks(
        self, day: date, rows: pl.DataFrame
    ) -> Iterator[tuple[str, pl.DataFrame, dict[str, CodedLists]]]:
        """Examples of a day by file; their histories are gathered some thousands at a time."""
        numbers = self.past[ITEM_NUMBER].to_numpy()
        folder = f"{feature_schema.EXAMPLES}/{feature_schema.day_folder(day)}"
        hours, parts = self._job.example_files[day]
        first_hour = rows.select(self._clock().dt.hour() // hours * hours).to_series()
        part = user_hashing.shards(rows["_user"], parts)
        # Histories are the most of an example's bytes: few rows have them at a time.
        for number, block in batches.slices(first_hour.cast(pl.Int32) * parts + part, rows):
            hour, of_users = divmod(number, parts)
            name = f"{hour:02d}-{of_users:03d}" if parts > 1 else f"{hour:02d}"
            for some in block.iter_slices(batches.ROW_GROUP):
                low = some[_LOW].to_numpy()
                high = some[_HIGH].to_numpy()
                tails = history.gather(self.items, numbers, low, high)
                histories = dict.fromkeys(self._p.of_kind(HistoryFeature), tails)
                yield f"{folder}/{name}.parquet", some, histories

    def analysis(self) -> pl.DataFrame:
        """Positives of the vocabulary days: `_time`, query features."""
        first = day_plan.number(self._job.plan.analysis[0])
        rows = self.positives().filter(pl.col("_day") >= first)
        if self._p.user_id:
            rows = rows.with_columns(pl.col("_user").alias(self._p.user_id))
        # As of the run's day, for all vocabulary days: what was valid on older ones may not be read.
        return self._with_users(rows, self._job.plan.day)

    def evaluation(self) -> pl.DataFrame:
        """Queries as of the start of each day for users with a positive on it; newcomers' as of
        their first one.

        On days before the last, only of users that may be held out.
        """
        highest = user_hashing.limit(self._p.evaluation.holdout)
        days = []
        for day in self._job.plan.evaluation:
            hashes = self.sampling_hashes(day)
            # Who is held out only all shards know; it is nobody with a hash above this.
            if day != self._job.plan.day:
                hashes = hashes.filter(pl.col(SAMPLING_HASH) < highest)
            distinct_items = self.positives(day).unique(
                ["_code", ITEM_NUMBER], keep="first", maintain_order=True
            )
            truth = distinct_items.group_by("_code", maintain_order=True).agg(
                pl.col("_user").first(), pl.col("_item").alias("_truth")
            )
            queried = truth.drop("_code").join(hashes, on="_user")
            known = self._known(day, queried)
            newcomers = self._newcomers(day, queried.join(known, on="_user", how="anti"))
            rows = pl.concat([known, newcomers], how="diagonal")
            rows = rows.join(queried, on="_user", maintain_order="left")
            days.append(rows.with_columns(pl.lit(day).alias("_day")))
        return pl.concat(days, how="diagonal")

    def interaction_counts(self) -> pl.DataFrame:
        """What each user of the history window had before the day: `_user`, `_past`,
        `_past_counts`.
        """
        past = self.past.filter(self._in_window_before(self._job.plan.day))
        return history.interaction_counts(past, feature_schema.PAST_LENGTH)

    def sequences(self, day: date) -> pl.DataFrame:
        """What each user took before the start of `day`, in the window of the sources that are
        fitted on it: `_user`, `_items` and `_ages` in days, newest first.
        """
        first = day - timedelta(days=day_plan.personal_days(self._p))
        start = day_plan.start_of(first, self._p.zone)
        end = day_plan.start_of(day, self._p.zone)
        taken = self.positives().filter(pl.col("_time").is_between(start, end, closed="left"))
        newest = taken.sort("_code", "_time", ITEM_NUMBER, descending=[False, True, False])
        age = (pl.lit(end) - pl.col("_time")) / day_plan.MICROSECONDS_OF_A_DAY
        return newest.group_by("_user", maintain_order=True).agg(
            pl.col("_item").head(feature_schema.SEQUENCE_LENGTH).alias("_items"),
            age.head(feature_schema.SEQUENCE_LENGTH).cast(pl.Float32).alias("_ages"),
        )

    def users(self) -> pl.DataFrame:
        """Users of the history window as they would be served on the day after."""
        rows = self._known(day_plan.after(self._job.plan.day))
        return rows.with_columns(pl.col("_time").alias("_last_time"))

    def _known(self, day: date, among: pl.DataFrame | None = None) -> pl.DataFrame:
        """Users with events in the window before `day`, sorted, as known at its start.

        Args:
          day: the day.
          among: `_user` of those that are wanted; all by default.
        """
        wanted = self._in_window_before(day)
        if among is not None:
            # Numbers of users are looked up faster than their ids.
            numbers = self._numbers.join(among, on="_user", how="semi")["_code"]
            wanted &= pl.col("_code").is_in(numbers.implode())
        events = self.events.filter(wanted)
        past = self.past.filter(wanted)
        counts = history.interaction_counts(past, feature_schema.PAST_LENGTH)
        tails = history.tails(past, self._length)
        # Their context is that of their last event, of whatever type.
        rows = history.last_events(events)
        rows = rows.join(counts, on="_user", how="left", maintain_order="left")
        rows = rows.join(tails, on="_user", how="left", maintain_order="left")
        rows = rows.with_columns(pl.col("_past_events").fill_null(0))
        if self._p.uses_personal_counts:
            personal = self._personal_counts(day, rows)
            rows = rows.join(personal, on="_user", how="left", maintain_order="left")
        return self._with_query_features(rows, day)

    def _personal_counts(self, day: date, among: pl.DataFrame) -> pl.DataFrame:
        """Decayed counts of what some users had before `day`, in a window of its own."""
        first = day - timedelta(days=day_plan.personal_days(self._p))
        start = day_plan.start_of(first, self._p.zone)
        end = day_plan.start_of(day, self._p.zone)
        past = self.past.filter(pl.col("_time").is_between(start, end, closed="left"))
        past = past.join(among.select("_user"), on="_user", how="semi")
        return decayed_counts.personal(
            past, end, feature_schema.PAST_LENGTH, spans=self._p.ranking.enabled
        )

    def _newcomers(self, day: date, among: pl.DataFrame) -> pl.DataFrame:
        """Users of whom nothing is known at the start of `day`, in the context of their first
        positive of the day.
        """
        rows = self.positives(day).join(among, on="_user", how="semi", maintain_order="left")
        rows = rows.unique("_user", keep="first", maintain_order=True)
        nothing = pl.lit([], pl.List(pl.String))
        rows = rows.with_columns(
            nothing.alias(TAIL), nothing.alias("_past"), pl.lit(0, pl.Int64).alias("_past_events")
        )
        return self._with_query_features(rows, day)

    def _window_start(self, day: date) -> int:
        """The instant at which the history window of a day begins."""
        first = day - timedelta(days=self._p.window.history_days)
        return day_plan.start_of(first, self._p.zone)

    def _in_window_before(self, day: date) -> pl.Expr:
        """Whether an event lies in the history window of the start of `day`."""
        end = day_plan.start_of(day, self._p.zone)
        return pl.col("_time").is_between(self._window_start(day), end, closed="left")

    def _with_query_features(self, rows: pl.DataFrame, day: date) -> pl.DataFrame:
        """Adds the query features of rows that have `_user`, `_time`, `_tail` and the context of an
        event.
        """
        added: list[pl.Expr] = []
        for name, f in self._p.tower("query").items():
            match f:
                case IdFeature():
                    added.append(pl.col("_user").alias(name))
                case HistoryFeature() if TAIL in rows.columns:
                    added.append(pl.col(TAIL).alias(name))
                case TimeFeature():
                    hour, weekday = f.columns(name)
                    added.append(self._clock().dt.hour().cast(pl.Int64).alias(hour))
                    added.append(pl.lit(day.weekday(), pl.Int64).alias(weekday))
        return self._with_users(rows.with_columns(added), day)

    def _with_users(self, rows: pl.DataFrame, day: date) -> pl.DataFrame:
        """Joins what the newest snapshot before `day` knows of the users.

        A snapshot of the day itself says how users were after it, so it would tell the future.
        """
        snapshot_day = self._job.inputs.users_of.get(day)
        if self._users is None or snapshot_day is None:
            return rows
        is_valid = pl.col("_snapshot") == day_plan.number(snapshot_day)
        snapshot = self._users.filter(is_valid).drop("_snapshot", "_order")
        snapshot = snapshot.unique("_user", keep="last")
        return rows.join(snapshot, on="_user", how="left", maintain_order="left")

    def _clock(self) -> pl.Expr:
        """Wall-clock time of the pipeline's zone."""
        instant = pl.col("_time").cast(pl.Datetime("us", "UTC"))
        return instant.dt.convert_time_zone(self._p.pipeline.time_zone)


def _places(events: pl.DataFrame) -> tuple[pl.Series, list[pl.Series]]:
    """The distinct items; and what events are sorted by: `_code`; user and time in one number,
    `_PLACE`; `_item_number`.
    """
    # Numbers are sorted in half the time of strings, and one number faster than two. Shards that
    # are worked on together are so few users that this one has room (shard_steps.Work).
    _, user = distinct.numbered(events["_user"])
    items, item = distinct.numbered(events["_item"])
    since = pl.col("_time") - pl.col("_time").min()
    place = events.select(user * (since.max() + 1) + since).to_series()
    return items, [user.alias("_code"), place.alias(_PLACE), item.alias(ITEM_NUMBER)]


def _by_day(events: pl.DataFrame) -> Counter[int]:
    return Counter(dict(events.group_by("_day").len().iter_rows()))


def _of_type(types: Sequence[str]) -> pl.Expr:
    if not types:
        return pl.lit(True)
    return pl.col("_type").is_in(types).fill_null(False)


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
