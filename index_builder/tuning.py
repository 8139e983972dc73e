"""Finds the settings that reach a recall with the least work, on real query vectors.

Work is counted, not timed, so that the same vectors give the same settings on a busy machine. Its unit is the scan of
one item's code.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, Self

import numpy as np

from index_builder import exact
from index_builder.index import NONE, Settings

# Costs in scans of one code, measured on 64 dimensions: an exact comparison reads a random row and keeps a heap.
RESCORE_WORK = 40
CENTRE_WORK = 4
_RESCORED = (1, 1.25, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)  # times k
_AMPLE = 8  # times k: rescoring that leaves the leaves as the only source of misses
_LEAF_STEP = 1.4
_MOST_LEAVES = 0.5  # share of the corpus; beyond it a tree does not pay
_WIDER = 3  # larger numbers of leaves tried, in case they allow less rescoring
_SURE = 3  # standard errors between the tuned recall and the target, as the other half of the queries decides
_TIE = 1e-6  # scores this close to the k-th neighbour's are as good


class Tunable(Protocol):
    """An index whose search can be changed after it was built."""

    settings: Settings
    vectors: np.ndarray

    def __len__(self) -> int: ...

    def with_settings(self, settings: Settings) -> Self: ...  # noqa: D102

    def scan(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]: ...  # noqa: D102


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
        """A value that other queries of the same kind reach as well."""
        return self.mean - _SURE * self.error


@dataclass(frozen=True, slots=True)
class Point:
    """One setting that was tried.

    Attributes:
      work: per query, in scans of one code.
      seconds: that answering one of many queries took on this machine; nothing is chosen by it.
    """

    settings: Settings
    recall: Recall
    work: float
    seconds: float = field(compare=False)


@dataclass(frozen=True, slots=True)
class Truth:
    """Queries with their exact neighbours.

    Attributes:
      queries: [Q, D] float32.
      kth: [Q] float32, score of the k-th exact neighbour.
      k: neighbours asked for, at most the corpus.
    """

    queries: np.ndarray
    kth: np.ndarray
    k: int

    @classmethod
    def of(cls, vectors: np.ndarray, queries: np.ndarray, k: int) -> Self:
        """Searches exactly."""
        _, scores = exact.search(vectors, queries, k)
        return cls(queries, scores[:, -1], scores.shape[1])


def recall(vectors: np.ndarray, truth: Truth, rows: np.ndarray) -> Recall:
    """Measures an answer. An item that ties with the k-th neighbour is as good as that: duplicates are no misses.

    Args:
      vectors: [N, D] float32.
      truth: the queries and what exact search found.
      rows: [Q, k] int, the items found, each at most once per query; `NONE` is a miss.
    """
    hits = np.empty(len(rows))
    for start in range(0, len(rows), exact.QUERY_BLOCK):
        block = slice(start, start + exact.QUERY_BLOCK)
        scores = np.einsum("qd,qkd->qk", truth.queries[block], vectors[rows[block]])
        hits[block] = ((scores >= truth.kth[block, None] - _TIE) & (rows[block] != NONE)).mean(1)
    return Recall(float(hits.mean()), float(hits.std() / max(1, len(hits)) ** 0.5))


def tune(index: Tunable, truth: Truth, target: float, tried: Callable[[Point], None]) -> Settings | None:
    """Searches for the least work with which recall is surely at or above the target.

    Args:
      index: built, with any settings.
      truth: the queries to tune on.
      target: recall, in [0, 1].
      tried: is told every point.

    Returns: the settings, or None if none reaches the target.
    """

    def points(candidates: Iterator[Settings]) -> Iterator[Point]:
        for settings in candidates:
            # Not `search`, which answers exactly where the leaves hold too little: that would look like recall.
            set_up, began = index.with_settings(settings), time.perf_counter()
            rows, _ = set_up.scan(truth.queries, truth.k)
            seconds = (time.perf_counter() - began) / len(truth.queries)
            point = Point(settings, recall(index.vectors, truth, rows), work(settings, len(index)), seconds)
            tried(point)
            yield point

    def first(candidates: Iterator[Settings]) -> Point | None:
        return next((p for p in points(candidates) if p.recall.sure >= target), None)

    if index.settings.kind == "quantised":
        found = [first(_rescored(index.settings))]
    else:
        found = [first(_rescored(settings)) for settings in _enough_leaves(index, first)]
    reached = [point for point in found if point]
    return min(reached, key=lambda point: point.work).settings if reached else None


def work(settings: Settings, items: int) -> float:
    """Work of one query, in scans of one code."""
    if settings.kind == "exact":
        return float(items * CENTRE_WORK)
    rescoring = settings.rescored * RESCORE_WORK
    if settings.kind == "quantised":
        return float(items + rescoring)
    return settings.leaves * CENTRE_WORK + items * settings.leaves_searched / settings.leaves + rescoring


def _rescored(settings: Settings) -> Iterator[Settings]:
    return (replace(settings, rescored=int(np.ceil(settings.k * factor))) for factor in _RESCORED)


def _enough_leaves(index: Tunable, first: Callable[[Iterator[Settings]], Point | None]) -> list[Settings]:
    """The fewest leaves that hold enough neighbours, and some larger numbers."""
    numbers = _leaf_numbers(index.settings.leaves)
    ample = index.settings.k * _AMPLE
    enough = first(replace(index.settings, leaves_searched=n, rescored=ample) for n in numbers)
    if enough is None:
        return []
    least = numbers.index(enough.settings.leaves_searched)
    return [replace(index.settings, leaves_searched=n) for n in numbers[least : least + _WIDER]]


def _leaf_numbers(leaves: int) -> list[int]:
    numbers, n = [], 1.0
    while n <= max(1, leaves * _MOST_LEAVES):
        numbers.append(int(np.ceil(n)))
        n *= _LEAF_STEP
    return sorted(set(numbers))
