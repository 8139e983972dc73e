"""One run of the feature job: what it reads, and what every worker knows of it."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from rich.console import Console

from beam_jobs.day_plan import Plan, Scope, make_plan
from beam_jobs.ingest import day_files, later_folders
from beam_jobs.ingest.day_files import Inputs, SourceFile
from beam_jobs.ingest.later_folders import LateEvents
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.stage_context import StageContext
from twinspire_core.messages import format_message
from twinspire_core.records.raw_files import format_of

BLOCK_ROWS = 50_000
"""Examples that share a file, roughly: a day is cut at full hours into 1 to 24 files."""
MOST_HELD_OUT = 10_000
"""The most users held out of a day.

It is fixed: who was held out on a day may depend on `evaluation.holdout` alone.
"""
_BYTES_PER_ROW = {"parquet": 16, "jsonl": 120, "csv": 60}
_GZIP_RATIO = 6

console = Console(stderr=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureJob:
    """One run of the feature job; workers get a copy.

    Attributes:
      p: the pipeline.
      plan: its days.
      inputs: its files.
      late: what of `inputs.later` is read with them.
      out: URI of the folder that it writes to.
      block_hours: by day of examples, hours of the day that share a file.
      most_held_out: the most users held out of a day.
      partials: URI of the folder where what is read of logs is kept, and looked for; None to read
        all of them.
      token: names this run beside others in the same process, in caches that they share.
    """

    p: Pipeline
    plan: Plan
    inputs: Inputs
    late: LateEvents
    out: str
    block_hours: dict[date, int]
    most_held_out: int
    partials: str | None = None
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    def for_workers(self) -> "FeatureJob":
        """The copy that steps carry to workers: without the files of events and users, of which there
        may be thousands. Elements of the job name those that a step is to read.
        """
        inputs = replace(self.inputs, events={}, users={}, later={})
        return replace(self, inputs=inputs, late=self.late._replace(files={}))


def plan_job(ctx: StageContext, scope: Scope | None = None) -> FeatureJob:
    """Finds the files that a run reads, and cuts its days of examples into blocks of hours.

    Args:
      ctx: the stage's context.
      scope: what the run makes; by default what the stage's mode says.
    """
    plan = make_plan(ctx.pipeline, ctx.day, scope or ctx.mode)
    inputs = day_files.inputs(ctx.pipeline, plan)
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
    given_format = ctx.pipeline.source.format
    return FeatureJob(
        p=ctx.pipeline,
        plan=plan,
        inputs=inputs,
        late=late,
        out=ctx.out,
        block_hours={
            day: _block_hours(given_format, inputs.events.get(day, ())) for day in plan.examples
        },
        most_held_out=MOST_HELD_OUT,
        partials=ctx.reuse.partials if ctx.reuse else None,
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


def _block_hours(given_format: str, files: Sequence[SourceFile]) -> int:
    """Hours of a day that share a file of examples, by the size of the day's logs."""
    rows = sum(_estimated_rows(file, given_format) for file in files)
    # By the size of the logs, which is known before the job: how many rows of them become examples
    # is not. The same logs give the same files.
    blocks = min(24, max(1, rows // BLOCK_ROWS))
    return -(-24 // blocks)  # rounded up


def _estimated_rows(file: SourceFile, given_format: str) -> int:
    size = file.size
    if file.uri.endswith(".gz"):
        size *= _GZIP_RATIO
    return size // _BYTES_PER_ROW[format_of(file.uri, given_format)]
