"""The stage `features`: events and snapshots -> all that the later stages read.

twinspire_core/contracts/feature_schema.py lists it.

One Beam job writes the raw features, computes the day's statistics and summarises the data for the
transform graph. Then the graph is made, and a second job applies it to the training rows.
"""

from typing import Any

import apache_beam as beam

from beam_jobs.beam import engine, worker_view
from beam_jobs.features.job_graph import Rows
from beam_jobs.features.raw_features_job import write_raw
from beam_jobs.transform import analysis, graph
from beam_jobs.validation import anomalies, drift, statistics
from twinspire_core import storage
from twinspire_core.contracts import attempts, feature_schema, features_report
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
        # Also for a day that is refused because of its statistics.
        report.write(out)
    return report.model_dump(mode="json")


def _transform(ctx: attempts.StageContext) -> None:
    """Makes the transform graph, and applies it to the training rows."""
    p = ctx.pipeline
    console.print(f"features {ctx.day}: making the transform graph")
    graph.make_graph(p, ctx.out)
    folder = storage.join(ctx.out, feature_schema.EXAMPLES)
    examples = [f"{feature_schema.EXAMPLES}/{file.path}" for file in storage.list_files(folder)]
    console.print(f"features {ctx.day}: transforming {len(examples)} files of examples")

    # A second job, since the graph has to be made before it can be applied.
    def build(job: beam.Pipeline) -> None:
        names = job | "Examples" >> beam.Create(examples, reshuffle=False)
        _ = graph.apply_graph(names, p, ctx.out) | "Rows" >> worker_view.WriteRows(ctx.out)

    engine.run_job(p.beam.options, build, ctx.out)
    worker_view.check(ctx.out, worker_view.take(ctx.out))


def _statistics(ctx: attempts.StageContext) -> features_report.DayStatistics:
    """Looks for anomalies in the day's statistics, compared with those of the newest earlier day."""
    p = ctx.pipeline
    # No cache key depends on that day: docs/decisions/0003-attempts-and-keys.md
    for day in reversed(attempts.days(p)):
        if day < ctx.day and (attempt := attempts.latest(p, day, "features")):
            checked = anomalies.check(
                p, ctx.out, features_report.StatisticsFile.read(attempt.uri), str(day)
            )
            compared = features_report.ComparedDay(day=day, attempt=attempts.name(p, attempt.uri))
            return checked.model_copy(update={"compared_with": compared})
    return anomalies.check(p, ctx.out)
