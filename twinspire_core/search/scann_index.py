"""ScaNN behind the `Index` protocol. The one module that imports scann.

ScaNN 1.4.2 is linked against another TensorFlow than the one that trains, and crashes on import
beside it. Its NumPy interface needs no TensorFlow, so that is hidden while scann is imported;
afterwards both work in one process.
"""

import math
from pathlib import Path
from typing import Any, Self

import numpy as np

from twinspire_core.native_code import block_import, suppress_native_stderr
from twinspire_core.search.index import (
    ASSETS,
    EXACT_SHARE,
    NONE,
    STORED_VECTORS,
    write_config,
)
from twinspire_core.search.index_settings import Settings
from twinspire_core.search.top_k import CORES, checked_queries, exact_search

ANISOTROPY = 0.2  # weight of errors along the vector; ScaNN's own advice for unit vectors
_SAMPLE = 10_000  # vectors that codebooks and leaves are trained on
_SAMPLE_PER_LEAF = 100  # at least this many for each leaf
_ITERATIONS = 5  # of k-means; more find no better leaves or codes
# Queries that a thread answers at a time.
_LEAST_PER_THREAD = 8
_MOST_PER_THREAD = 32


# ScaNN does without TensorFlow when it cannot be imported.
with block_import("tensorflow"):
    from scann.scann_ops.py import scann_ops_pybind as scann


class ScannIndex:
    """Codes of 4 bits per dimension or two, scanned; the best are rescored exactly."""

    def __init__(self, searcher: Any, vectors: np.ndarray, settings: Settings) -> None:
        self._searcher = searcher
        self.vectors = vectors
        self.settings = settings

    @classmethod
    def build(cls, vectors: np.ndarray, settings: Settings) -> Self:
        """Trains codebooks, and leaves for a tree, on vectors, [N, D] float32. The same vectors give
        the same index, on any number of cores.
        """
        builder = scann.builder(vectors, settings.k, "dot_product")
        if settings.kind == "tree":
            builder.tree(
                settings.leaves,
                settings.leaves_searched,
                training_sample_size=max(_SAMPLE, _SAMPLE_PER_LEAF * settings.leaves),
                training_iterations=_ITERATIONS,
                random_init=False,  # random initial centres ignore every seed; k-means++ does not
            )
        builder.score_ah(
            min(settings.code_dimensions, vectors.shape[1]),
            anisotropic_quantization_threshold=ANISOTROPY,
            training_sample_size=_SAMPLE,
            training_iterations=_ITERATIONS,
        )
        builder.reorder(settings.rescored)
        builder.set_n_training_threads(1)  # several threads add floats in an order of their own
        with suppress_native_stderr():  # ScaNN reports how it trains, and cannot be told not to
            searcher = builder.build()
        return cls(searcher, vectors, settings)

    @classmethod
    def load(cls, folder: Path, settings: Settings) -> Self:
        """Opens a stored index."""
        searcher = scann.load_searcher(str(folder / ASSETS))
        # Read whole: a mapped file that is cut short later kills the process.
        vectors = np.load(folder / ASSETS / STORED_VECTORS)
        return cls(searcher, vectors, settings)

    def with_settings(self, settings: Settings) -> Self:
        """The same codes, searched in another way: `rescored`, `leaves_searched` and `k` may differ."""
        return type(self)(self._searcher, self.vectors, settings)

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Index.search`. A k near N is answered exactly, and so is a query whose leaves hold
        fewer than k.
        """
        queries, k = checked_queries(queries, k, self.vectors)
        rescored, _ = self._scaled(k)
        if rescored * EXACT_SHARE > len(self) or len(queries) == 0:
            return exact_search(self.vectors, queries, k)
        rows, scores = self.scan(queries, k)
        short = (rows == NONE).any(1)
        if short.any():
            rows[short], scores[short] = exact_search(self.vectors, queries[short], k)
        return rows, scores

    def scan(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """What the codes alone give: like `search`, but `NONE` and NaN where a query's leaves hold
        fewer than k.
        """
        queries, k = checked_queries(queries, k, self.vectors)
        rescored, leaves = self._scaled(k)
        rows, scores = self._search_codes(queries, k, rescored, leaves or -1)
        # ScaNN fills up with row 0 and NaN.
        return np.where(np.isnan(scores), NONE, rows.astype(np.int32)), scores

    def _search_codes(
        self, queries: np.ndarray, k: int, rescored: int, leaves: int
    ) -> tuple[np.ndarray, np.ndarray]:
        if len(queries) == 1:  # a quarter to a third faster than as a batch
            nearest, values = self._searcher.search(queries[0], k, rescored, leaves)
            rows = np.zeros((1, k), np.uint32)
            scores = np.full((1, k), np.nan, np.float32)
            rows[0, : len(nearest)], scores[0, : len(nearest)] = nearest, values
            return rows, scores
        if len(queries) < 2 * _LEAST_PER_THREAD:
            rows, scores = self._searcher.search_batched(queries, k, rescored, leaves)
        else:
            share = math.ceil(len(queries) / CORES)
            per_thread = min(_MOST_PER_THREAD, max(_LEAST_PER_THREAD, share))
            rows, scores = self._searcher.search_batched_parallel(
                queries, k, rescored, leaves, per_thread
            )
        return rows, np.array(scores)

    def save(self, folder: Path) -> None:
        """See `Index.save`."""
        assets = folder / ASSETS
        assets.mkdir(parents=True, exist_ok=True)
        # Absolute paths would tie it to this folder.
        self._searcher.serialize(str(assets), relative_path=True)
        write_config(folder, self.settings, self.vectors)

    def _scaled(self, k: int) -> tuple[int, int]:
        """`rescored` and `leaves_searched` for k neighbours: as tuned up to the tuned k, more in
        proportion beyond it.
        """
        factor = max(1.0, k / self.settings.k)
        leaves = min(self.settings.leaves, int(np.ceil(self.settings.leaves_searched * factor)))
        return int(np.ceil(self.settings.rescored * factor)), leaves
