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
from beam_jobs.ingest.records import within
from beam_jobs.point_in_time import history
from beam_jobs.point_in_time.job import FeatureJob
from twinspire_core.config.feature_kinds import HistoryFeature, IdFeature, TimeFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema

SAMPLING_HASH = "_lot"
"""A number drawn for the user and the day; the smallest are held out."""
TAIL = "_tail"
"""The user's last items, oldest first."""
_LOW, _HIGH = "_low", "_high"
"""Of an example, where the user's last items before it stand among the past events."""
SHARD = "_shard"
"""The user's shard."""
_ORDERED = ["_user", "_time", "_item"]


def relevant_types(p: Pipeline) -> set[str]:
    """Event types that are used at all; empty when all are."""
    return {*p.columns.positives, *history_types(p)} if p.columns.positives else set()


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
        in the logs stays). Columns of `columns.events`, `_shard`, `_day`, `_code` (number of the
        user), `_positive`.
      past: those that enter histories.
      doubles: copies dropped, by number of the day.
      excess: events dropped that are beyond `source.max_user_events`, by number of the day.
    """

    def __init__(self, job: FeatureJob, events: pl.DataFrame, users: pl.DataFrame | None) -> None:
        """Sorts out the events.

        Args:
          job: the job.
          events: columns of `columns.events`, `_order`, `_day`, `_shard`, in any order.
          users: columns of `columns.users`, `_order`, `_snapshot` (number of the day), in any
            order.
        """
        self._job, self._p = job, job.p
        few = within(events, self._p.source.max_user_events)
        self.excess = _by_day(events) - _by_day(few) if len(few) < len(events) else Counter()
        events = few
        same = [*_ORDERED, *(["_type"] if "_type" in events.columns else [])]
        events = events.sort(*same, "_order")
        copy = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift()) for name in same)
        copies = events.select("_day", copy.fill_null(False).alias("copy"))
        self.doubles = dict(copies.filter("copy").group_by("_day").len().iter_rows())
        events = events.filter(~copies["copy"])
        self.events = events.with_columns(
            pl.col("_user").rle_id().cast(pl.Int64).alias("_code"),
            _of_type(self._p.columns.positives).alias("_positive"),
        )
        self.past = self.events.filter(_of_type(history_types(self._p)))
        self._users = users.sort("_user", "_snapshot", "_order") if users is not None else None
        self._length = self._p.history.length if self._p.history else 0
        self._lots: dict[date, pl.DataFrame] = {}

    def positives(self, day: date | None = None) -> pl.DataFrame:
        """The positives, of one day or of all."""
        on_day = pl.col("_day") == day_plan.number(day) if day else pl.lit(True)
        return self.events.filter(pl.col("_positive") & on_day)

    def lots(self, day: date) -> pl.DataFrame:
        """Draws a lot for each user with a positive on the day: `_user`, `_lot`."""
        if day not in self._lots:
            users = self.positives(day)["_user"].unique(maintain_order=True)
            drawn = pl.Series(
                SAMPLING_HASH, user_hashing.sampling_hashes(users, str(day)), pl.UInt64
            )
            self._lots[day] = pl.DataFrame([users, drawn])
        return self._lots[day]

    def by_shard(self, rows: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
        """The rows with `_user` of each shard, in their order; none, too, of a shard that has only
        events.
        """
        of = self.events.select("_user", SHARD).unique("_user")
        numbers = rows.select("_user").join(of, on="_user", how="left", maintain_order="left")[
            SHARD
        ]
        found = dict(batches.slices(numbers, rows))
        for number in of[SHARD].unique().sort():
            yield number, found.get(number, rows.clear())

    def examples(self) -> Iterator[tuple[str, pl.DataFrame]]:
        """Examples without item features, by the file that they go to, some thousands at a time."""
        histories = list(self._p.of_kind(HistoryFeature))
        for day in self._job.plan.examples:
            rows = self.positives(day)
            if rows.is_empty():
                continue
            start = day_plan.start_of(
                day - timedelta(days=self._p.window.history_days), self._p.zone
            )
            low, high = history.spans(self.past, rows, start, self._length)
            rows = rows.with_columns(pl.Series(_LOW, low), pl.Series(_HIGH, high))
            rows = rows.join(self.lots(day), on="_user", how="left", maintain_order="left")
            rows = self._query(rows, day).with_columns(_reward(self._p, rows).alias("_reward"))
            hours = self._job.block_hours[day]
            block = rows.select(self._clock().dt.hour() // hours * hours).to_series()
            for hour, part in batches.slices(block, rows):
                file = (
                    f"{feature_schema.EXAMPLES}/{feature_schema.day_folder(day)}/{hour:02d}.parquet"
                )
                for some in part.iter_slices(batches.ROW_GROUP):
                    tails = history.gather(
                        self.past["_item"], some[_LOW].to_numpy(), some[_HIGH].to_numpy()
                    )
                    yield file, some.with_columns(tails.alias(name) for name in histories)

    def analysis(self) -> pl.DataFrame:
        """Positives of the vocabulary days, without item features: `_item`, `_day`, `_time`, query
        features.
        """
        wanted = set(feature_schema.analysis_schema(self._p).names)
        ids = [pl.col("_user").alias(self._p.user_id)] if self._p.user_id else []
        rows = (
            self.positives()
            .filter(pl.col("_day") >= day_plan.number(self._job.plan.analysis[0]))
            .with_columns(ids)
        )
        rows = self._with_users(rows, self._job.plan.day)
        return rows.select(name for name in rows.columns if name in wanted | {"_item", "_day"})

    def evaluation(self) -> pl.DataFrame:
        """Queries as of the start of each day for users with a positive on it; newcomers' as of
        their first one.

        On days before the last, only of users that may be held out.
        """
        least = user_hashing.limit(self._p.evaluation.holdout)
        found = []
        for day in self._job.plan.evaluation:
            lots = self.lots(day)
            lots = lots if day == self._job.plan.day else lots.filter(pl.col(SAMPLING_HASH) < least)
            truth = (
                self.positives(day)
                .join(lots, on="_user", how="semi")
                .group_by("_user", maintain_order=True)
            )
            asked = truth.agg(pl.col("_item").unique(maintain_order=True).alias("_truth")).join(
                lots, on="_user"
            )
            known = self._known(day, asked)
            unknown = self._newcomers(day, asked.join(known, on="_user", how="anti"))
            rows = pl.concat([known, unknown], how="diagonal").join(
                asked, on="_user", maintain_order="left"
            )
            found.append(rows.with_columns(pl.lit(day).alias("_day")))
        return pl.concat(found, how="diagonal")

    def pasts(self) -> pl.DataFrame:
        """What each user of the history window had before the day: `_user`, `_past`,
        `_past_counts`.
        """
        return history.interaction_counts(
            self.past.filter(self._before(self._job.plan.day)), feature_schema.PAST_LENGTH
        )

    def users(self) -> pl.DataFrame:
        """Users of the history window as they would be served on the day after."""
        rows = self._known(day_plan.after(self._job.plan.day))
        return rows.with_columns(pl.col("_time").alias("_last_time"))

    def _known(self, day: date, asked: pl.DataFrame | None = None) -> pl.DataFrame:
        """Users with events in the window before `day`, sorted, as known at its start."""
        window = self._before(day)
        events, past = self.events.filter(window), self.past.filter(window)
        if asked is not None:
            events = events.join(asked, on="_user", how="semi", maintain_order="left")
            past = past.join(asked, on="_user", how="semi", maintain_order="left")
        rows = history.last_events(events)
        for part in (
            history.interaction_counts(past, feature_schema.PAST_LENGTH),
            history.tails(past, self._length),
        ):
            rows = rows.join(part, on="_user", how="left", maintain_order="left")
        return self._query(rows.with_columns(pl.col("_past_events").fill_null(0)), day)

    def _newcomers(self, day: date, asked: pl.DataFrame) -> pl.DataFrame:
        """Users of whom nothing is known at the start of `day`, in the context of their first
        positive of the day.
        """
        rows = self.positives(day).join(asked, on="_user", how="semi", maintain_order="left")
        rows = rows.unique("_user", keep="first", maintain_order=True)
        nothing = pl.lit([], pl.List(pl.String))
        rows = rows.with_columns(
            nothing.alias(TAIL), nothing.alias("_past"), pl.lit(0, pl.Int64).alias("_past_events")
        )
        return self._query(rows, day)

    def _before(self, day: date) -> pl.Expr:
        """Whether an event lies in the history window of the start of `day`."""
        first = day_plan.start_of(day - timedelta(days=self._p.window.history_days), self._p.zone)
        return pl.col("_time").is_between(
            first, day_plan.start_of(day, self._p.zone), closed="left"
        )

    def _query(self, rows: pl.DataFrame, day: date) -> pl.DataFrame:
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
        """Joins what the newest snapshot before `day` knows of the users."""
        at = self._job.inputs.users_of.get(day)
        if self._users is None or at is None:
            return rows
        snapshot = self._users.filter(pl.col("_snapshot") == day_plan.number(at)).drop(
            "_snapshot", "_order"
        )
        return rows.join(
            snapshot.unique("_user", keep="last"), on="_user", how="left", maintain_order="left"
        )

    def _clock(self) -> pl.Expr:
        instant = pl.col("_time").cast(pl.Datetime("us", "UTC"))
        return instant.dt.convert_time_zone(self._p.pipeline.time_zone)


def _by_day(events: pl.DataFrame) -> Counter[int]:
    return Counter(dict(events.group_by("_day").len().iter_rows()))


def _of_type(types: Sequence[str]) -> pl.Expr:
    return pl.col("_type").is_in(types).fill_null(False) if types else pl.lit(True)


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
