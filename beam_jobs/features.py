"""The stage `features`: events and snapshots -> all that the later stages read (schema.py lists it).

One Beam job writes the raw features and sums up what the transform graph has to know; then the graph is made, and a
second job applies it to the training rows.
"""

import json
from collections.abc import Callable

import apache_beam as beam
from rich.console import Console

from beam_jobs import engine, report, schema, source, transform
from beam_jobs.days import make_plan
from beam_jobs.job import Job
from beam_jobs.rawopen import format_of
from beam_jobs.transforms import RawFeatures
from twinspire import storage
from twinspire.stages import StageContext

BLOCK_ROWS = 50_000
"""Examples that share a file, roughly: a day is cut at full hours into 1 to 24 files."""
_BYTES_PER_ROW = {"parquet": 16, "jsonl": 120, "csv": 60}
_GZIP = 6

console = Console(stderr=True)


def run(ctx: StageContext) -> dict:
    """Runs the stage.

    Raises:
      BadData: input breaks a rule of the pipeline file.
    """
    found = write_raw(ctx, lambda rows: rows | "Summary" >> transform.WriteSummary(ctx.pipeline, ctx.day, ctx.out))
    console.print(f"features {ctx.day}: making the transform graph")
    transform.make_graph(ctx.pipeline, ctx.out)
    examples = [f"{schema.EXAMPLES}/{f.path}" for f in storage.list_files(storage.join(ctx.out, schema.EXAMPLES))]
    console.print(f"features {ctx.day}: transforming {len(examples)} files of examples")

    def build(pipeline: beam.Pipeline) -> None:
        _ = pipeline | beam.Create(examples) | transform.ApplyGraph(ctx.pipeline, ctx.out)

    engine.run(ctx.pipeline.beam.options, build)
    return found


def write_raw(ctx: StageContext, analyse: Callable[[beam.PCollection], None]) -> dict:
    """Writes examples, corpora, queries, users, rejected records and the report.

    Args:
      ctx: the stage's.
      analyse: adds the steps that look at the rows which the transform graph is fitted on.

    Returns:
      The report.
    """
    p, plan = ctx.pipeline, make_plan(ctx.pipeline, ctx.day, ctx.mode)
    job = plan_job(ctx)
    console.print(
        f"features {ctx.day}: {len(job.inputs.events)} days of events from {min(job.inputs.events)} on, "
        f"examples of {len([d for d in plan.examples if d in job.inputs.events])}"
    )

    def build(pipeline: beam.Pipeline) -> None:
        analyse(pipeline | "Raw features" >> RawFeatures(job))

    engine.run(p.beam.options, build)
    numbers = report.read_numbers(job)
    found = report.make_report(job, numbers)
    storage.write_bytes(storage.join(ctx.out, schema.REPORT), json.dumps(found, indent=1).encode())
    report.check(job, numbers)
    return found


def plan_job(ctx: StageContext) -> Job:
    """Finds out what the run reads and how it is laid out."""
    plan = make_plan(ctx.pipeline, ctx.day, ctx.mode)
    inputs = source.inputs(ctx.pipeline, plan)
    hours = {day: _block_hours(ctx.pipeline.source.format, inputs.events.get(day, ())) for day in plan.examples}
    return Job(p=ctx.pipeline, plan=plan, inputs=inputs, out=ctx.out, block_hours=hours)


def _block_hours(given: str, files: tuple[source.SourceFile, ...]) -> int:
    """Hours of a day that share a file, by the size of its logs."""
    rows = sum(_rows(file.size, format_of(file.uri, given), file.uri.endswith(".gz")) for file in files)
    blocks = min(24, max(1, rows // BLOCK_ROWS))
    return -(-24 // blocks)


def _rows(size: int, kind: str, zipped: bool) -> int:
    return size * (_GZIP if zipped else 1) // _BYTES_PER_ROW[kind]
