"""What an index is, how it searches, and the file that says so. Imports no ScaNN.

An index folder holds `config.json` with the kind and its settings, and the kind's own files. Row i
of an index is row i of the items table that lies beside the folder; ids are not part of the index.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from twinspire_core.errors import BadData, UsageError

Kind = Literal["exact", "quantised", "tree"]
CONFIG = "config.json"
VECTORS = "vectors.npy"
ASSETS = "scann"
"""Folder of ScaNN's own files."""
STORED_VECTORS = "dataset.npy"
"""ScaNN's file of the vectors, which it keeps for rescoring."""
FORMAT = 1
NONE = -1
"""Stands for a row where there is none."""
EXACT_SHARE = 4
"""To rescore more than a quarter of the corpus is slower than to compare all."""


def _cores() -> int:
    """Cores that this process may use: fewer than the machine has in most containers."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


CORES = _cores()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How an index searches.

    Attributes:
      kind: `exact` compares all; `quantised` scans 4-bit codes of all items and rescores the best;
        `tree` scans only the codes of the nearest leaves.
      k: neighbours that the settings were chosen for; a search for more scales them up.
      rescored: items compared exactly after the scan; costs a random read each.
      leaves: partitions of the corpus.
      leaves_searched: partitions scanned per query.
      code_dimensions: dimensions that share a code of 4 bits; 1 scans twice as much, and misses
        less. For one vector of 64 dimensions that is 16 or 32 bytes.
    """

    kind: Kind
    k: int
    rescored: int = 0
    leaves: int = 0
    leaves_searched: int = 0
    code_dimensions: Literal[1, 2] = 2

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k is at least 1, got {self.k}")
        if self.kind != "exact" and self.rescored < self.k:
            raise ValueError(f"rescored is at least k = {self.k}, got {self.rescored}")
        if self.kind == "tree" and not 1 <= self.leaves_searched <= self.leaves:
            raise ValueError(
                f"leaves_searched lies in [1, leaves = {self.leaves}], got {self.leaves_searched}"
            )


class Index(Protocol):
    """Nearest neighbours by dot product.

    Attributes:
      settings: how it searches.
      vectors: [N, D] float32, the items' vectors in row order.
    """

    settings: Settings
    vectors: np.ndarray

    def __len__(self) -> int:
        """Items, N."""
        ...

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds the items with the largest dot product, best first.

        Args:
          queries: [B, D] float32, finite.
          k: how many; with k > N all N are returned.

        Returns: rows [B, min(k, N)] int32 and scores [B, min(k, N)] float32.
        """
        ...

    def save(self, folder: Path) -> None:
        """Writes the index into a local folder that may be moved."""
        ...


def write_config(folder: Path, settings: Settings, vectors: np.ndarray) -> None:
    """Writes `config.json`, which `read_config` reads; `vectors` are those of the items, [N, D]."""
    config = {
        "format": FORMAT,
        "metric": "dot_product",
        "items": len(vectors),
        "dimension": vectors.shape[1],
    }
    # Keys are sorted: equal settings give equal bytes, and with them equal version ids.
    (folder / CONFIG).write_text(
        json.dumps(config | {"settings": asdict(settings)}, indent=1, sort_keys=True)
    )


def checked_queries(queries: np.ndarray, k: int, vectors: np.ndarray) -> tuple[np.ndarray, int]:
    """The queries, [B, D], as contiguous float32, and k cut to the N of the items' vectors, [N, D].

    Raises:
      UsageError: k is below 1, the widths differ, or a query is not finite.
    """
    if k < 1:
        raise UsageError(f"k is at least 1, found {k}.")
    queries = np.ascontiguousarray(queries, np.float32)
    if queries.ndim != 2 or queries.shape[1] != vectors.shape[1]:
        raise UsageError(
            f"Queries have the items' width, [B, {vectors.shape[1]}]; found {list(queries.shape)}."
            " They come from another version's query tower, probably."
        )
    # Scores of nan compare with nothing: an index would list whatever comes first.
    bad = np.flatnonzero(~np.isfinite(queries).all(1))
    if len(bad):
        raise UsageError(f"Query vectors are finite; row {bad[0]} is not ({len(bad)} in all).")
    return queries, min(k, len(vectors))


def read_config(folder: Path) -> Settings:
    """The settings of a stored index.

    Raises:
      BadData: the folder holds no index that this release can read.
    """
    try:
        config = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError) as e:
        raise BadData(
            f"An index folder holds {CONFIG}; {folder} cannot be read: {e}. It is damaged or no"
            " index."
        ) from e
    if config.get("format") != FORMAT:
        raise BadData(
            f"This release reads indexes of format {FORMAT}; {folder} is of format"
            f" {config.get('format')}. It was built by a newer release: upgrade the reader."
        )
    return Settings(**config["settings"])
