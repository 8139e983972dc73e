"""Other projects' indexes. Runs in its own environment, which has hnswlib and faiss.

Each is built with the settings that its authors recommend for such a corpus. `worker.py` chooses the search
settings from its ladders: lists of settings, from cheap to expensive.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss
import hnswlib
import numpy as np

LINKS = 16  # of the graphs
CONSTRUCTION = 200  # of the graphs
SEED = 0
_BREADTHS = [100, 120, 140, 160, 180, 200, 225, 250, 280, 320, 360, 400, 450, 500, 600, 700, 850]
_BREADTHS += [1_000, 1_400, 2_000]
_FACTORS = (1.5, 2, 3, 4, 6, 8, 12, 16)
_CORES = len(os.sched_getaffinity(0))


class Hnswlib:
    """hnswlib's graph."""

    def __init__(self, dimension: int) -> None:
        self.index = hnswlib.Index("ip", dimension)

    def build(self, vectors: np.ndarray) -> None:
        self.index.init_index(len(vectors), M=LINKS, ef_construction=CONSTRUCTION, random_seed=SEED)
        self.index.set_num_threads(_CORES)
        self.index.add_items(vectors)

    def ladders(self) -> Sequence[Sequence[dict[str, Any]]]:
        return [[{"ef": breadth} for breadth in _BREADTHS]]

    def use(self, settings: dict[str, Any]) -> None:
        self.index.set_num_threads(_CORES)
        self.index.set_ef(settings["ef"])

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        return self.index.knn_query(queries, k)[0].astype(np.int32)

    def save(self, file: Path) -> None:
        self.index.save_index(str(file))

    def load(self, file: Path) -> None:
        self.index.load_index(str(file))


class Faiss:
    """An index of FAISS."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.index: Any = None

    def search(self, queries: np.ndarray, k: int) -> np.ndarray:
        return self.index.search(queries, k)[1].astype(np.int32)

    def save(self, file: Path) -> None:
        faiss.write_index(self.index, str(file))

    def load(self, file: Path) -> None:
        self.index = faiss.read_index(str(file))

    def use(self, settings: dict[str, Any]) -> None:
        parameters = ",".join(f"{name}={value}" for name, value in settings.items())
        faiss.ParameterSpace().set_index_parameters(self.index, parameters)


class FaissHnsw(Faiss):
    """FAISS's graph."""

    def build(self, vectors: np.ndarray) -> None:
        self.index = faiss.IndexHNSWFlat(self.dimension, LINKS, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = CONSTRUCTION
        self.index.add(vectors)

    def ladders(self) -> Sequence[Sequence[dict[str, Any]]]:
        return [[{"efSearch": breadth} for breadth in _BREADTHS]]


class FaissIvfPq(Faiss):
    """FAISS's lists of product codes; the best are rescored exactly. Codes have 8 bits per two dimensions,
    or 4 bits (fast scan).
    """

    codes = "PQ{}"

    def build(self, vectors: np.ndarray) -> None:
        lists = round(4 * len(vectors) ** 0.5) if len(vectors) < 500_000 else 4_096
        description = f"IVF{min(lists, len(vectors) // 39)},{self.codes.format(self.dimension // 2)},Refine(Flat)"
        self.index = faiss.index_factory(self.dimension, description, faiss.METRIC_INNER_PRODUCT)
        drawn = np.random.default_rng(SEED).choice(
            len(vectors), min(len(vectors), 200_000), replace=False
        )
        self.index.train(vectors[np.sort(drawn)])
        self.index.add(vectors)

    def ladders(self) -> Sequence[Sequence[dict[str, Any]]]:
        lists = faiss.extract_index_ivf(self.index.base_index).nlist
        probes = sorted({max(1, round(lists * 1.3**-n)) for n in range(2, 30)})
        return [[{"k_factor_rf": factor, "nprobe": n} for n in probes] for factor in _FACTORS]


class FaissFastScan(FaissIvfPq):
    codes = "PQ{}x4fs"


CONTENDERS = {
    "hnswlib/hnsw": Hnswlib,
    "faiss/hnsw": FaissHnsw,
    "faiss/ivf-pq": FaissIvfPq,
    "faiss/ivf-pq-fs": FaissFastScan,
}
