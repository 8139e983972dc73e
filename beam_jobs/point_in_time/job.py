"""One run of the feature job: what it reads, and what every worker knows of it."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import NamedTuple

from beam_jobs.day_plan import Plan, Scope, days_to_replay, known_days, make_plan
from beam_jobs.ingest import day_files, later_folders
from beam_jobs.ingest.day_files import Inputs, SourceFile
from beam_jobs.ingest.later_folders import LateEvents
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import forgotten_users
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.forgotten_users import NOBODY, ForgottenUsers
from twinspire_core.errors import format_message
from twinspire_core.records.raw_files import format_of
from twinspire_core.terminal import console

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


def plan_job(ctx: StageContext, scope: Scope | None = None) -> FeatureJob:
    """Finds the files that a run reads, and cuts its days of examples into blocks of hours.

    Args:
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
