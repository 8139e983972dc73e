"""The index stage: from the day's vectors to an index whose recall is known.

Written below the stage's folder:

    index/        the index (index_builder/index.py); row i is the i-th item in order of id
    index.json    settings, recall against exact search, every setting that was tried
    timings.json  how fast it was on this machine, and each setting tried (`tried_ms`, a query of a batch, in the order
                  of index.json), kept apart because it differs from run to run
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from rich.console import Console

from index_builder.exact import ExactIndex
from index_builder.index import EXACT_SHARE, Index, Kind, Settings
from index_builder.timing import timings
from index_builder.tuning import Point, Truth, recall, tune, work
from index_builder.vectors import read_items, read_queries
from twinspire import storage, workdir
from twinspire.errors import BadData
from twinspire.stages import StageContext
from twinspire.tables import Index as Wanted

INDEX, FIGURES = "index", "index.json"
SEED = 0

_LEAST_CODED = 1_000  # items; fewer do not train a codebook, and comparing them all takes microseconds
_CODES: Mapping[Kind, tuple[Literal[2, 1], ...]] = {"quantised": (2,), "tree": (2, 1)}  # dimensions, in order of trying
_WORTH = 0.8  # share of exact search's work that is worth an index
_LEAST_QUERIES = 200  # fewer do not tell .97 from .98
_MOST_TUNING = 2_000
_MOST_COMPARED = 20_000_000_000  # query-item pairs of exact search in measuring, about a minute
_SUMMARISED = ("kind", "items", "dimension", "k", "recall", "settings", "reasons")

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Built:
    """An index and how it came about.

    Attributes:
      index: tuned.
      tried: settings that were measured on the tuning queries.
      reasons: why it is of its kind.
    """

    index: Index
    tried: list[Point]
    reasons: list[str]


class Halves(NamedTuple):
    """Query vectors, [Q, D] each: those that choose the settings, and those that say how well they do."""

    tuning: np.ndarray
    measuring: np.ndarray
    source: str


def run(ctx: StageContext) -> dict:
    """Builds the day's index, tunes it, and measures its recall on queries that it was not tuned on."""
    _, vectors = read_items(ctx.inputs["embed"])
    queries = halves(read_queries(ctx.inputs["embed"]), vectors)
    built = build(vectors, queries.tuning, ctx.pipeline.index)
    figures = _figures(built, queries, ctx.pipeline.index)
    speed = timings(built.index, queries.measuring, figures["k"])
    tried = {"tried_ms": [round(point.seconds * 1e3, 4) for point in built.tried]}
    with tempfile.TemporaryDirectory(prefix="twinspire-index-") as scratch:
        folder = Path(scratch)
        built.index.save(folder / INDEX)
        (folder / FIGURES).write_text(json.dumps(figures, indent=1))
        (folder / workdir.TIMINGS).write_text(json.dumps(speed | tried, indent=1))
        storage.upload_tree(folder, ctx.out)
    console.print(
        f"index: {figures['kind']}, {figures['items']:,} items, recall@{figures['k']} {figures['recall']:.4f}, "
        f"{speed['batch_queries_per_s']:,.0f} queries/s",
        highlight=False,
    )
    return {key: figures[key] for key in _SUMMARISED} | speed


def build(vectors: np.ndarray, tuning: np.ndarray, wanted: Wanted) -> Built:
    """Builds an index of the kind that suits the corpus, with the least work that surely reaches the recall target.

    Args:
      vectors: [N, D] float32, finite.
      tuning: [Q, D] float32, queries to choose the settings by.
      wanted: `[index]` of the pipeline file.
    """
    if not len(vectors):
        raise BadData("An index needs items, and there are none.")
    kinds, reason = strategy(len(vectors), wanted)
    k = min(wanted.k, len(vectors))
    tried: list[Point] = []
    reasons = [reason]
    best: Index = ExactIndex(vectors, Settings(kind="exact", k=k))
    truth = Truth.of(vectors, tuning, k) if kinds else None
    while kinds and truth is not None:
        for kind in kinds:
            best = _tuned(best, kind, truth, wanted.recall_target, tried, reasons)
        # What falls into no leaves may be worth a scan of all its codes.
        kinds = ("quantised",) if "quantised" not in kinds and best.settings.kind == "exact" else ()
    return Built(best, tried, reasons)


