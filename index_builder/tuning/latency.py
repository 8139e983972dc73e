"""How fast an index answers on this machine."""

import time
from collections.abc import Callable

import numpy as np

from twinspire_core.search.index import Index
from twinspire_core.search.top_k import exact_search

BATCH = 256
_SINGLE = 200  # queries asked one by one
_BATCHES = 8
_EXACT_PAIRS = 20_000_000  # query-item pairs that exact search is timed on


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
