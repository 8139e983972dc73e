"""Item and query vectors to search: those of this project's towers, and synthetic ones."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from twinspire_core.contracts.model_bundle import read_items, read_queries
from twinspire_core.search.top_k import exact_search

DIMENSION = 64
TUNING = 1_000
MEASURING = 2_048
_PER_KIND = 200
_SKEW = 0.7
_COMMON = 1.2
_OWN = 0.8
_OFF = 0.35


class Vectors(NamedTuple):
    """Of length 1.

    Attributes:
      items: [N, D] float32.
      queries: [Q, D] float32, in no order.
    """

    items: np.ndarray
    queries: np.ndarray


def made(items: int, queries: int = TUNING + MEASURING, seed: int = 0) -> Vectors:
    """Makes vectors that are distributed like those of two towers.

    An item is the sum of a shared direction (towers trained with in-batch negatives push all items away from
    all queries), its department, its kind within the department, and noise. Kinds have 200 items on average,
    and sizes by a power law. Except for the shared direction, the spectrum falls like 1/sqrt(rank), as that
    of item vectors. A query is the mean of four items of any kinds, moved away from the shared direction,
    plus noise. So its neighbours are spread over many clusters.
    """
    rng = np.random.default_rng(seed)
    spectrum = (np.arange(1, DIMENSION + 1) ** -0.5).astype(np.float32)
    spectrum /= np.linalg.norm(spectrum)

    def drawn(count: int) -> np.ndarray:
        return rng.standard_normal((count, DIMENSION), np.float32) * spectrum

    kinds = max(50, items // _PER_KIND)
    departments = max(10, int(kinds**0.5))
    kind = drawn(departments)[rng.integers(0, departments, kinds)] + drawn(kinds)
    sizes = 1 / np.arange(1, kinds + 1) ** _SKEW
    common = drawn(1)
    vectors = _unit(
        _COMMON * common
        + kind[rng.choice(kinds, items, p=sizes / sizes.sum())]
        + _OWN * drawn(items)
    )
    liked = vectors[rng.integers(0, items, (queries, 4))].mean(1)
    return Vectors(vectors, _unit(liked + _OFF * drawn(queries) - 0.2 * common))


def of_day(embed: Path) -> Vectors:
    """Vectors of the items and users of a day.

    Args:
      embed: the output of its stage `embed`.
    """
    queries = read_queries(str(embed))
    return Vectors(read_items(str(embed))[1], np.random.default_rng(0).permutation(queries))


def write(vectors: Vectors, folder: Path, k: int) -> None:
    """Writes a corpus for worker.py, with the results of exact search. At most a third of the queries are for
    tuning.
    """
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "vectors.npy", vectors.items)
    tuning = min(TUNING, len(vectors.queries) // 3)
    parts = {
        "tuning": vectors.queries[:tuning],
        "measuring": vectors.queries[tuning : tuning + MEASURING],
    }
    for name, queries in parts.items():
        np.save(folder / f"{name}.npy", queries)
        np.save(folder / f"kth-{name}.npy", exact_search(vectors.items, queries, k)[1][:, -1])


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
