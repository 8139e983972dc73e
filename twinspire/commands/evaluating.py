"""Measures recommendations on a given split."""

from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any

import typer
from rich.table import Table

from twinspire.commands.options import AsJson, PipelineFile, VersionOption, console, open_pipeline, print_json
from twinspire.errors import UsageError
from twinspire.pipeline import Pipeline

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
    as_json: AsJson = False,
) -> None:
    """Score a version, or a file of recommendations made by anything else, on a given split.

    Files are Parquet, JSON Lines or CSV. FILE of --truth and --recs has a list of items per user, or a row per user
    and item. Every user of the truth counts; one without recommendations is a miss.
    """
    p = open_pipeline(pipeline)
    if (recs is None) == (queries is None):
        raise UsageError(
            "Give --queries to score a version, or --recs to score a file of recommendations; one of them."
        )
    ks, scoring = tuple(k or p.evaluation.ks), import_module("model.score")
    if queries is None:
        what, name, measured = "recs", recs, {"file": scoring.score_file(recs, truth, ks, corpus)}
    else:
        what, (name, measured) = "version", _score_version(p, version, queries, truth, ks)
    console.print(_table(measured, ks, str(name)))
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
        embed = import_module("model.measure").load(home / import_module("model.bundle").QUERY_TOWER)
        measured = import_module("model.score").score_version(embed, items, vectors, asked, taken, pipeline, ks)
    return home.name, measured


def _table(measured: Mapping[str, Mapping[str, Any]], ks: tuple[int, ...], title: str) -> Table:
    """A row per list, a column per measure; lists without seen items below those with them."""
    rows = dict(measured)
    rows |= {f"{name}, seen items excluded": m["excluded"] for name, m in measured.items() if "excluded" in m}
    names = list(import_module("model.evaluate").headline(next(iter(rows.values())), ks))
    first = next(iter(measured.values()))
    table = Table(title=f"{title}: {first['users']} users with a true item, {first['answered']} of them answered")
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    for row, m in rows.items():
        table.add_row(row, *(f"{m[name]:.4f}" if name in m else "" for name in names))
    return table
