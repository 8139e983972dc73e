"""The index stage: from the day's vectors to an index whose recall is measured.

The kind of index depends on the size of the corpus: exact search, quantised vectors, or a tree of
them. The settings of an earlier version are kept as long as they reach the target recall.
Otherwise a search finds new ones (index_builder/settings_search.py). docs/decisions/0007-index.md

Written below the stage's folder:

    index/        the index (twinspire_core/search/index.py); row i is the i-th item by id
    index.json    settings, whether they were inherited or tuned, recall against exact search, all settings
                  that were tried (twinspire_core/contracts/version_manifest.py)
    timings.json  its speed on this machine, with each setting tried; apart, because it differs by run
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from index_builder.settings_search import (
    Point,
    Truth,
    affordable,
    leaves_suffice,
    measure,
    recall,
    step_up,
    timings,
    tune,
    untuned,
    work,
)
from twinspire_core import storage
from twinspire_core.contracts import version_manifest
from twinspire_core.contracts.attempts import NO_START, StageContext, Start
from twinspire_core.contracts.model_bundle import read_items, read_queries
from twinspire_core.contracts.version_manifest import (
    IndexFigures,
    IndexTimings,
    SampledQueries,
    SettingsOrigin,
    TriedSettings,
)
from twinspire_core.errors import BadData
from twinspire_core.search.index import EXACT_SHARE, ExactIndex, Index
from twinspire_core.search.index_settings import Kind, Settings
from twinspire_core.terminal import console

SEED = 0

# Fewer queries cannot distinguish a recall of 0.97 from one of 0.98
_LEAST_QUERIES = 200
_MOST_TUNING = 2_000
# Query-item pairs of exact search in measuring, which take about a minute
_MOST_COMPARED = 20_000_000_000
_SUMMARISED = ("kind", "items", "dimension", "k", "recall", "settings", "tuning", "reasons")
# Fewer items do not train a codebook, and comparing them all takes microseconds
_LEAST_CODED = 1_000
# Dimensions of a code, in the order in which they are tried
_CODES: Mapping[Kind, tuple[Literal[2, 1], ...]] = {"tree": (2, 1), "quantised": (2,)}
# An index pays off if it does less than this share of exact search's work
_WORTH = 0.8
# A larger change of the corpus, or of the work of a query, starts another search for settings
_CHANGE = 1 / 3


class Wanted(NamedTuple):
    """The requirements of an index, and the kinds that are tried.

    Attributes:
      recall_target: share of the exact neighbours that it has to find.
      tree_above: with more items, only trees are tried: they are faster than a scan of all codes.
      exact_below: with fewer items, all are compared: that takes less than a millisecond.
      k: number of neighbours by which recall is measured; the length of a list of candidates.
    """

    recall_target: float = 0.98
    tree_above: int = 50_000
    exact_below: int = 10_000
    k: int = 100


@dataclass(frozen=True, slots=True)
class Built:
    """An index, and how its settings were found.

    Attributes:
      index: with its final settings.
      tried: the settings that were measured on the tuning queries, in order.
      reasons: why this kind was chosen, as text for people.
      origin: whether its settings were inherited or tuned.
    """

    index: Index
    tried: list[Point]
    reasons: list[str]
    origin: SettingsOrigin


class QueryHalves(NamedTuple):
    """Query vectors, [Q, D] each. One half chooses the settings; the other half measures the result.

    Attributes:
      source: where the queries come from, as text for people.
    """

    tuning: np.ndarray
    measuring: np.ndarray
    source: str


def run(ctx: StageContext) -> dict[str, Any]:
    """Builds and tunes the day's index, and measures its recall on queries not used for tuning."""
    _, vectors = read_items(ctx.inputs["embed"])
    queries = query_halves(read_queries(ctx.inputs["embed"]), vectors)
    wanted = Wanted(ctx.pipeline.index.recall_target)
    built = build(vectors, queries.tuning, wanted, ctx.start)
    # Measured on the other half of the queries. The half that chose the settings would flatter them
    figures = _figures(built, queries, wanted, ctx.day)
    speed = timings(built.index, queries.measuring, figures.k)
    with tempfile.TemporaryDirectory(prefix="twinspire-index-") as scratch:
        folder = Path(scratch)
        built.index.save(folder / version_manifest.INDEX)
        figures.write(folder)
        IndexTimings(**speed).write(folder)
        storage.upload_tree(folder, ctx.out)
    console.print(
        f"index: {figures.kind}, {figures.items:,} items, recall@{figures.k}"
        f" {figures.recall:.4f}, {speed['batch_queries_per_s']:,.0f} queries/s",
        highlight=False,
    )
    written = figures.model_dump()
    return {name: written[name] for name in _SUMMARISED} | speed


