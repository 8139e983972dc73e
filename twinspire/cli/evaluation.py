"""`twinspire evaluate`: measures a version, or a file of recommendations, on a given split."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from twinspire.cli.shared import (
    AsJson,
    PipelineFile,
    VersionOption,
    open_pipeline,
    print_json,
    terminal_table,
)
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.measures import Measures
from twinspire_core.display.quality_tables import heading, kind_text, list_name, measure_text
from twinspire_core.display.table import Row, Style, Table, count, in_style, number
from twinspire_core.errors import UsageError
from twinspire_core.terminal import console, doing


def evaluate(
    pipeline: PipelineFile,
    truth: Annotated[
        str, typer.Option(metavar="FILE", help="A file with the items that each user took.")
    ],
    queries: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Score a version on this file of queries: user and raw features."
        ),
    ] = None,
    version: VersionOption = None,
    recs: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Score this file of recommendations: user and items, best first."
        ),
    ] = None,
    corpus: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="With --recs: the catalogue, to measure coverage."),
    ] = None,
    k: Annotated[
        list[int] | None,
        typer.Option("--k", "-k", help="A list length. May be repeated. Default: evaluation.ks."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a version, or a file of recommendations from another system, on a given split.

    Files are Parquet, JSON Lines or CSV. They have one row per user with a list of items, or one
    row per user and item. Every user of --truth counts; a user without recommendations is a miss.
    Intervals are 95% bootstrap intervals over users. --json also prints the measures of groups of
    users (slices).
    """
    p = open_pipeline(pipeline)
    if (recs is None) == (queries is None):
        raise UsageError(
            "Give either --queries, to score a version, or --recs, to score a file of"
            " recommendations."
        )
    ks = tuple(k or p.evaluation.ks)
    # Imported here, because scoring a file needs no TensorFlow
    if queries is None:
        from model.score_version import score_file
        from twinspire_core.metrics.intervals import RESAMPLES

        scored = {"recs": recs}
        measured = {"file": score_file(recs, truth, ks, corpus, resamples=RESAMPLES)}
    else:
        name, measured = _score_version(p, version, queries, truth, ks)
        scored = {"version": name}
    lists = {title: Measures.model_validate(one) for title, one in measured.items()}
    [title] = scored.values()
    # On standard error, so that only JSON is on standard output
    for table in score_tables(lists, ks, str(title)):
        console.print(terminal_table(table))
    if as_json:
        print_json({**scored, "measures": measured})


def _score_version(
    pipeline: Pipeline,
    version: str | None,
    queries: str,
    truth: str,
    ks: tuple[int, ...],
) -> tuple[str, dict[str, dict[str, Any]]]:
    """The version's id, and the measures of its towers and of the baselines."""
    from model.evaluation.list_files import read_table
    from model.score_version import VersionParts, score_version
    from serving.version.loaded_version import Version
    from twinspire_core.contracts.version_manifest import VECTORS

    requests, taken = read_table(queries), read_table(truth)
    opened = Version.open(pipeline, version)
    with doing("scoring the version"):
        parts = VersionParts(
            embed=opened.encode,
            vectors=read_table(str(opened.home / VECTORS)),
            tables=opened.candidate_sources.tables,
            order=opened.fixed_order,
            ranker=opened.ranker,
        )
        measured = score_version(parts, requests, taken, pipeline, ks)
    return opened.id, measured


_DIGITS = 4
_OF_ALL_LISTS = {
    "coverage": "coverage: share of the catalogue in any list",
    "gini": "gini: 0% if all items are shown equally often, 100% if only one is shown",
    "overlap": "overlap: share of items that the lists of two users have in common",
    "popular_share": "popular share: share of the items that have half of the last days' events",
}


def score_tables(
    measured: Mapping[str, Measures], ks: Sequence[int], title: str
) -> Iterator[Table]:
    """The tables of one evaluation: measures of each list, then those of all lists together.

    Args:
      measured: by kind of lists, with the number of queries `answered`.
    """
    lists = {list_name(kind): measures for kind, measures in measured.items()}
    others = {f"{name} *": measures.other for name, measures in lists.items() if measures.other}
    first = next(iter(lists.values()))
    names = [*(f"recall@{k}" for k in ks), f"ndcg@{min(ks)}", f"hit_rate@{min(ks)}", "mrr"]
    rows = _rows(lists, names)
    # Below the list that they belong to
    rows[1:1] = _intervals(first, names)
    yield Table(
        head=["", *map(heading, names)],
        rows=[*rows, *_rows(others, names)],
        title=f"{title}: {count(first.users)} users asked, {count(first.answered)} answered",
        note=_note(others),
        sections=[len(rows)] if others else [],
    )
    both = {**lists, **others}
    known = [
        name
        for name in _OF_ALL_LISTS
        if any(measures.value(f"{name}@{max(ks)}") is not None for measures in both.values())
    ]
    if known:
        names = [f"{name}@{max(ks)}" for name in known]
        yield Table(
            head=["", *map(heading, names)],
            rows=_rows(both, names),
            title=f"first {max(ks)}, all lists together",
            note="; ".join(_OF_ALL_LISTS[name] for name in known),
        )


def _note(others: Mapping[str, Measures]) -> str:
    """What the lists that are marked with * are."""
    kinds = [kind_text(measures.kind) for measures in others.values()]
    return f"* lists {kinds[0]}; serving.exclude_seen decides which are served" if kinds else ""


def _rows(lists: Mapping[str, Measures], names: Sequence[str]) -> list[Row]:
    return [
        [name, *(measure_text(measures, measure, _DIGITS) for measure in names)]
        for name, measures in lists.items()
    ]


def _intervals(measures: Measures, names: Sequence[str]) -> Iterator[Row]:
    """The ends of the intervals, a row each; nothing if none was measured."""
    ends = [measures.intervals.get(name) for name in names] if measures.intervals else []
    for side, word in enumerate(("  95% from", "  to") if ends else ()):
        cells = [number(both[side], _DIGITS) if both else "" for both in ends]
        yield in_style([word, *cells], Style.DIM)
