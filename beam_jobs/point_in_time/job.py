"""One run of the feature job: what it reads, and what every worker knows of it.

Some shards of the users: whole users, all their events, whole columns at a time.

What is made of them is in examples.py. The frames that it gives still lack what only all
shards together know: item features, and who is held out.

Events are in one order, without what does not count: copies, and what is beyond
`source.max_user_events`.
"""

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import NamedTuple

import polars as pl

from beam_jobs import day_plan
from beam_jobs.beam import batches
from beam_jobs.day_plan import Plan, Scope, days_to_replay, known_days, make_plan
from beam_jobs.ingest import day_files, later_folders
from beam_jobs.ingest.day_files import Inputs, SourceFile
from beam_jobs.ingest.later_folders import LateEvents
from beam_jobs.ingest.records import within
from beam_jobs.point_in_time import item_counts
from beam_jobs.point_in_time.history import ITEM_NUMBER
from beam_jobs.point_in_time.item_counts import history_types, of_type
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import forgotten_users
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.forgotten_users import NOBODY, ForgottenUsers
from twinspire_core.errors import format_message
from twinspire_core.records.csv_lines import format_of
from twinspire_core.terminal import console

_PLACE = "_place"


class SortedEvents(NamedTuple):
    """Events, sorted.

    Attributes:
      events: by user, time, item; no two with the same user, item, time and type (the first in the
        logs stays). Beside their own columns `_code` (number of the user) and `_item_number`.
      items: [D] String, the distinct items; `_item_number` of an event is the place of its own.
      duplicates: copies dropped, by number of the day.
      excess: events dropped that are beyond the limit, by number of the day.
    """

    events: pl.DataFrame
    items: pl.Series
    duplicates: Counter[int]
    excess: Counter[int]


def sort_events(events: pl.DataFrame, most: int) -> SortedEvents:
    """Sorts events, and drops copies and excess.

    Args:
      events: columns of `columns.events`, `_order`, `_day`, in any order.
      most: events of a user in a day that count.
    """
    items, places = _places(events)
    events = events.with_columns(places)
    within_limit = within(events, most, user="_code")
    excess: Counter[int] = Counter()
    if len(within_limit) < len(events):
        excess = _by_day(events) - _by_day(within_limit)

    # Of equal events the first in the logs is kept: `_order` is last among the sort keys, and a
    # copy has the same keys as the row before it.
    keys = ["_code", "_time", ITEM_NUMBER]
    if "_type" in events.columns:
        keys.append("_type")
    events = within_limit.sort(_PLACE, ITEM_NUMBER, *keys[3:], "_order").drop(_PLACE)
    same_as_before = (pl.col(name).eq_missing(pl.col(name).shift()) for name in keys)
    is_copy = events.select(pl.all_horizontal(same_as_before).fill_null(False)).to_series()
    return SortedEvents(
        events=events.filter(~is_copy),
        items=items,
        duplicates=_by_day(events.filter(is_copy)),
        excess=excess,
    )


def _places(events: pl.DataFrame) -> tuple[pl.Series, list[pl.Series]]:
    """The distinct items; and what events are sorted by: `_code`; user and time in one number,
    `_PLACE`; `_item_number`.
    """
    # Numbers are sorted in half the time of strings, and one number faster than two. Shards that
    # are worked on together are so few users that this one has room (shard_steps.Work).
    _, user = item_counts.numbered(events["_user"])
    items, item = item_counts.numbered(events["_item"])
    since = pl.col("_time") - pl.col("_time").min()
    place = events.select(user * (since.max() + 1) + since).to_series()
    return items, [user.alias("_code"), place.alias(_PLACE), item.alias(ITEM_NUMBER)]


def _by_day(events: pl.DataFrame) -> Counter[int]:
    return Counter(dict(events.group_by("_day").len().iter_rows()))


SAMPLING_HASH = "_sampling_hash"
"""A number drawn for the user and the day; the users with the smallest are held out."""


_FILE = "_file"
"""Number of the file that the user's rows go to, in each table of users."""


