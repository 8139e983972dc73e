"""The stage `features`: events and snapshots -> all input of the later stages.

twinspire_core/contracts/feature_schema.py describes the files.

One Beam job writes the raw features (examples, queries, users and corpora), computes the day's statistics
and summarises the data for the transform graph. The tables of the sources are fitted on its output. Then the
graph is made, and a second job applies it to the training rows.

A refresh runs only the first job, which then writes only the files for serving.
"""

from collections.abc import Callable
from typing import Any

import apache_beam as beam
import pyarrow as pa

from beam_jobs.beam import batches, engine, worker_view
from beam_jobs.features.job_graph import RawFeatures, Rows
from beam_jobs.features.report import (
    Counters,
    check_snapshots,
    make_report,
    misplaced,
    refuse_bad_day,
    rows_written,
)
from beam_jobs.point_in_time.job import FeatureJob, plan_job
from beam_jobs.transform import analysis
from beam_jobs.validation import anomalies, drift, statistics
from twinspire_core import storage
from twinspire_core.contracts import attempts, feature_schema, features_report
from twinspire_core.display.table import counted
from twinspire_core.errors import BadData, NothingToDo
from twinspire_core.sources.candidate_sources import fits_of
from twinspire_core.sources.user_histories import Sequences
from twinspire_core.storage import parquet_files
from twinspire_core.terminal import console


def run(ctx: attempts.StageContext) -> dict[str, Any]:
    """Runs the stage.

    Raises:
      BadData: input breaks a rule of the pipeline file.
    """
    p = ctx.pipeline
    out = ctx.out

    def look(rows: Rows) -> None:
        analysis.write_summary(rows.analysis, p, out)
        statistics.write_statistics(rows.examples, rows.analysis, p, out)

    report = write_raw(ctx, look)
    try:
        _transform(ctx)
        report = report.model_copy(update={"skew": drift.measure_skew(p, out)})
        report = report.model_copy(update={"statistics": _statistics(ctx)})
    finally:
        # Also for a day that its statistics make the stage refuse.
        report.write(out)
    return report.model_dump(mode="json")


def _transform(ctx: attempts.StageContext) -> None:
    """Makes the transform graph, and applies it to the training rows."""
    # Imported here, because a refresh writes only files for serving and needs no TensorFlow.
    from beam_jobs.transform import graph

    p = ctx.pipeline
    console.print(f"features {ctx.day}: making the transform graph")
    graph.make_graph(p, ctx.out)
    folder = storage.join(ctx.out, feature_schema.EXAMPLES)
    examples = [f"{feature_schema.EXAMPLES}/{file.path}" for file in storage.list_files(folder)]
    console.print(f"features {ctx.day}: transforming {counted(len(examples), 'file')} of examples")

    # A second job, because the graph must be made before it can be applied.
    def build(job: beam.Pipeline) -> None:
        names = job | "Examples" >> beam.Create(examples, reshuffle=False)
        worker_view.write_rows(graph.apply_graph(names, p, ctx.out), ctx.out)

    engine.run_job(p.beam.options, build, ctx.out)
    worker_view.take(ctx.out)


def _statistics(ctx: attempts.StageContext) -> features_report.DayStatistics:
    """Checks the day's statistics for anomalies, compared with those of the newest earlier day."""
    p = ctx.pipeline
    earlier, compared = features_report.StatisticsFile(), None
    # No cache key depends on that day: docs/decisions/0003-attempts-and-keys.md
    for day in reversed(attempts.days(p)):
        if day < ctx.day and (attempt := attempts.latest(p, day, "features")):
            earlier = features_report.StatisticsFile.read(attempt.uri)
            compared = features_report.ComparedDay(day=day, attempt=attempts.name(p, attempt.uri))
            break
    checked = anomalies.check_day(p, ctx.out, earlier, str(compared.day) if compared else "")
    return checked.model_copy(update={"compared_with": compared})


