"""One run of the feature job: its days, columns, files and forgotten users, the late events that it takes
in, and how its output is cut into files.

Late events of a day lie in the folders of later days, since their logs arrived late. A day that has been run
stays done when more of them arrive. Its examples would change, and all later
days would have to be trained again for a few events. Late events enter the histories and counts of
later days; `--late` runs the day again with them. docs/decisions/0039-days.md
"""

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import NamedTuple

import polars as pl

from beam_jobs.day_plan import Plan, Scope, days_to_replay, known_days, make_plan
from beam_jobs.ingest import day_files, records
from beam_jobs.ingest.columns import Column, of_tables
from beam_jobs.ingest.day_files import SourceFile
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts, forgotten_users
from twinspire_core.errors import BadData, format_message
from twinspire_core.records.raw_files import format_of
from twinspire_core.terminal import console

_BITS = 256


class Digest:
    """Number and digest of events, whatever their order and files; the events are not kept."""

    def __init__(self) -> None:
        self.events = 0
        self._sum = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Adds events. Hashes are summed, so that the order does not matter, and a copy counts."""
        # As JSON, which is the same for the same values, whatever format and types the file had.
        for line in rows.write_ndjson().encode().splitlines():
            self._sum += int.from_bytes(hashlib.sha256(line).digest())
        self._sum %= 1 << _BITS
        self.events += len(rows)

    def merge(self, other: "Digest") -> None:
        """Adds the events of another digest."""
        self._sum = (self._sum + other._sum) % (1 << _BITS)
        self.events += other.events

    def __str__(self) -> str:
        """The digest, empty without events."""
        return f"{self._sum:0{_BITS // 4}x}" if self.events else ""


class LateEvents(NamedTuple):
    """Events of a day, and of days before it, in the folders of later days.

    Attributes:
      files: files that hold any, by the day of their folder.
      events: number of those of the day.
      digest: of the events of the day; empty without any.
      digest_of_all: of the events of the day and of earlier days.
      unreadable: why the folder of a day is left out.
    """

    files: Mapping[date, tuple[SourceFile, ...]]
    events: int
    digest: str
    digest_of_all: str
    unreadable: Mapping[date, str]


def find_late_events(
    p: Pipeline, day: date, later: Mapping[date, tuple[SourceFile, ...]]
) -> LateEvents:
    """Finds the late events of a day. Of files without any, only the column of times is read.

    A folder with a file that cannot be read is left out as a whole: it may be half written, and it is
    the folder of another day.

    Args:
      p: the parsed pipeline file.
      day: the day that the events belong to.
      later: files of the days after it, from `day_files.later_files`.
    """
    files: dict[date, tuple[SourceFile, ...]] = {}
    unreadable: dict[date, str] = {}
    wanted = of_tables(p)["events"]
    time = [column for column in wanted if column.name == "_time"]
    bounds = records.DayBounds.of(p, day)
    of_day = Digest()
    # Catalogue refreshes depend on the events of all earlier days, the day's own run on the day's.
    of_all = Digest()
    for folder_day, listed in later.items():
        # Of the folder alone, so that nothing of it counts if one of its files cannot be read.
        of_day_there = Digest()
        of_all_there = Digest()
        holding = []
        try:
            for file in listed:
                # Most files of later days hold no late event: reading their times is enough to know.
                if not any(len(rows) for rows in _until(p, file, time, bounds.end)):
                    continue
                before = of_all_there.events
                for rows in _until(p, file, wanted, bounds.end):
                    of_day_there.add(rows.filter(pl.col("_time") >= bounds.start))
                    of_all_there.add(rows)
                if of_all_there.events > before:
                    holding.append(file)
        except BadData as e:
            # The day itself is complete without these events, so it does not fail.
            unreadable[folder_day] = str(e)
            continue
        of_day.merge(of_day_there)
        of_all.merge(of_all_there)
        if holding:
            files[folder_day] = tuple(holding)
    return LateEvents(files, of_day.events, str(of_day), str(of_all), unreadable)


def _until(p: Pipeline, file: SourceFile, wanted: list[Column], end: int) -> Iterator[pl.DataFrame]:
    """The file's events before an instant, with some of their columns."""
    for rows in records.read_records(p, file, wanted, records.Account()):
        yield rows.filter(pl.col("_time") < end).drop(records.ORDER)


