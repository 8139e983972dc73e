"""The first job of the stage `features`: everything that needs no transform graph. Imports no
TensorFlow.
"""

from collections.abc import Callable

import apache_beam as beam

from beam_jobs.beam import batches, engine, written_rows
from beam_jobs.features import job_report
from beam_jobs.features.counters import Counted, Counters
from beam_jobs.features.job_graph import RawFeatures, Rows
from beam_jobs.features.source_tables import write_source_tables
from beam_jobs.point_in_time.job import FeatureJob, plan_job
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.features_report import CorpusReport, FeaturesReport
from twinspire_core.contracts.stage_context import StageContext
from twinspire_core.errors import BadData, NothingToDo
from twinspire_core.terminal import console


def write_raw(ctx: StageContext, look: Callable[[Rows], None]) -> FeaturesReport:
    """Writes examples, corpora, queries, users and rejected records.

    Args:
      ctx: the stage's.
      look: adds the steps that look at the rows on their way.

    Returns:
      The report, without the day's statistics. It is not written yet, unless the day is refused.

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
        + (f", {len(job.plan.replay)} replayed" if job.plan.replay else "")
    )
    counters = _run(job, look)
    report = job_report.make_report(job, counters)
    try:
        job_report.check(job, counters, report)
    except BadData:
        # What was found in a day that is refused is the first thing that people look at.
        report.write(ctx.out)
        raise
    if warning := job_report.misplaced(job, report):
        console.print(f"features {ctx.day}: {warning}", soft_wrap=True)
    if report.excess:
        most = ctx.pipeline.source.max_user_events
        console.print(
            f"features {ctx.day}: {report.excess:,} events beyond source.max_user_events ="
            f" {most:,} left out"
        )
    return report


def write_served(ctx: StageContext) -> CorpusReport:
    """Writes only what is served after the day and needs no training: corpus, co-occurrence, users,
    as of its end.

    Days of events that are not there, the last one included, are done without.

    Returns:
      The report, as far as it is about these.

    Raises:
      BadData: a snapshot breaks a rule of the pipeline file, or there is none that is old enough.
    """
    job = plan_job(ctx, "served")
    console.print(
        f"catalogue of {ctx.day}: {len(job.inputs.events)} days of events from {job.plan.first} on"
    )
    counters = _run(job, lambda rows: None)
    job_report.check_snapshots(job, counters)
    report = job_report.make_report(job, counters).of_corpus()
    report.write(ctx.out)
    return report


def _run(job: FeatureJob, look: Callable[[Rows], None]) -> Counters:
    """Runs the job. Batches that went through it by file are removed, however it ends."""

    def build(pipeline: beam.Pipeline) -> None:
        look(pipeline | "Raw features" >> RawFeatures(job))

    try:
        engine.run_job(job.p.beam.options, build, job.out)
    finally:
        batches.clear_spilled(job.out)
    counters = Counters.take(job.out)
    written_rows.check(job.out, _written(job, counters))
    write_source_tables(job)
    return counters


def _written(job: FeatureJob, counters: Counters) -> dict[str, int]:
    """Rows that the job wrote, by folder of its output."""
    day = job.plan.day
    rows = {
        f"{feature_schema.EXAMPLES}/dt={at}": counters.of(Counted.EXAMPLES, "events", at)
        for at in job.plan.examples
    }
    queries = [counters.of(Counted.QUERIES, "events", at) for at in job.plan.evaluation]
    rows[feature_schema.EVALUATION] = sum(queries)
    rows[feature_schema.USERS] = counters.of(Counted.KNOWN_USERS, "events", day)
    for table in ("items", "users"):
        rows |= counters.by_detail(Counted.LISTED, table, day)
    return rows
