"""The index stage: from the day's vectors to an index whose recall is known.

Written below the stage's folder:

    index/        the index (twinspire_core/search/index.py); row i is the i-th item in order
                  of id
    index.json    settings, whether they were inherited or tuned, recall against exact search, all
                  that were tried (twinspire_core/contracts/index_figures.py)
    timings.json  how fast it was on this machine, and each setting tried
                  (twinspire_core/contracts/timings.py), kept apart because it differs from run to
                  run
"""

import tempfile
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from index_builder.tuning.kind_choice import Built, Wanted, build
from index_builder.tuning.settings_search import Truth, recall, timings
from twinspire_core import storage
from twinspire_core.contracts import artifact_files
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.embedded_vectors import read_items, read_queries
from twinspire_core.contracts.index_figures import (
    IndexFigures,
    SampledQueries,
    TriedSettings,
)
from twinspire_core.contracts.timings import IndexTimings
from twinspire_core.terminal import console

SEED = 0

_LEAST_QUERIES = 200  # fewer do not tell .97 from .98
_MOST_TUNING = 2_000
_MOST_COMPARED = 20_000_000_000  # query-item pairs of exact search in measuring, about a minute
_SUMMARISED = ("kind", "items", "dimension", "k", "recall", "settings", "tuning", "reasons")


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
    wanted = Wanted(ctx.pipeline.index.recall_target)
    built = build(vectors, queries.tuning, wanted, ctx.start)
    # On the other half of the queries: those that chose the settings would flatter them
    figures = _figures(built, queries, wanted, ctx.day)
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


def query_halves(queries: np.ndarray, vectors: np.ndarray) -> QueryHalves:
    """Splits the query vectors in two, every other one. Too few are made up by item vectors.

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
        if len(queries):
            queries = np.concatenate([queries, items])
        else:
            # Without users there was no file, and the queries have no width to be joined by
            queries = items
    tuning = queries[::2]
    # A single query has to do for both
    measuring = queries[1::2] if len(queries) > 1 else tuning
    most_measured = max(_LEAST_QUERIES, _MOST_COMPARED // max(1, len(vectors)))
    return QueryHalves(_evenly(tuning, _MOST_TUNING), _evenly(measuring, most_measured), source)


def _evenly(queries: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the queries, evenly out of all.

    Ids often tell when a user came: the first ones in order of id are users of another kind, whose
    neighbours lie elsewhere.
    """
    if len(queries) <= most:
        return queries
    return queries[np.arange(most) * len(queries) // most]


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
