"""The index stage: from the day's vectors to an index whose recall is known.

Written below the stage's folder:

    index/        the index (twinspire_core/search/stored_index.py); row i is the i-th item in order
                  of id
    index.json    settings, whether they were inherited or tuned, recall against exact search, all
                  that were tried (twinspire_core/contracts/index_figures.py)
    timings.json  how fast it was on this machine, and each setting tried
                  (twinspire_core/contracts/timings.py), kept apart because it differs from run to
                  run
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from rich.console import Console

from index_builder.tuning.inherited_settings import take_over, unfit
from index_builder.tuning.measurement import Truth, recall, timings
from index_builder.tuning.settings_search import (
    Point,
    affordable,
    leaves_suffice,
    tune,
    untuned,
    work,
)
from twinspire_core import storage
from twinspire_core.config.tables.deployment import IndexConfig as Wanted
from twinspire_core.contracts import artifact_files
from twinspire_core.contracts.embedded_vectors import read_items, read_queries
from twinspire_core.contracts.index_figures import (
    IndexFigures,
    SampledQueries,
    SettingsOrigin,
    TriedSettings,
)
from twinspire_core.contracts.stage_context import NO_START, StageContext, Start
from twinspire_core.contracts.timings import IndexTimings
from twinspire_core.errors import BadData
from twinspire_core.search.exact_index import ExactIndex
from twinspire_core.search.index import EXACT_SHARE, Index, Kind, Settings

SEED = 0

# Items; fewer do not train a codebook, and comparing them all takes microseconds
_LEAST_CODED = 1_000
# Dimensions, in order of trying
_CODES: Mapping[Kind, tuple[Literal[2, 1], ...]] = {"tree": (2, 1), "quantised": (2,)}
_WORTH = 0.8  # share of exact search's work that is worth an index
_LEAST_QUERIES = 200  # fewer do not tell .97 from .98
_MOST_TUNING = 2_000
_MOST_COMPARED = 20_000_000_000  # query-item pairs of exact search in measuring, about a minute
_SUMMARISED = ("kind", "items", "dimension", "k", "recall", "settings", "tuning", "reasons")

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Built:
    """An index and how it came about.

    Attributes:
      index: tuned.
      tried: settings that were measured on the tuning queries.
      reasons: why it is of its kind.
      origin: whether its settings were inherited or tuned.
    """

    index: Index
    tried: list[Point]
    reasons: list[str]
    origin: SettingsOrigin


class QueryHalves(NamedTuple):
    """Query vectors, [Q, D] each: those that choose the settings, and those that say how well they
    do.
    """

    tuning: np.ndarray
    measuring: np.ndarray
    source: str


def run(ctx: StageContext) -> dict[str, Any]:
    """Builds the day's index, tunes it, and measures its recall on queries that it was not tuned
    on.
    """
    _, vectors = read_items(ctx.inputs["embed"])
    queries = query_halves(read_queries(ctx.inputs["embed"]), vectors)
    built = build(vectors, queries.tuning, ctx.pipeline.index, ctx.start)
    # On the other half of the queries: those that chose the settings would flatter them
    figures = _figures(built, queries, ctx.pipeline.index, ctx.day)
    speed = timings(built.index, queries.measuring, figures.k)
    tried_ms = [round(point.seconds * 1e3, 4) for point in built.tried]
    with tempfile.TemporaryDirectory(prefix="twinspire-index-") as scratch:
        folder = Path(scratch)
        built.index.save(folder / artifact_files.INDEX)
        figures.write(folder)
        IndexTimings(**speed, tried_ms=tried_ms).write(folder)
        storage.upload_tree(folder, ctx.out)
    console.print(
        f"index: {figures.kind}, {figures.items:,} items, recall@{figures.k}"
        f" {figures.recall:.4f}, {speed['batch_queries_per_s']:,.0f} queries/s",
        highlight=False,
    )
    written = figures.model_dump()
    return {name: written[name] for name in _SUMMARISED} | speed


def build(
    vectors: np.ndarray, tuning: np.ndarray, wanted: Wanted, start: Start = NO_START
) -> Built:
    """Builds an index of the kind that suits the corpus, with little work that surely reaches the
    recall target.

    Its settings are those of an earlier version, as long as they reach it too; else those of the
    least work.

    Args:
      vectors: [N, D] float32, finite.
      tuning: [Q, D] float32, queries to choose the settings by.
      wanted: `[index]` of the pipeline file.
      start: the earlier version.
    """
    if not len(vectors):
        raise BadData("An index needs items, and there are none.")
    kinds, reason = strategy(len(vectors), wanted)
    exact = ExactIndex(vectors, Settings(kind="exact", k=min(wanted.k, len(vectors))))
    if not kinds:
        return Built(exact, [], [reason], _searched_anew(exact, kinds, reason))
    truth = Truth.by_exact_search(vectors, tuning, exact.settings.k)
    tried = list[Point]()
    why = unfit(start, vectors, truth.k, kinds, wanted)
    if not why and start.index and start.index.tuning:
        # Why it was tuned again, empty if the settings still reach the target as they are
        index, why = take_over(vectors, truth, wanted.recall_target, start, partial(_note, tried))
        if index:
            how = "tuned" if why else "inherited"
            origin = start.index.tuning.model_copy(
                update={"how": how, "version": start.version, "why": why}
            )
            return Built(index, tried, [reason, *start.index.reasons[1:]], origin)
    # Nothing was inherited, or it would be too much work now
    console.print(f"index: searching for settings anew: {why}", highlight=False)
    best, reasons = _least(exact, kinds, truth, wanted.recall_target, partial(_note, tried))
    return Built(best, tried, [reason, *reasons], _searched_anew(best, kinds, why))


def strategy(items: int, wanted: Wanted) -> tuple[tuple[Kind, ...], str]:
    """The kinds of index to try for a corpus of so many items, besides comparing all, and why."""
    least = max(wanted.exact_below, _LEAST_CODED)
    if items < least:
        return (), f"{items:,} items, below {least:,}: comparing all is fastest"
    if wanted.k * EXACT_SHARE > items:
        return (), f"k = {wanted.k} is more than a quarter of {items:,} items"
    limit = f"index.tree_above = {wanted.tree_above:,}"
    if items <= wanted.tree_above:
        return ("tree", "quantised"), f"{items:,} items, not above {limit}"
    return ("tree",), f"{items:,} items, above {limit}"


def _least(
    exact: ExactIndex,
    kinds: Sequence[Kind],
    truth: Truth,
    target: float,
    tried: Callable[[Point], None],
) -> tuple[Index, list[str]]:
    """The index with the least work of all kinds, and what speaks against the others."""
    best: Index = exact
    reasons = list[str]()
    for kind in kinds:
        best = _least_of_kind(best, kind, truth, target, tried, reasons)
    # What falls into no leaves may be worth a scan of all its codes
    if best is exact and "quantised" not in kinds:
        best = _least_of_kind(best, "quantised", truth, target, tried, reasons)
    return best, reasons


def _least_of_kind(
    best: Index,
    kind: Kind,
    truth: Truth,
    target: float,
    tried: Callable[[Point], None],
    reasons: list[str],
) -> Index:
    """The index of a kind with the least work, or the best so far where that does less."""
    from twinspire_core.search.scann_index import ScannIndex

    vectors = best.vectors
    # As many leaves as items in each, about
    leaves = round(len(vectors) ** 0.5) if kind == "tree" else 0
    for dimensions in _CODES[kind]:
        first = untuned(kind, dimensions, truth.k, leaves)
        rival = best.settings.kind
        what = f"{kind} with codes of {dimensions} dimensions"
        below = work(best.settings, len(vectors))
        if rival == "exact":
            below *= _WORTH
        cheaper = affordable(first, len(vectors), below)
        possible = bool(cheaper)
        # Codes of a tree of the same leaves were tried: they tell what its leaves can hold
        if possible and isinstance(best, ScannIndex) and rival == kind:
            possible = leaves_suffice(best, cheaper, truth, target, tried)
        if not possible:
            reasons.append(f"no settings of {what} can do less work than {rival}")
            continue
        console.print(
            f"index: training a {kind} index of {len(vectors):,} vectors …", highlight=False
        )
        index = ScannIndex.build(vectors, first)
        point = tune(index, truth, target, tried, below)
        if point:
            best = index.with_settings(point.settings)
        else:
            goal = f"reach recall@{truth.k} {target} with less work than {rival}"
            reasons.append(f"no settings of {what} {goal}")
    return best


def _note(tried: list[Point], point: Point) -> None:
    """Keeps a point, and prints it."""
    tried.append(point)
    settings = point.settings
    parts: list[str] = [settings.kind]
    if settings.leaves:
        parts.append(f"{settings.leaves_searched} of {settings.leaves} leaves")
    parts.append(f"{settings.rescored} rescored: recall {point.recall.mean:.4f}")
    console.print(f"index: {', '.join(parts)}", highlight=False)


def _searched_anew(index: Index, kinds: tuple[Kind, ...], why: str) -> SettingsOrigin:
    """Of settings that the index was not given by an earlier version."""
    items = len(index)
    return SettingsOrigin(
        how="tuned",
        version=None,
        why=why,
        searched=None,
        items=items,
        kinds=kinds,
        work=round(work(index.settings, items)),
    )


def query_halves(queries: np.ndarray, vectors: np.ndarray) -> QueryHalves:
    """Splits the query vectors in two, every other one. Too few are made up by item vectors.

    Args:
      queries: [Q, D] float32, in order of user.
      vectors: [N, D] float32.
    """
    source = "users"
    if len(queries) < _LEAST_QUERIES:
        source = (
            f"{len(queries)} users and items, because fewer than {_LEAST_QUERIES} users were active"
        )
        drawn = np.random.default_rng(SEED).choice(
            len(vectors), min(len(vectors), _LEAST_QUERIES), replace=False
        )
        items = vectors[np.sort(drawn)]
        if len(queries):
            queries = np.concatenate([queries, items])
        else:
            # Without users there was no file, and the queries have no width to be joined by
            queries = items
    tuning = queries[::2]
    # A single query has to do for both
    measuring = queries[1::2] if len(queries) > 1 else tuning
    most_measured = max(_LEAST_QUERIES, _MOST_COMPARED // max(1, len(vectors)))
    return QueryHalves(tuning[:_MOST_TUNING], measuring[:most_measured], source)


def _figures(built: Built, queries: QueryHalves, wanted: Wanted, day: date) -> IndexFigures:
    index = built.index
    # Exact search of the whole corpus; `build` compared the tuning queries only
    truth = Truth.by_exact_search(index.vectors, queries.measuring, min(wanted.k, len(index)))
    rows, _ = index.search(queries.measuring, truth.k)
    measured = recall(index.vectors, truth, rows)
    searched = built.origin.searched or str(day)
    return IndexFigures(
        kind=index.settings.kind,
        items=len(index),
        dimension=int(index.vectors.shape[1]),
        k=truth.k,
        recall=measured.mean,
        recall_error=measured.error,
        recall_target=wanted.recall_target,
        settings=asdict(index.settings),
        reasons=built.reasons,
        tuning=built.origin.model_copy(update={"searched": searched}),
        queries=SampledQueries(
            tuning=len(queries.tuning), measuring=len(queries.measuring), source=queries.source
        ),
        tried=[
            TriedSettings(
                **asdict(point.settings), recall=point.recall.mean, work=round(point.work)
            )
            for point in built.tried
        ],
    )