def write_raw(
    ctx: attempts.StageContext, look: Callable[[Rows], None]
) -> features_report.FeaturesReport:
    """Writes examples, corpora, queries, users, tables of sources and rejected records.

    Args:
      ctx: the context of the stage, for a day that has events.
      look: adds steps to the job that read the rows, such as statistics.

    Returns: the report, without the day's statistics. This function writes it only if it refuses
      the day.

    Raises:
      NothingToDo: the day has no events.
      BadData: input breaks a rule of the pipeline file.
    """
    job = plan_job(ctx)
    days = job.inputs.events
    if ctx.day not in days:
        raise NothingToDo(f"There are no event files for {ctx.day} ({ctx.pipeline.source.events}).")
    console.print(
        f"features {ctx.day}: {counted(len(days), 'day')} of events from {min(days)} on, "
        f"examples of {len(days.keys() & set(job.plan.examples))}"
        + (f", {len(job.plan.replay)} replayed" if job.plan.replay else "")
    )
    counters = _run(job, look)
    report = make_report(job, counters)
    try:
        refuse_bad_day(job, counters, report)
    except BadData:
        # The report is written first, because people read it to see why a day is refused.
        report.write(ctx.out)
        raise
    if warning := misplaced(job, report):
        console.print(f"features {ctx.day}: {warning}", soft_wrap=True)
    if report.excess:
        most = ctx.pipeline.source.max_user_events
        console.print(
            f"features {ctx.day}: {report.excess:,} events beyond source.max_user_events ="
            f" {most:,} left out"
        )
    return report


def write_served(ctx: attempts.StageContext) -> features_report.FeaturesReport:
    """Writes only the files for serving at the end of the day: corpus, users, and tables of sources. Days
    without events are allowed, including the day itself.

    Returns: the report, which counts no examples.

    Raises:
      BadData: a snapshot breaks a rule of the pipeline file, or all snapshots are of later days.
    """
    job = plan_job(ctx, "served")
    console.print(
        f"catalogue of {ctx.day}: {counted(len(job.inputs.events), 'day')} of events from"
        f" {job.plan.first} on"
    )
    counters = _run(job, lambda rows: None)
    check_snapshots(job, counters)
    report = make_report(job, counters)
    report.write(ctx.out)
    return report


def _run(job: FeatureJob, look: Callable[[Rows], None]) -> Counters:
    """Runs the job, and fits the tables of sources on its output."""

    def build(pipeline: beam.Pipeline) -> None:
        look(pipeline | "Raw features" >> RawFeatures(job))

    try:
        engine.run_job(job.p.beam.options, build, job.out)
    finally:
        # Also after a failed job, because nothing reads these files again.
        batches.clear_spilled(job.out)
    counters = Counters.take(job.out)
    # Checked before the files are read, because a worker may have written them to a disk of its own.
    worker_view.check_written(job.out, rows_written(job, counters))
    _write_source_tables(job)
    return counters


def _write_source_tables(job: FeatureJob) -> None:
    """Fits the tables of the pipeline's sources on users' sequences, and writes them to `NAME/start`,
    `NAME/end` and the folders of replayed days.
    """
    fits = fits_of(job.p.sources.use)
    if not fits:
        return
    plan = job.plan
    for moment in plan.table_days:
        folder = storage.join(job.out, plan.folder(feature_schema.SEQUENCES, moment))
        if not storage.list_files(folder):
            continue  # nobody has any event
        # Files in order of their names, so that rows have the same order on every run.
        events = parquet_files.read_folder(folder)
        rows = parquet_files.read_folder(
            storage.join(job.out, plan.folder(feature_schema.CORPUS, moment)), ["_item"]
        )
        items = rows.sort_by("_item")["_item"].combine_chunks()
        sequences = Sequences.of(events, items)
        for name, fit in fits.items():
            console.print(f"features {plan.day}: fitting {name} as of the start of {moment}")
            table = fit(sequences, items).combine_chunks()
            # A table without rows has no batches, and a file needs one.
            whole = table.to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]
            uri = storage.join(job.out, plan.folder(name, moment), "00000.parquet")
            storage.write_bytes(uri, batches.parquet(whole))