BLOCK_ROWS = 50_000
"""Events of a day whose examples share a file: at least this many, and at most about twice as many."""
USER_FILES = 16
"""Files of a table of users, until these would be too large."""
FILE_EVENTS = 1_000_000
"""Events of the longest window whose users share a file: at most this many."""
REPLAYED_USERS = 6_000
"""Users of all replayed days together, drawn by chance for each day: with half as many, the ranker is
worse at the first ten places.
"""
MOST_HELD_OUT = 10_000
"""The most users held out of a day.

It is fixed: who was held out on a day may depend on `evaluation.holdout` alone.
"""
_BYTES_PER_ROW = {"parquet": 16, "jsonl": 120, "csv": 60}
_GZIP_RATIO = 6


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
    """One run of the feature job: all that its steps have in common, worked out once. Workers get a copy.

    Attributes:
      p: the pipeline.
      plan: its days.
      columns: raw columns to read, by table.
      inputs: its files.
      late: files of later days with events of the day, which are read too.
      out: URI of the folder that it writes to.
      example_files: by day of examples, how it is cut into files.
      user_files: how many files a table of users has. Users go to files by their hash, not by shard:
        `beam.shards` changes only who works on what.
      most_held_out: the most users held out of a day.
      partials: URI of the folder of partials; None to read all logs and keep nothing.
      forgotten: users whose records are dropped.
      token: tells runs in one process apart in the caches that they share.
    """

    p: Pipeline
    plan: Plan
    columns: Mapping[str, list[Column]]
    inputs: day_files.Inputs
    late: LateEvents
    out: str
    example_files: dict[date, ExampleFiles]
    user_files: int
    most_held_out: int
    partials: str | None = None
    forgotten: forgotten_users.ForgottenUsers = forgotten_users.NOBODY
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def most_replayed(self) -> int:
        """The most users of a replayed day."""
        # Rounded up, so that many days do not leave a day without users.
        return -(-REPLAYED_USERS // max(1, len(self.plan.replay)))

    def for_workers(self) -> "FeatureJob":
        """The copy that steps carry to workers, without the files of events and users: there may be
        thousands, and the elements of the job name those that a step reads.
        """
        return replace(
            self,
            inputs=replace(self.inputs, events={}, users={}, later={}),
            late=self.late._replace(files={}),
        )


def plan_job(ctx: attempts.StageContext, scope: Scope | None = None) -> FeatureJob:
    """Finds the days and files of a run, and how its output is cut into files.

    Args:
      ctx: the stage's; its day need not have files.
      scope: what the run makes; by default what the stage's mode says.
    """
    plan = make_plan(ctx.pipeline, ctx.day, scope or ctx.mode, replays=ctx.replays)
    inputs = day_files.inputs(ctx.pipeline, plan)
    plan = replace(plan, replay=days_to_replay(ctx.pipeline, plan, inputs.events))
    if ctx.reuse is not None:
        # Only digests that the stage's key was made of. A file that arrived after that has no digest.
        digests = ctx.reuse.digests
        events = {
            day: tuple(
                file._replace(digest=digests.get(day_files.input_name(file))) for file in files
            )
            for day, files in inputs.events.items()
        }
        inputs = replace(inputs, events=events)
    late = find_late_events(ctx.pipeline, ctx.day, inputs.later)
    for folder_day, reason in late.unreadable.items():
        command = "run" if scope is None else "refresh"
        late_option = " --late" if scope is None else ""
        text = (
            f"Late events of {ctx.day} in the folder of {folder_day} are left out: {reason} To take"
            f" them in then: twinspire {command} PIPELINE --date {ctx.day}{late_option}"
        )
        console.print(format_message(text), soft_wrap=True, markup=False)
    rows = {
        day: sum(_estimated_rows(file, ctx.pipeline.source.format) for file in files)
        for day, files in inputs.events.items()
    }
    # Only of days that every scope reads, so that a table of users always has the same files.
    window = [plan.day - timedelta(days=n) for n in range(known_days(ctx.pipeline))]
    rows_of_users = sum(rows.get(day, 0) for day in window)
    return FeatureJob(
        p=ctx.pipeline,
        plan=plan,
        columns=of_tables(ctx.pipeline),
        inputs=inputs,
        late=late,
        out=ctx.out,
        example_files={day: _cut_examples(rows.get(day, 0)) for day in plan.examples},
        # A multiple of a small number: so the users of a shard go to few of the files.
        user_files=USER_FILES * max(1, -(-rows_of_users // (USER_FILES * FILE_EVENTS))),
        most_held_out=MOST_HELD_OUT,
        partials=ctx.reuse.partials if ctx.reuse else None,
        forgotten=forgotten_users.find(ctx.pipeline),
    )


def _cut_examples(rows: int) -> ExampleFiles:
    """How a day is cut into files of examples, by the estimated rows of its logs.

    How many rows become examples is not known before the job, and the same logs give the same files.
    """
    blocks = max(1, rows // BLOCK_ROWS)
    hours = -(-24 // min(24, blocks))  # rounded up
    # A power of two, as most numbers of shards are: then a shard has users of few parts only, and
    # its batches are large enough to go through the job by file.
    return ExampleFiles(hours, parts=1 << max(0, (blocks // 24).bit_length() - 1))


def _estimated_rows(file: day_files.SourceFile, given_format: str) -> int:
    """The rows of a file, by its size."""
    size = file.size * (_GZIP_RATIO if file.uri.endswith(".gz") else 1)
    return size // _BYTES_PER_ROW[format_of(file.uri, given_format)]
