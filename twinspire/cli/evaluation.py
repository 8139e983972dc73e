"""Measures recommendations on a given split."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from twinspire.cli.options import (
    Allow,
    AsJson,
    Deny,
    PipelineFile,
    VersionOption,
    by_attribute,
    open_pipeline,
)
from twinspire.cli.output import print_json, terminal_table
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.measures import Measures
from twinspire_core.display.quality_tables import heading, kind_text, list_name, measure_text
from twinspire_core.display.table import Row, Style, Table, count, in_style, number
from twinspire_core.errors import UsageError
from twinspire_core.metrics.measure_names import EXCLUDED, KEPT
from twinspire_core.terminal import console, doing

Place = str | None
TWO_TOWER = "two_tower"


def evaluate(
    pipeline: PipelineFile,
    truth: Annotated[str, typer.Option(metavar="FILE", help="What was taken: user and items.")],
    queries: Annotated[
        Place, typer.Option(metavar="FILE", help="What a version is asked: user and raw features.")
    ] = None,
    version: VersionOption = None,
    recs: Annotated[
        Place,
        typer.Option(metavar="FILE", help="Score this file instead: user and items, best first."),
    ] = None,
    corpus: Annotated[
        Place, typer.Option(metavar="FILE", help="With --recs: the catalogue, for coverage.")
    ] = None,
    k: Annotated[
        list[int] | None,
        typer.Option("--k", "-k", help="A list length; may be repeated. Default: evaluation.ks."),
    ] = None,
    allow: Allow = None,
    deny: Deny = None,
    as_json: AsJson = False,
) -> None:
    """Score a version, or a file of recommendations made by anything else, on a given split.

    Files are Parquet, JSON Lines or CSV, with a list of items per user or a row per user and item.
    Every user of the truth counts; one without recommendations is a miss. Intervals are 95%
    bootstrap intervals over users. JSON holds all measures, those of
    slices too. A filter applies to lists and truth; users who took no such item do not count.
    """
    p = open_pipeline(pipeline)
    filters = {"allow": by_attribute(allow), "deny": by_attribute(deny)}
    if (recs is None) == (queries is None):
        raise UsageError(
            "Give --queries to score a version, or --recs to score a file of recommendations; one"
            " of them."
        )
    if recs is not None and any(filters.values()):
        raise UsageError(
            "A version's lists are filtered; a file of recommendations is scored as it is."
        )
    ks = tuple(k or p.evaluation.ks)
    # Imported below: scoring a file loads no TensorFlow, and a mistyped command nothing at all.
    if queries is None:
        from model.score_version import score_file
        from twinspire_core.metrics.intervals import RESAMPLES

        scored = {"recs": recs}
        measured = {"file": score_file(recs, truth, ks, corpus, resamples=RESAMPLES)}
    else:
        name, measured = _score_version(p, version, queries, truth, ks, filters)
        scored = {"version": name}
    lists = {title: Measures.model_validate(one) for title, one in measured.items()}
    [title] = scored.values()
    for table in score_tables(lists, ks, str(title)):
        console.print(terminal_table(table))
    if TWO_TOWER in lists and lists[TWO_TOWER].left_out is not None:
        console.print(_filtered(lists[TWO_TOWER]), highlight=False)
    if as_json:
        given = {key: value for key, value in filters.items() if value}
        print_json({**scored, **given, "measures": measured})


def _filtered(measures: Measures) -> str:
    return (
        f"Of the {measures.items:,} items that pass, in lists and in what was taken; "
        f"{measures.left_out:,} users took none of them and do not count."
    )


def _score_version(
    pipeline: Pipeline,
    version: str | None,
    queries: str,
    truth: str,
    ks: tuple[int, ...],
    filters: dict[str, Any],
) -> tuple[str, dict[str, dict[str, Any]]]:
    """The version's id, and the measures of its towers beside the baselines'."""
    from model.evaluation.list_files import read_table
    from model.score_version import VersionParts, score_version
    from serving.version.filters import Filter
    from serving.version.loaded_version import Version
    from twinspire_core.contracts.version_manifest import VECTORS

    requests, taken = read_table(queries), read_table(truth)
    opened = Version.open(pipeline, version)
    selected = opened.attributes.select_for_all(Filter.of(pipeline.corpus.attributes, **filters))
    if selected:
        for warning in selected.warnings:
            console.print(warning, style="yellow", highlight=False)
    with doing("scoring the version"):
        parts = VersionParts(
            embed=opened.encode,
            vectors=read_table(str(opened.home / VECTORS)),
            tables=opened.candidate_sources.tables,
            order=opened.fixed_order,
            ranker=opened.ranker,
        )
        passing = selected.passing if selected else None
        measured = score_version(parts, requests, taken, pipeline, ks, passing=passing)
    return opened.id, measured


_DIGITS = 4
_OF_ALL_LISTS = {
    "coverage": "coverage: share of the catalogue in any list",
    "gini": "gini: 0% when all items are shown equally often, 100% when one has it all",
    "overlap": "overlap: share that two users' lists have in common",
    "popular_share": "popular share: items that have half of the last days' events, not known without any",
}


def score_tables(
    measured: Mapping[str, Measures], ks: Sequence[int], title: str
) -> Iterator[Table]:
    """The tables of one evaluation.

    Args:
      measured: by kind of lists, with the number of queries `answered`.
    """
    lists = {list_name(kind): measures for kind, measures in measured.items()}
    others = {f"{name} *": m.other for name, m in lists.items() if m.other}
    first = next(iter(lists.values()))
    title = f"{title}: {count(first.users)} users asked, {count(first.answered)} answered"
    yield _near(lists, others, ks, title)
    together = _together({**lists, **others}, max(ks))
    if len(together.head) > 1:
        yield together


def _near(
    lists: Mapping[str, Measures], others: Mapping[str, Measures], ks: Sequence[int], title: str
) -> Table:
    """How near lists came, the first of them with its intervals; then those of the other kind."""
    names = [*(f"recall@{k}" for k in ks), f"ndcg@{min(ks)}", f"hit_rate@{min(ks)}", "mrr"]
    rows: list[Row] = []
    for place, (name, measures) in enumerate(lists.items()):
        rows.append(_row(name, measures, names))
        if place == 0 and measures.intervals:
            rows += _intervals(measures, names)
    start_of_others = len(rows)
    rows += [_row(name, measures, names) for name, measures in others.items()]
    return Table(
        head=["", *map(heading, names)],
        rows=rows,
        title=title,
        note=_kinds_text(others),
        sections=[start_of_others] if others else [],
    )


def _kinds_text(others: Mapping[str, Measures]) -> str:
    """Which lists the marked ones are, and which are those that count."""
    for measures in others.values():
        if measures.kind == KEPT:
            return (
                "without what a user had before, which is what counts (serving.exclude_seen);"
                f" * {kind_text(KEPT)}"
            )
        return f"* {kind_text(EXCLUDED)}"
    return ""


def _intervals(measures: Measures, names: Sequence[str]) -> Iterator[Row]:
    for side, word in enumerate(("  95% from", "  to")):
        ends = [measures.intervals.get(name) for name in names]
        cells = [number(both[side], _DIGITS) if both else "" for both in ends]
        yield in_style([word, *cells], Style.DIM)


def _row(name: str, measures: Measures, names: Sequence[str]) -> Row:
    return [name, *(measure_text(measures, measure, _DIGITS) for measure in names)]


def _together(lists: Mapping[str, Measures], k: int) -> Table:
    """What all lists of a kind show between them."""
    known = [
        name
        for name in _OF_ALL_LISTS
        if any(measures.value(f"{name}@{k}") is not None for measures in lists.values())
    ]
    names = [f"{name}@{k}" for name in known]
    return Table(
        head=["", *map(heading, names)],
        rows=[_row(name, measures, names) for name, measures in lists.items()],
        title=f"first {k}, all lists together",
        note="; ".join(_OF_ALL_LISTS[name] for name in known),
    )
