"""Measures an index against exact search on real query vectors, and finds the settings that reach a recall
with the least work.

Work is counted, not timed, so that the same vectors give the same settings on a busy machine. Its
unit is the scan of one item's code of two dimensions per four bits.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol, Self

import numpy as np

from twinspire_core.search.index import EXACT_SHARE, NONE, Index
from twinspire_core.search.index_settings import Kind, Settings
from twinspire_core.search.top_k import QUERY_BLOCK, exact_search

# Costs in scans of one code, from CPU time of batches at 64 dimensions on 16,562 and 92,331 item
# vectors. Rescoring an item reads a random row and updates a heap; each leaf starts a new scan.
_EXACT_WORK = 2
_RESCORE_WORK = 40
_CENTRE_WORK = 4
_LEAF_WORK = 100
_RESCORED = (1.25, 1.5, 2, 2.5, 3, 4, 6, 8, 12, 16, 24)  # times k
_MIDDLE = 4  # times k, where a search begins
_LEAF_STEP = 1.15
_MOST_LEAVES = 0.5  # share of a tree's leaves; searching more does not pay
BATCH = 256
_SINGLE = 200  # queries that are timed one by one
_BATCHES = 8
_EXACT_PAIRS = 20_000_000  # query-item pairs that exact search is timed on
# The tuned recall must be this many standard errors above the target, because the final recall is measured on
# other queries
_SURE = 3
# Scores this close to the k-th neighbour's score count as equal, because sums of floats differ in their last
# bits
_TIE = 1e-6


class Recall(NamedTuple):
    """Share of the exact neighbours that were found, averaged over queries.

    Attributes:
      mean: in [0, 1].
      error: standard error of the mean.
    """

    mean: float
    error: float

    @property
    def sure(self) -> float:
        """The recall that other queries of the same kind reach almost certainly."""
        return self.mean - _SURE * self.error


@dataclass(frozen=True, slots=True)
class Truth:
    """Queries with their exact neighbours.

    Attributes:
      queries: [Q, D] float32, at least one row.
      kth: [Q] float32, score of the k-th exact neighbour.
      k: number of neighbours, at most the size of the corpus.
    """

    queries: np.ndarray
    kth: np.ndarray
    k: int

    @classmethod
    def by_exact_search(cls, vectors: np.ndarray, queries: np.ndarray, k: int) -> Self:
        """Finds the neighbours of queries, [Q, D] float32, among vectors, [N, D] float32."""
        _, scores = exact_search(vectors, queries, k)
        return cls(queries, scores[:, -1], scores.shape[1])


def recall(vectors: np.ndarray, truth: Truth, rows: np.ndarray) -> Recall:
    """The recall of found rows.

    Args:
      vectors: [N, D] float32, one row per item.
      truth: the queries and the scores of exact search.
      rows: [Q, k] int, the items found, each at most once per query; `NONE` is a miss.
    """
    hits = np.empty(len(rows))
    for start in range(0, len(rows), QUERY_BLOCK):
        block = slice(start, start + QUERY_BLOCK)
        scores = np.einsum("qd,qkd->qk", truth.queries[block], vectors[rows[block]])
        # By score, not by row: of items with the score of the k-th neighbour, any is right
        hits[block] = ((scores >= truth.kth[block, None] - _TIE) & (rows[block] != NONE)).mean(1)
    return Recall(float(hits.mean()), float(hits.std() / max(1, len(hits)) ** 0.5))


def timings(index: Index, queries: np.ndarray, k: int) -> dict[str, float]:
    """Measures the time of searches in batches, one by one, and by exact search.

    Args:
      queries: [Q, D] float32, at least one row.

    Returns: queries per second in batches of `BATCH`, of exact search too; median and 99th
    percentile of one query, ms.
    """
    index.search(queries[:BATCH], k)  # warm up
    single = [_seconds(index.search, query[None], k) * 1e3 for query in queries[:_SINGLE]]
    # On a large corpus, exact search of all queries would take minutes. A few queries are enough to measure
    # its speed
    few = queries[: max(1, min(BATCH, _EXACT_PAIRS // len(index)))]
    return {
        "batch_queries_per_s": round(_batches(index, queries, k), 1),
        "exact_queries_per_s": round(len(few) / _seconds(exact_search, index.vectors, few, k), 1),
        "single_ms_median": round(float(np.median(single)), 4),
        "single_ms_p99": round(float(np.quantile(single, 0.99)), 4),
    }


def _batches(index: Index, queries: np.ndarray, k: int) -> float:
    blocks = [queries[i : i + BATCH] for i in range(0, min(len(queries), BATCH * _BATCHES), BATCH)]
    return sum(map(len, blocks)) / sum(_seconds(index.search, block, k) for block in blocks)


def _seconds(call: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started


class Tunable(Index, Protocol):
    """An index whose search can be changed after it was built."""

    def with_settings(self, settings: Settings) -> Self: ...  # noqa: D102

    def scan(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Point:
    """One setting that was tried.

    Attributes:
      work: per query, in scans of one code.
    """

    settings: Settings
    recall: Recall
    work: float


def untuned(kind: Kind, code_dimensions: Literal[1, 2], k: int, leaves: int) -> Settings:
    """The settings with which an index is built. They do not depend on tuning, so the same vectors give the
    same index.
    """
    return Settings(
        kind=kind,
        k=k,
        rescored=k,
        leaves=leaves,
        leaves_searched=leaves,
        code_dimensions=code_dimensions,
    )


def measure(index: Tunable, truth: Truth, settings: Settings) -> Point:
    """The recall and the work of settings."""
    # Not `search`: it falls back to exact search if the leaves have too few items, which would raise the
    # recall
    set_up = index.with_settings(settings)
    rows, _ = set_up.scan(truth.queries, truth.k)
    return Point(settings, recall(index.vectors, truth, rows), work(settings, len(index)))


def tune(
    index: Tunable,
    truth: Truth,
    target: float,
    tried: Callable[[Point], None],
    below: float = math.inf,
) -> Point | None:
    """Searches for the least work with which recall is surely at or above the target.

    More rescoring needs fewer leaves. So for each number of rescored items, bisection finds the fewest leaves
    that would beat the best so far. The search starts in the middle and goes outwards, because a good first
    point leaves few settings to try. If settings missed the target, no settings with as few or fewer leaves
    and rescored items are tried.

    Args:
      index: a built index, with any settings.
      truth: the queries to tune on.
      target: recall, in [0, 1].
      tried: called with every setting that was measured.
      below: work to beat, in scans of one code.

    Returns: the best point, or None if none reaches the target with less work than `below`.
    """
    failed: list[Settings] = []

    def reaches(settings: Settings) -> Point | None:
        if any(_finds_no_more(settings, other) for other in failed):
            return None
        point = measure(index, truth, settings)
        tried(point)
        if point.recall.sure >= target:
            return point
        failed.append(settings)
        return None

    # Ladders by their distance from the middle one: a good first point rules out most others
    begin = index.settings.k * _MIDDLE
    best: Point | None = None
    for ladder in sorted(
        candidates(index.settings, len(index)),
        # By factors, not by differences, because each ladder rescores a multiple of the ladder before
        key=lambda ladder: abs(math.log(begin / ladder[0].rescored)),
    ):
        if best:
            below = best.work
        best = _first([s for s in ladder if work(s, len(index)) < below], reaches) or best
    return best


def step_up(
    index: Tunable,
    truth: Truth,
    target: float,
    tried: Callable[[Point], None],
    missed: Settings,
    below: float,
) -> Point | None:
    """Goes step by step from settings that miss the target to more expensive ones, until one surely reaches
    it.

    Args:
      index: a built index, with any settings.
      truth: the queries to tune on.
      target: recall, in [0, 1].
      tried: called with every setting that was measured.
      missed: the settings that miss the target. The tried settings rescore at least as many items and search
        at least as many leaves.
      below: work at which the search ends, in scans of one code.

    Returns: the first point that reaches the target; None if none does with less work than `below`.
    """
    # Less rescoring with more leaves may reach it too, but would need another search
    dearer = [
        s
        for s in affordable(index.settings, len(index), below)
        if s != missed and _finds_no_more(missed, s)
    ]
    for settings in sorted(dearer, key=lambda s: work(s, len(index))):
        point = measure(index, truth, settings)
        tried(point)
        if point.recall.sure >= target:
            return point
    return None


def _finds_no_more(settings: Settings, other: Settings) -> bool:
    """Whether the other settings look at every item that these settings look at."""
    return settings.rescored <= other.rescored and settings.leaves_searched <= other.leaves_searched


def _first(
    candidates: Sequence[Settings], reaches: Callable[[Settings], Point | None]
) -> Point | None:
    """The first settings that reach the target, if each finds at least what the settings before it find."""
    # If the most expensive settings miss the target, all do
    best = reaches(candidates[-1]) if candidates else None
    if best is None:
        return None
    # The settings at `high` reach the target, and none before `low` does
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high) // 2
        if point := reaches(candidates[middle]):
            best, high = point, middle
        else:
            low = middle + 1
    return best


def candidates(start: Settings, items: int) -> list[list[Settings]]:
    """Settings to try, from cheap to expensive: a list per number of rescored items, ordered by
    leaves.
    """
    leaves = _leaf_numbers(start.leaves) if start.kind == "tree" else [0]
    return [
        [replace(start, rescored=rescored, leaves_searched=n) for n in leaves]
        for rescored in (math.ceil(start.k * factor) for factor in _RESCORED)
        if rescored * EXACT_SHARE <= items  # others fall back to exact search
    ]


def affordable(start: Settings, items: int, below: float) -> list[Settings]:
    """The settings to try that do less work than `below`, in scans of one code."""
    return [s for ladder in candidates(start, items) for s in ladder if work(s, items) < below]


def leaves_suffice(
    tree: Tunable,
    cheaper: Sequence[Settings],
    truth: Truth,
    target: float,
    tried: Callable[[Point], None],
) -> bool:
    """Whether other codes in the same leaves could reach the target with some of these settings.

    Leaves are trained independently of codes. So a neighbour that is missed with that many leaves and by far
    the most rescoring is in none of these leaves, and finer codes would not find it either.

    Args:
      tree: a tuned tree, whose codes are good enough for its own settings.
      cheaper: settings of the index with the other codes.
      truth: the queries to tune on.
      target: recall, in [0, 1].
      tried: called with the setting that was measured.
    """
    rescored = candidates(tree.settings, len(tree))[-1][0].rescored
    leaves = max(settings.leaves_searched for settings in cheaper)
    point = measure(tree, truth, replace(tree.settings, rescored=rescored, leaves_searched=leaves))
    tried(point)
    return point.recall.sure >= target


def work(settings: Settings, items: int) -> float:
    """Work of one query of a batch, in scans of one code."""
    if settings.kind == "exact":
        return float(items * _EXACT_WORK)
    rescoring = settings.rescored * _RESCORE_WORK
    scan = 2 / settings.code_dimensions
    if settings.kind == "quantised":
        return items * scan + rescoring
    # This assumes leaves of the same size. Queries go to the fuller leaves, but they do so with every setting
    share = settings.leaves_searched / settings.leaves
    return (
        settings.leaves * _CENTRE_WORK
        + settings.leaves_searched * _LEAF_WORK
        + items * share * scan
        + rescoring
    )


def _leaf_numbers(leaves: int) -> list[int]:
    numbers = list[int]()
    n = 1.0
    while n <= max(1, leaves * _MOST_LEAVES):
        numbers.append(math.ceil(n))
        n *= _LEAF_STEP
    return sorted(set(numbers))
