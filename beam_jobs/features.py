"""The stage `features`: events and snapshots -> all that the later stages read (schema.py lists it).

One Beam job writes the raw features and sums up what the transform graph has to know; then the graph is made, and a
second job applies it to the training rows.
"""

import apache_beam as beam
from rich.console import Console

from beam_jobs import engine, raw, schema, transform
from twinspire import storage
from twinspire.stages import StageContext

console = Console(stderr=True)


def run(ctx: StageContext) -> dict:
    """Runs the stage.

    Raises:
      BadData: input breaks a rule of the pipeline file.
    """
    found = raw.write_raw(ctx, lambda rows: rows | "Summary" >> transform.WriteSummary(ctx.pipeline, ctx.day, ctx.out))
    console.print(f"features {ctx.day}: making the transform graph")
    transform.make_graph(ctx.pipeline, ctx.out)
    examples = [f"{schema.EXAMPLES}/{f.path}" for f in storage.list_files(storage.join(ctx.out, schema.EXAMPLES))]
    console.print(f"features {ctx.day}: transforming {len(examples)} files of examples")

    def build(pipeline: beam.Pipeline) -> None:
        _ = pipeline | beam.Create(examples) | transform.ApplyGraph(ctx.pipeline, ctx.out)

    engine.run(ctx.pipeline.beam.options, build)
    return found