def query_halves(queries: np.ndarray, vectors: np.ndarray) -> QueryHalves:
    """Splits the query vectors alternately into two halves. If there are too few, item vectors are added.

    Args:
      queries: [Q, D] float32, in order of user.
      vectors: [N, D] float32, one row per item.
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
        # Without users there is no file of queries, so the array has no width and cannot be joined
        queries = np.concatenate([queries, items]) if len(queries) else items
    tuning = queries[::2]
    # A single query serves as both halves
    measuring = queries[1::2] if len(queries) > 1 else tuning
    most_measured = max(_LEAST_QUERIES, _MOST_COMPARED // max(1, len(vectors)))
    return QueryHalves(_evenly(tuning, _MOST_TUNING), _evenly(measuring, most_measured), source)


def _evenly(queries: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the queries, spread evenly over all."""
    # Ids often follow the order of registration, so the first users may differ from the others
    some = min(most, len(queries))
    return queries[np.arange(some) * len(queries) // max(1, some)]


def _figures(built: Built, queries: QueryHalves, wanted: Wanted, day: date) -> IndexFigures:
    index = built.index
    truth = Truth.by_exact_search(index.vectors, queries.measuring, min(wanted.k, len(index)))
    rows, _ = index.search(queries.measuring, truth.k)
    measured = recall(index.vectors, truth, rows)
    return IndexFigures(
        kind=index.settings.kind,
        items=len(index),
        dimension=int(index.vectors.shape[1]),
        k=truth.k,
        recall=measured.mean,
        recall_error=measured.error,
        recall_target=wanted.recall_target,
        settings=index.settings,
        reasons=built.reasons,
        tuning=built.origin.model_copy(update={"searched": built.origin.searched or str(day)}),
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


def build(
    vectors: np.ndarray, tuning: np.ndarray, wanted: Wanted, start: Start = NO_START
) -> Built:
    """Builds an index of the kind that suits the corpus, with settings that surely reach the recall target.
    It keeps the settings of an earlier version if these still do; else it takes those with the least work.

    Args:
      vectors: [N, D] float32, finite.
      tuning: [Q, D] float32, queries that choose the settings.
      start: the settings of an earlier version, or why there are none to start from.
    """
    if not len(vectors):
        raise BadData(
            "An index needs items, but there are none. Check corpus.filter and the items snapshot."
        )
    kinds, reason = strategy(len(vectors), wanted)
    # Every other kind must beat exact search. If none does, the answer is exact search
    exact = ExactIndex(vectors, Settings(kind="exact", k=min(wanted.k, len(vectors))))
    if not kinds:
        return Built(exact, [], [reason], _newly_searched(exact, kinds, reason))
    truth = Truth.by_exact_search(vectors, tuning, exact.settings.k)
    tried = list[Point]()
    why = unfit(start, vectors, truth.k, kinds, wanted)
    if not why and start.index and start.index.tuning:
        # The reason for tuning again; empty if the settings still reach the target
        index, why = _take_over(vectors, truth, wanted.recall_target, start, partial(_note, tried))
        if index:
            how = "tuned" if why else "inherited"
            changes = {"how": how, "version": start.version, "why": why}
            origin = start.index.tuning.model_copy(update=changes)
            return Built(index, tried, [reason, *start.index.reasons[1:]], origin)
    # No settings were inherited, or they would be too much work now
    console.print(f"index: searching for settings again: {why}", highlight=False)
    best, reasons = _least(exact, kinds, truth, wanted.recall_target, partial(_note, tried))
    return Built(best, tried, [reason, *reasons], _newly_searched(best, kinds, why))


def strategy(items: int, wanted: Wanted) -> tuple[tuple[Kind, ...], str]:
    """The kinds of index to try for a corpus of this size in addition to exact search, and why."""
    least = max(wanted.exact_below, _LEAST_CODED)
    if items < least:
        return (), f"{items:,} items, below {least:,}: comparing all is fastest"
    if wanted.k * EXACT_SHARE > items:
        return (), f"k = {wanted.k} is more than a quarter of {items:,} items"
    if items <= wanted.tree_above:
        return ("tree", "quantised"), f"{items:,} items, not above {wanted.tree_above:,}"
    return ("tree",), f"{items:,} items, above {wanted.tree_above:,}"


def unfit(
    start: Start, vectors: np.ndarray, k: int, kinds: tuple[Kind, ...], wanted: Wanted
) -> str:
    """Why the settings of an earlier version are not tried; empty if they are tried.

    Args:
      vectors: [N, D] float32, of today's items.
      kinds: the kinds of index that suit a corpus of this size.
    """
    if not start.version:
        return start.why
    before = start.index
    assert before, "of a version"
    items, width = vectors.shape
    searched_items = before.tuning.items
    if (before.k, before.recall_target) != (k, wanted.recall_target):
        return f"{start.version} was tuned for recall@{before.k} {before.recall_target}"
    if before.dimension != width:
        return f"vectors of {width} numbers; those of {start.version} have {before.dimension}"
    if before.tuning.kinds != kinds:
        return f"other kinds of index suit {items:,} items than were compared for {start.version}"
    if abs(items - searched_items) >= _CHANGE * searched_items:
        return (
            f"{items:,} items; there were {searched_items:,} when the settings of {start.version} were"
            " searched for"
        )
    return ""


def _take_over(
    vectors: np.ndarray, truth: Truth, target: float, start: Start, tried: Callable[[Point], None]
) -> tuple[Index | None, str]:
    """Builds an index with an earlier version's settings. If they miss the target, steps up from them.

    Args:
      vectors: [N, D] float32, one row per item.
      truth: the queries that choose the settings.
      target: recall, in [0, 1].
      tried: called with every setting that was measured.

    Returns: the index, or None if it would be too much work; and the reason for tuning, empty if the settings
      did not change.
    """
    from twinspire_core.search.scann_index import ScannIndex

    inherited = start.index
    assert inherited, "of a start that is fit"
    settings = inherited.settings
    if settings.kind == "exact":
        return ExactIndex(vectors, settings), ""
    index = ScannIndex.build(
        vectors, untuned(settings.kind, settings.code_dimensions, settings.k, settings.leaves)
    )
    point = measure(index, truth, settings)
    tried(point)
    if point.recall.sure >= target:
        return index.with_settings(settings), ""
    why = (
        f"with the settings of {start.version} recall was {point.recall.mean:.4f} ±"
        f" {point.recall.error:.4f}"
    )
    # After some drift, a little more work is enough. If it takes much more, a new search finds cheaper
    # settings
    most = inherited.tuning.work * (1 + _CHANGE)
    better = step_up(index, truth, target, tried, settings, most)
    return index.with_settings(better.settings) if better else None, why


def _least(
    exact: ExactIndex,
    kinds: Sequence[Kind],
    truth: Truth,
    target: float,
    tried: Callable[[Point], None],
) -> tuple[Index, list[str]]:
    """The index with the least work of all kinds, and why the other kinds were not chosen."""
    best: Index = exact
    reasons = list[str]()
    for kind in kinds:
        best = _least_of_kind(best, kind, truth, target, tried, reasons)
    # Without clusters in the vectors, a tree gains nothing; a scan of all codes may still be faster than
    # exact search
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
    """The index of this kind with the least work; the best so far if that does less work."""
    from twinspire_core.search.scann_index import ScannIndex

    vectors = best.vectors
    # About as many leaves as items in each
    leaves = round(len(vectors) ** 0.5) if kind == "tree" else 0
    for dimensions in _CODES[kind]:
        first = untuned(kind, dimensions, truth.k, leaves)
        rival = best.settings.kind
        description = f"{kind} with codes of {dimensions} dimensions"
        below = work(best.settings, len(vectors))
        if rival == "exact":
            below *= _WORTH
        cheaper = affordable(first, len(vectors), below)
        # The same leaves were measured with coarser codes before. That shows what recall these leaves can
        # reach
        possible = bool(cheaper)
        if possible and isinstance(best, ScannIndex) and rival == kind:
            possible = leaves_suffice(best, cheaper, truth, target, tried)
        if not possible:
            reasons.append(f"no settings of {description} can do less work than {rival}")
            continue
        console.print(
            f"index: training a {kind} index of {len(vectors):,} vectors …", highlight=False
        )
        index = ScannIndex.build(vectors, first)
        point = tune(index, truth, target, tried, below)
        if point:
            best = index.with_settings(point.settings)
        else:
            reasons.append(
                f"no settings of {description} reach recall@{truth.k} {target} with less work than {rival}"
            )
    return best


def _note(tried: list[Point], point: Point) -> None:
    """Keeps a point, and prints it."""
    tried.append(point)
    s = point.settings
    leaves = f"{s.leaves_searched} of {s.leaves} leaves, " if s.leaves else ""
    text = f"index: {s.kind}, {leaves}{s.rescored} rescored: recall {point.recall.mean:.4f}"
    console.print(text, highlight=False)


def _newly_searched(index: Index, kinds: tuple[Kind, ...], why: str) -> SettingsOrigin:
    """The origin of settings that were not taken over from an earlier version."""
    return SettingsOrigin(
        how="tuned",
        version=None,
        why=why,
        searched=None,
        items=len(index),
        kinds=kinds,
        work=round(work(index.settings, len(index))),
    )