class ExampleFiles(NamedTuple):
    """How a day of examples is cut into files: at full hours, and each of these by its users.

    Attributes:
      hours: of the day that share a file.
      parts: of the users.
    """

    hours: int
    parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureJob:
    """One run of the feature job; workers get a copy.

    Attributes:
      p: the pipeline.
      plan: its days.
      inputs: its files.
      late: what of `inputs.later` is read with them.
      out: URI of the folder that it writes to.
      example_files: by day of examples, how it is cut into files.
      user_files: how many files a table of users has: by the hash of the user, and so not by
        `beam.shards`, which say only who works.
      most_held_out: the most users held out of a day.
      partials: URI of the folder where what is read of logs is kept, and looked for; None to read
        all of them.
      forgotten: users whose records are dropped.
      token: names this run beside others in the same process, in caches that they share.
    """

    p: Pipeline
    plan: Plan
    inputs: Inputs
    late: LateEvents
    out: str
    example_files: dict[date, ExampleFiles]
    user_files: int
    most_held_out: int
    partials: str | None = None
    forgotten: ForgottenUsers = NOBODY
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def most_replayed(self) -> int:
        """Users of a replayed day at the most."""
        return -(-REPLAYED_USERS // max(1, len(self.plan.replay)))

    def for_workers(self) -> "FeatureJob":
        """The copy that steps carry to workers: without the files of events and users, of which there
        may be thousands. Elements of the job name those that a step is to read.
        """
        inputs = replace(self.inputs, events={}, users={}, later={})
        return replace(self, inputs=inputs, late=self.late._replace(files={}))


class UserShard:
    """One shard, or several.

    Attributes:
      job: the job.
      events: sorted as by `sort_events`, without copies and excess. Columns of `columns.events`,
        `_day`, `_code` (number of the user), `_item_number`, `_positive`.
      past: those that enter histories.
      items: [D] String, the distinct items; `_item_number` of an event is the place of its own.
      duplicates: copies dropped, by number of the day.
      excess: events dropped that are beyond `source.max_user_events`, by number of the day.
      length: the most items that a history has; 0 without one.
    """

    def __init__(self, job: FeatureJob, events: pl.DataFrame, users: pl.DataFrame | None) -> None:
        """Sorts the events, and drops copies and excess.

        Args:
          job: the job.
          events: columns of `columns.events`, `_order`, `_day`, in any order.
          users: columns of `columns.users`, `_order`, `_snapshot` (number of the day), in any
            order.
        """
        self.job = job
        p = job.p
        found = sort_events(events, p.source.max_user_events)
        self.items = found.items
        self.duplicates = found.duplicates
        self.excess = found.excess
        positive = of_type(p.columns.positives).alias("_positive")
        self.events = found.events.with_columns(positive)
        is_first = pl.col("_code") != pl.col("_code").shift(fill_value=-1)
        users_of_events = self.events.filter(is_first).select("_user", "_code")
        file = day_plan.shards(users_of_events["_user"], job.user_files)
        self._numbers = users_of_events.with_columns(file.alias(_FILE))
        # Histories may have other types than the positives: what is looked at, say, beside what is
        # bought.
        self.past = self.events.filter(of_type(history_types(p)))
        self._users = users.sort("_user", "_snapshot", "_order") if users is not None else None
        self.length = p.history.length if p.history else 0
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
            hashes = day_plan.sampling_hashes(users, str(day))
            self._hashes[day] = pl.DataFrame([users, pl.Series(SAMPLING_HASH, hashes, pl.UInt64)])
        return self._hashes[day]

    def by_file(self, rows: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
        """The rows with `_user` by number of their file, in their order. A file may get no rows:
        all users that have events have one.
        """
        placed = rows.select("_user").join(
            self._numbers, on="_user", how="left", maintain_order="left"
        )
        found = dict(batches.slices(placed[_FILE], rows))
        for file in self._numbers[_FILE].unique().sort():
            yield file, found.get(file, rows.clear())

    def codes(self, users: pl.DataFrame) -> pl.Series:
        """Numbers of the users in `_user` of a frame, which are looked up faster than their ids."""
        return self._numbers.join(users, on="_user", how="semi")["_code"]

    def window_start(self, day: date) -> int:
        """The instant at which the history window of a day begins."""
        return self.days_before(day, self.job.p.window.history_days)[0]

    def days_before(self, day: date, days: int) -> tuple[int, int]:
        """The instants at which the `days` days before `day` begin and end."""
        zone = self.job.p.zone
        return day_plan.start_of(day - timedelta(days=days), zone), day_plan.start_of(day, zone)

    def snapshot(self, day: date) -> pl.DataFrame | None:
        """What the newest snapshot before `day` knows of the users: `_user`, their columns; None
        without one.

        A snapshot of the day itself says how users were after it, so it would tell the future.
        """
        snapshot_day = self.job.inputs.users_of.get(day)
        if self._users is None or snapshot_day is None:
            return None
        is_valid = pl.col("_snapshot") == day_plan.number(snapshot_day)
        snapshot = self._users.filter(is_valid).drop("_snapshot", "_order")
        return snapshot.unique("_user", keep="last")


BLOCK_ROWS = 50_000
"""Events of a day whose examples share a file, at least; about twice as many at the most."""


USER_FILES = 16
"""Files of a table of users, until these would be too large."""


FILE_EVENTS = 1_000_000
"""Events of the longest window whose users share a file, at the most."""


REPLAYED_USERS = 6_000
"""Users of all replayed days together, each day's drawn by chance: of half as many, trees find less among
the first ten."""


MOST_HELD_OUT = 10_000
"""The most users held out of a day.

It is fixed: who was held out on a day may depend on `evaluation.holdout` alone.
"""


_BYTES_PER_ROW = {"parquet": 16, "jsonl": 120, "csv": 60}


_GZIP_RATIO = 6


def plan_job(ctx: StageContext, scope: Scope | None = None) -> FeatureJob:
    """Finds the files that a run reads, and cuts its days of examples into blocks of hours.

    Args:
      ctx: the stage's context.
      scope: what the run makes; by default what the stage's mode says.
    """
    plan = make_plan(ctx.pipeline, ctx.day, scope or ctx.mode, replays=ctx.replays)
    inputs = day_files.inputs(ctx.pipeline, plan)
    plan = replace(plan, replay=days_to_replay(ctx.pipeline, plan, inputs.events))
    if ctx.reuse is not None:
        inputs = replace(inputs, events=_with_digests(inputs.events, ctx.reuse.digests))
    late = later_folders.look(ctx.pipeline, ctx.day, inputs.later)
    for folder_day, reason in late.unreadable.items():
        if scope is None:
            command = f"run PIPELINE --date {ctx.day} --late"
        else:
            command = f"refresh PIPELINE --date {ctx.day}"
        text = f"Late events of {ctx.day} in the folder of {folder_day} are left out: {reason}"
        console.print(
            format_message(f"{text} To take them in then: twinspire {command}"),
            soft_wrap=True,
            markup=False,
        )
    rows = {day: _estimated_rows(ctx.pipeline, files) for day, files in inputs.events.items()}
    # Only days that each scope reads: whichever it is, a table of users has the same files.
    window = [plan.day - timedelta(days=n) for n in range(known_days(ctx.pipeline))]
    return FeatureJob(
        p=ctx.pipeline,
        plan=plan,
        inputs=inputs,
        late=late,
        out=ctx.out,
        example_files={day: cut_examples(rows.get(day, 0)) for day in plan.examples},
        user_files=count_user_files(sum(rows.get(day, 0) for day in window)),
        most_held_out=MOST_HELD_OUT,
        partials=ctx.reuse.partials if ctx.reuse else None,
        forgotten=forgotten_users.find(ctx.pipeline),
    )


def _with_digests(
    events: Mapping[date, tuple[SourceFile, ...]], digests: Mapping[str, str]
) -> dict[date, tuple[SourceFile, ...]]:
    """The same files, with the digests that the stage's key has of them; none of a file that has
    come since.
    """
    return {
        day: tuple(file._replace(digest=digests.get(day_files.input_name(file))) for file in files)
        for day, files in events.items()
    }


def cut_examples(rows: int) -> ExampleFiles:
    """How a day is cut into files of examples.

    Args:
      rows: of its logs, about. How many of them become examples is not known before the job; and
        the same logs give the same files.
    """
    blocks = max(1, rows // BLOCK_ROWS)
    hours = -(-24 // min(24, blocks))  # rounded up
    # A power of two, as most numbers of shards are: then a shard has users of few parts only, and
    # its batches are large enough to go through the job by file.
    return ExampleFiles(hours, parts=1 << max(0, (blocks // 24).bit_length() - 1))


def count_user_files(rows: int) -> int:
    """How many files a table of users has.

    Args:
      rows: of the logs of the longest window of users, about.
    """
    # A multiple of few files: of each shard's users, few files get any.
    return USER_FILES * max(1, -(-rows // (USER_FILES * FILE_EVENTS)))


def _estimated_rows(p: Pipeline, files: Sequence[SourceFile]) -> int:
    """Rows of a day's logs by their size, about."""
    return sum(_estimated_rows_of_file(file, p.source.format) for file in files)


def _estimated_rows_of_file(file: SourceFile, given_format: str) -> int:
    size = file.size
    if file.uri.endswith(".gz"):
        size *= _GZIP_RATIO
    return size // _BYTES_PER_ROW[format_of(file.uri, given_format)]
