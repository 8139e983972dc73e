"""The stage `features`: events and snapshots -> all that the later stages read (feature_schema.py lists
it).

One Beam job writes the raw features, takes the day's statistics and sums up what the transform
graph has to know; then the graph is made, and a second job applies it to the training rows.
"""

import json
from datetime import date
from typing import Any

import apache_beam as beam
from rich.console import Console

from beam_jobs.beam import engine
from beam_jobs.features.job_graph import Rows
from beam_jobs.features.raw_features_job import write_raw
from beam_jobs.transform import analysis, graph
from beam_jobs.validation import anomalies, statistics
from twinspire_core import storage
from twinspire_core.contracts import attempts as workdir
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.stage_context import StageContext

console = Console(stderr=True)


def run(ctx: StageContext) -> dict[str, Any]:
    """Runs the stage.

    Raises:
      BadData: input breaks a rule of the pipeline file.
    """
    p, out = ctx.pipeline, ctx.out

    def look(rows: Rows) -> None:
        _ = rows.analysis | "Summary" >> analysis.WriteSummary(p, ctx.day, out)
        _ = rows.examples | "Statistics" >> statistics.WriteStatistics(p, out)

    report = write_raw(ctx, look)
    console.print(f"features {ctx.day}: making the transform graph")
    graph.make_graph(p, out)
    examples = [
        f"{feature_schema.EXAMPLES}/{f.path}"
        for f in storage.list_files(storage.join(out, feature_schema.EXAMPLES))
    ]
    console.print(f"features {ctx.day}: transforming {len(examples)} files of examples")
    names = beam.Create(examples, reshuffle=False)
    engine.run_job(p.beam.options, lambda job: job | "Examples" >> names | graph.ApplyGraph(p, out))
    # No key holds this: docs/decisions/0018-what-statistics-are-compared-with.md
    day, earlier = _earlier(ctx)
    compared = {"day": str(day), "attempt": workdir.name(p, earlier)} if earlier else None
    report["statistics"] = {**anomalies.check(p, out, earlier, str(day)), "compared_with": compared}
    storage.write_bytes(
        storage.join(out, feature_schema.REPORT), json.dumps(report, indent=1).encode()
    )
    return report


def _earlier(ctx: StageContext) -> tuple[date | None, str | None]:
    """The newest earlier day with output of this stage, and that, whose statistics the day's are
    compared with.
    """
    days = (day for day in reversed(workdir.days(ctx.pipeline)) if day < ctx.day)
    attempts = ((day, workdir.latest(ctx.pipeline, day, "features")) for day in days)
    return next(((day, attempt.uri) for day, attempt in attempts if attempt), (None, None))
