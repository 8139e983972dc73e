"""How good an index is, beside exact search, and how fast it answers on this machine."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from twinspire_core.search.index import NONE, Index
from twinspire_core.search.top_k import QUERY_BLOCK, exact_search

BATCH = 256
_SINGLE = 200  # queries asked one by one
_BATCHES = 8
_EXACT_PAIRS = 20_000_000  # query-item pairs that exact search is timed on
# Standard errors between the tuned recall and the target, as the other half of the queries decides
_SURE = 3
_TIE = 1e-6  # scores this close to the k-th neighbour's are as good


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
    def by_exact_search(cls, vectors: np.ndarray, queries: np.ndarray, k: int) -> Self:
        """Finds the neighbours of queries, [Q, D] float32, among vectors, [N, D] float32."""
        _, scores = exact_search(vectors, queries, k)
        return cls(queries, scores[:, -1], scores.shape[1])


def recall(vectors: np.ndarray, truth: Truth, rows: np.ndarray) -> Recall:
    """Measures an answer. An item that ties with the k-th neighbour is as good as that: duplicates
    are no misses.

    Args:
      vectors: [N, D] float32.
      truth: the queries and what exact search found.
      rows: [Q, k] int, the items found, each at most once per query; `NONE` is a miss.
    """
    hits = np.empty(len(rows))
    for start in range(0, len(rows), QUERY_BLOCK):
        block = slice(start, start + QUERY_BLOCK)
        scores = np.einsum("qd,qkd->qk", truth.queries[block], vectors[rows[block]])
        hits[block] = ((scores >= truth.kth[block, None] - _TIE) & (rows[block] != NONE)).mean(1)
    return Recall(float(hits.mean()), float(hits.std() / max(1, len(hits)) ** 0.5))


def timings(index: Index, queries: np.ndarray, k: int) -> dict[str, float]:
    """Times searches in batches and one by one, with exact search beside.

    Args:
      index: what is timed.
      queries: [Q, D] float32.
      k: neighbours asked for.

    Returns: queries per second in batches of `BATCH`, of exact search too; median and 99th
    percentile of one query, ms.
    """
    index.search(queries[:BATCH], k)  # warm up
    one = [_seconds(index.search, query[None], k) * 1e3 for query in queries[:_SINGLE]]
    # Of a large corpus a few queries are enough to time, and all would take minutes
    few = queries[: max(1, min(BATCH, _EXACT_PAIRS // len(index)))]
    return {
        "batch_queries_per_s": round(_batches(index, queries, k), 1),
        "exact_queries_per_s": round(len(few) / _seconds(exact_search, index.vectors, few, k), 1),
        "single_ms_median": round(float(np.median(one)), 4),
        "single_ms_p99": round(float(np.quantile(one, 0.99)), 4),
    }


def _batches(index: Index, queries: np.ndarray, k: int) -> float:
    blocks = [queries[i : i + BATCH] for i in range(0, min(len(queries), BATCH * _BATCHES), BATCH)]
    return sum(map(len, blocks)) / sum(_seconds(index.search, block, k) for block in blocks)


def _seconds(call: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - started