def strategy(items: int, wanted: Wanted) -> tuple[tuple[Kind, ...], str]:
    """The kinds of index to try for a corpus of so many items, besides comparing all, and why."""
    least = max(wanted.exact_below, _LEAST_CODED)
    if items < least:
        return (), f"{items:,} items, below {least:,}: comparing all is fastest"
    if wanted.k * EXACT_SHARE > items:
        return (), f"k = {wanted.k} is more than a quarter of {items:,} items"
    if items <= wanted.tree_above:
        return ("quantised", "tree"), f"{items:,} items, not above index.tree_above = {wanted.tree_above:,}"
    return ("tree",), f"{items:,} items, above index.tree_above = {wanted.tree_above:,}"


def _tuned(best: Index, kind: Kind, truth: Truth, target: float, tried: list[Point], reasons: list[str]) -> Index:
    """The index of a kind with the least work, or the best so far where that does less."""
    from index_builder.scann_index import ScannIndex

    def note(point: Point) -> None:
        tried.append(point)
        s, mean = point.settings, point.recall.mean
        leaves = f", {s.leaves_searched} of {s.leaves} leaves" if s.leaves else ""
        console.print(f"index: {s.kind}{leaves}, {s.rescored} rescored: recall {mean:.4f}", highlight=False)

    vectors, k = best.vectors, truth.k
    leaves = round(len(vectors) ** 0.5) if kind == "tree" else 0
    for dimensions in _CODES[kind]:
        start = Settings(kind=kind, k=k, rescored=k, leaves=leaves, leaves_searched=leaves, code_dimensions=dimensions)
        console.print(f"index: training a {kind} index of {len(vectors):,} vectors …", highlight=False)
        index = ScannIndex.build(vectors, start)
        rival = best.settings.kind
        below = work(best.settings, len(vectors)) * (_WORTH if rival == "exact" else 1)
        if point := tune(index, truth, target, note, below):
            best = index.with_settings(point.settings)
        else:
            what = f"{kind} with codes of {dimensions} dimensions"
            reasons.append(f"no settings of {what} reach recall@{k} {target} with less work than {rival}")
    return best


def halves(queries: np.ndarray, vectors: np.ndarray) -> Halves:
    """Splits the query vectors in two, every other one. Too few are made up by item vectors.

    Args:
      queries: [Q, D] float32, in order of user.
      vectors: [N, D] float32.
    """
    source = "users"
    if len(queries) < _LEAST_QUERIES:
        source = f"{len(queries)} users and items, because fewer than {_LEAST_QUERIES} users were active"
        drawn = np.random.default_rng(SEED).choice(len(vectors), min(len(vectors), _LEAST_QUERIES), replace=False)
        items = vectors[np.sort(drawn)]
        queries = np.concatenate([queries, items]) if len(queries) else items  # of no width where there was no file
    measured = max(_LEAST_QUERIES, _MOST_COMPARED // max(1, len(vectors)))
    tuning, measuring = queries[::2], queries[1::2]
    return Halves(tuning[:_MOST_TUNING], (measuring if len(measuring) else tuning)[:measured], source)


def _figures(built: Built, queries: Halves, wanted: Wanted) -> dict:
    index = built.index
    truth = Truth.of(index.vectors, queries.measuring, min(wanted.k, len(index)))
    rows, _ = index.search(queries.measuring, truth.k)
    measured = recall(index.vectors, truth, rows)
    return {
        "kind": index.settings.kind,
        "items": len(index),
        "dimension": int(index.vectors.shape[1]),
        "k": truth.k,
        "recall": measured.mean,
        "recall_error": measured.error,
        "recall_target": wanted.recall_target,
        "settings": asdict(index.settings),
        "reasons": built.reasons,
        "queries": {"tuning": len(queries.tuning), "measuring": len(queries.measuring), "source": queries.source},
        "tried": [{**asdict(p.settings), "recall": p.recall.mean, "work": round(p.work)} for p in built.tried],
    }
