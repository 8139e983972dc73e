"""Measures recommendations on a given split."""

from importlib import import_module
from typing import Annotated, Any

import typer

from twinspire.commands.figures import score_tables
from twinspire.commands.options import AsJson, PipelineFile, VersionOption, console, open_pipeline, print_json
from twinspire.errors import UsageError
from twinspire.pipeline import Pipeline
from twinspire.quiet import unheard

Place = str | None


def evaluate(
    pipeline: PipelineFile,
    truth: Annotated[str, typer.Option(metavar="FILE", help="What was taken: user and items.")],
    queries: Annotated[
        Place, typer.Option(metavar="FILE", help="What a version is asked: user and raw features.")
    ] = None,
    version: VersionOption = None,
    recs: Annotated[
        Place, typer.Option(metavar="FILE", help="Score this file instead: user and items, best first.")
    ] = None,
    corpus: Annotated[Place, typer.Option(metavar="FILE", help="With --recs: the catalogue, for coverage.")] = None,
    k: Annotated[
        list[int] | None, typer.Option("--k", "-k", help="A list length; may be repeated. Default: evaluation.ks.")
    ] = None,
    slices: Annotated[
        bool, typer.Option("--slices", help="Also show a version's recall by earlier events of users and items.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score a version, or a file of recommendations made by anything else, on a given split.

    Files are Parquet, JSON Lines or CSV. FILE of --truth and --recs has a list of items per user, or a row per user
    and item. Every user of the truth counts; one without recommendations is a miss. Intervals hold 95% of the
    bootstrap resamples of the users (evaluation.resamples). JSON holds all that was measured, slices included.
    """
    p = open_pipeline(pipeline)
    if (recs is None) == (queries is None):
        raise UsageError(
            "Give --queries to score a version, or --recs to score a file of recommendations; one of them."
        )
    ks, resamples = tuple(k or p.evaluation.ks), p.evaluation.resamples
    if queries is None:
        what, name, measured = (
            "recs",
            recs,
            {"file": import_module("model.score").score_file(recs, truth, ks, corpus, resamples=resamples)},
        )
    else:
        what, (name, measured) = "version", _score_version(p, version, queries, truth, ks)
    for table in score_tables(measured, ks, str(name), slices=slices):
        console.print(table)
    if slices and not any("slices" in measures for measures in measured.values()):
        why = "evaluation.slices is empty" if recs is None else "a file of recommendations does not tell users' pasts"
        console.print(f"No slices: {why}.")
    if as_json:
        print_json({what: name, "measures": measured})


def _score_version(
    pipeline: Pipeline, version: str | None, queries: str, truth: str, ks: tuple[int, ...]
) -> tuple[str, dict[str, dict[str, Any]]]:
    """The version's id, and the measures of its towers beside the baselines'."""
    read_table, publish = import_module("model.listfile").read_table, import_module("index_builder.publish")
    asked, taken = read_table(queries), read_table(truth)
    home = import_module("index_builder.registry").Registry(pipeline.registry.root, pipeline.name).open(version)
    items, vectors = (read_table(str(home / name)) for name in (publish.ITEMS, publish.VECTORS))
    with console.status("encoding the queries"):
        with unheard():  # TensorFlow greets at length
            embed = import_module("model.measure").load(home / import_module("model.bundle").QUERY_TOWER)
        mixes = import_module("model.mix")
        together, mix = home / publish.CO_OCCURRENCE, home / mixes.FILE
        measured = import_module("model.score").score_version(
            embed,
            items,
            vectors,
            asked,
            taken,
            pipeline,
            ks,
            together=read_table(str(together)) if together.exists() else None,
            mix=mixes.Mix.parse(mix.read_bytes()) if mix.exists() else None,
        )
    return home.name, measured
