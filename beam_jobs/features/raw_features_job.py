"""The first job of the stage `features`: everything that needs no transform graph. Imports no
TensorFlow.
"""

import json
from collections.abc import Callable
from typing import Any

import apache_beam as beam
from rich.console import Console

from beam_jobs.beam import batches, engine
from beam_jobs.features import job_report
from beam_jobs.features.job_graph import RawFeatures, Rows
from beam_jobs.point_in_time.job import plan_job
from twinspire_core import storage
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.stage_context import StageContext
from twinspire_core.errors import NothingToDo

_OF_CATALOGUE = (
    *(
        "rows",
        "rejected",
        "duplicates",
        "users",
        "items",
        "known_users",
        "corpus_end",
        "unlisted_items",
    ),
    *("unlisted_events", "snapshots", "days"),
)

console = Console(stderr=True)


def write_raw(ctx: StageContext, look: Callable[[Rows], None]) -> dict[str, Any]:
    """Writes examples, corpora, queries, users, rejected records and the report.

    Args:
      ctx: the stage's.
      look: adds the steps that look at the rows on their way.

    Returns:
      The report.

    Raises:
      NothingToDo: the day has no events.
      BadData: input breaks a rule of the pipeline file.
    """
    job = plan_job(ctx)
    days = job.inputs.events
    if ctx.day not in days:
        raise NothingToDo(f"{ctx.day} has no files of events ({ctx.pipeline.source.events}).")
    console.print(
        f"features {ctx.day}: {len(days)} days of events from {min(days)} on, "
        f"examples of {len(days.keys() & set(job.plan.examples))}"
    )

    def build(pipeline: beam.Pipeline) -> None:
        look(pipeline | "Raw features" >> RawFeatures(job))

    _run(ctx, build)
    numbers = job_report.read_numbers(job)
    found = job_report.make_report(job, numbers)
    found["late"]["digest"] = job.late.digest
    storage.write_bytes(
        storage.join(ctx.out, feature_schema.REPORT), json.dumps(found, indent=1).encode()
    )
    job_report.check(job, numbers)
    if warning := job_report.misplaced(job, found):
        console.print(f"features {ctx.day}: {warning}", soft_wrap=True)
    if found["excess"]:
        most = ctx.pipeline.source.max_user_events
        console.print(
            f"features {ctx.day}: {found['excess']:,} events beyond source.max_user_events ="
            f" {most:,} left out"
        )
    return found


def write_catalogue(ctx: StageContext) -> dict[str, Any]:
    """Writes only what is served after the day and needs no training: corpus, co-occurrence, users,
    as of its end.

    Days of events that are not there, the last one included, are done without.

    Returns:
      The report, as far as it is about these.

    Raises:
      BadData: a snapshot breaks a rule of the pipeline file, or there is none that is old enough.
    """
    job = plan_job(ctx, "catalogue")
    console.print(
        f"catalogue of {ctx.day}: {len(job.inputs.events)} days of events from {job.plan.first} on"
    )

    def build(pipeline: beam.Pipeline) -> None:
        _ = pipeline | "Raw features" >> RawFeatures(job)

    _run(ctx, build)
    numbers = job_report.read_numbers(job)
    job_report.check_snapshots(job, numbers)
    found = {
        name: value
        for name, value in job_report.make_report(job, numbers).items()
        if name in _OF_CATALOGUE
    }
    storage.write_bytes(
        storage.join(ctx.out, feature_schema.REPORT), json.dumps(found, indent=1).encode()
    )
    return found


def _run(ctx: StageContext, build: Callable[[beam.Pipeline], None]) -> None:
    """Runs the job; what went through it by file is removed, however it ends."""
    try:
        engine.run_job(ctx.pipeline.beam.options, build)
    finally:
        batches.clear_spilled(ctx.out)
