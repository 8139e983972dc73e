"""`twinspire evaluate`: measures a file of recommendations on a given split."""

from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from twinspire.cli.shared import (
    AsJson,
    PipelineFile,
    open_pipeline,
    print_json,
    terminal_table,
)
from twinspire_core.contracts.measures import Measures
from twinspire_core.display.quality_tables import heading, measure_text
from twinspire_core.display.table import Row, Style, Table, count, counted, in_style, number
from twinspire_core.terminal import console


def evaluate(
    pipeline: PipelineFile,
    truth: Annotated[
        str, typer.Option(metavar="FILE", help="A file with the items that each user took.")
    ],
    recs: Annotated[
        str,
        typer.Option(metavar="FILE", help="A file of recommendations: user and items, best first."),
    ],
    corpus: Annotated[
        str | None, typer.Option(metavar="FILE", help="The catalogue, to measure coverage.")
    ] = None,
    k: Annotated[
        list[int] | None,
        typer.Option(
            "--k", "-k", min=1, help="A list length. May be repeated. Default: evaluation.ks."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a file of recommendations: lists of a version, or of another system.

    `twinspire recommend --queries --out` writes the lists of a version.

    Files are Parquet, JSON Lines or CSV. They have one row per user with a list of items, or one
    row per user and item. Every user of --truth counts; a user without recommendations is a miss.
    Intervals are 95% bootstrap intervals over users.
    """
    p = open_pipeline(pipeline)
    from model.score_file import score_file
    from twinspire_core.metrics.intervals import RESAMPLES

    ks = tuple(k or p.evaluation.ks)
    measured = score_file(recs, truth, ks, corpus, resamples=RESAMPLES)
    # On standard error, so that only JSON is on standard output
    for table in score_tables(Measures.model_validate(measured), ks, recs):
        console.print(terminal_table(table))
    if 0 < measured["longest"] < max(ks):
        console.print(
            f"The longest list has {counted(measured['longest'], 'item')}: longer ones may score higher."
            f" `twinspire recommend -k {max(ks)}` writes longer lists.",
            soft_wrap=True,
        )
    if as_json:
        print_json({"recs": recs, "measures": {"file": measured}})


_DIGITS = 4
_OF_ALL_LISTS = {
    "coverage": "coverage: share of the catalogue in any list",
    "gini": "gini: 0% if all items are shown equally often, 100% if only one is shown",
    "overlap": "overlap: share of items that the lists of two users have in common",
}


def score_tables(measures: Measures, ks: Sequence[int], title: str) -> Iterator[Table]:
    """The tables of one evaluation: means over lists, then properties of all lists together."""
    names = [*(f"recall@{k}" for k in ks), f"ndcg@{min(ks)}", f"hit_rate@{min(ks)}", "mrr"]
    ends = [measures.intervals.get(name) for name in names]
    yield Table(
        head=["", *map(heading, names)],
        rows=[
            _row(measures, names),
            *(
                in_style(
                    [word, *(number(both[side], _DIGITS) if both else "" for both in ends)],
                    Style.DIM,
                )
                for side, word in enumerate(("  95% from", "  to"))
            ),
        ],
        title=f"{title}: {count(measures.users)} users asked, {count(measures.answered)} answered",
    )
    longest = max(ks)
    known = [x for x in _OF_ALL_LISTS if measures.value(f"{x}@{longest}") is not None]
    if known:
        names = [f"{name}@{longest}" for name in known]
        yield Table(
            head=["", *map(heading, names)],
            rows=[_row(measures, names)],
            title=f"first {longest}, all lists together",
            note="; ".join(_OF_ALL_LISTS[name] for name in known),
        )


def _row(measures: Measures, names: Sequence[str]) -> Row:
    return ["file", *(measure_text(measures, name, _DIGITS) for name in names)]
