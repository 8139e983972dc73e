"""Indexes of nearest neighbours: how one searches, the folder that it is stored in, and the exact one.

An index folder holds `config.json` with the kind and its settings, and the kind's own files. Row i
of an index is row i of the items table that lies beside the folder; ids are not part of the index.
ScaNN (scann_index.py) is imported only to open an index that it built.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import numpy as np

from twinspire_core.errors import BadData
from twinspire_core.search.index_settings import Settings
from twinspire_core.search.top_k import exact_search

CONFIG = "config.json"
VECTORS = "vectors.npy"
ASSETS = "scann"
"""Folder of ScaNN's own files."""
STORED_VECTORS = "dataset.npy"
"""ScaNN's file of the vectors, which it keeps for rescoring."""
FORMAT = 1
NONE = -1
"""Fills up lists: no row."""
EXACT_SHARE = 4
"""A search that would rescore more than a quarter of the corpus compares all of it: that is faster."""


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

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Finds the items with the largest dot product with each query, best first.

        Args:
          queries: [B, D] float32, finite.
          k: neighbours of each query; with k > N all N are returned.

        Returns: rows [B, min(k, N)] int32 and scores [B, min(k, N)] float32.
        """

    def save(self, folder: Path) -> None:
        """Writes the index into a local folder that may be moved."""


class ExactIndex:
    """Compares every query with every item. Ties go to the lower row."""

    def __init__(self, vectors: np.ndarray, settings: Settings) -> None:
        self.vectors = vectors
        self.settings = settings

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Index.search`."""
        return exact_search(self.vectors, queries, k)

    def save(self, folder: Path) -> None:
        """See `Index.save`."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / VECTORS, np.ascontiguousarray(self.vectors, np.float32))
        write_config(folder, self.settings, self.vectors)


def load_index(folder: str | Path) -> Index:
    """Opens an index that is stored in a local folder.

    Raises:
      BadData: the folder holds no index that this release can read.
    """
    folder = Path(folder)
    settings = read_config(folder)
    if settings.kind == "exact":
        return ExactIndex(np.load(folder / VECTORS), settings)
    # ScaNN takes a second to import, and cannot be loaded everywhere.
    from twinspire_core.search.scann_index import ScannIndex

    return ScannIndex.load(folder, settings)


def stored_vectors(folder: Path) -> np.ndarray:
    """The items' vectors of a stored index in row order, [N, D] float32, mapped from disk."""
    file = folder / ASSETS / STORED_VECTORS
    if read_config(folder).kind == "exact":
        file = folder / VECTORS
    return np.asarray(np.load(file, mmap_mode="r"))


def write_config(folder: Path, settings: Settings, vectors: np.ndarray) -> None:
    """Writes the `config.json` that `read_config` reads, of an index of the items' vectors, [N, D]."""
    config = {
        "format": FORMAT,
        "metric": "dot_product",
        "items": len(vectors),
        "dimension": vectors.shape[1],
        "settings": asdict(settings),
    }
    # Keys are sorted: equal settings give equal bytes, and with them equal version ids.
    (folder / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True))


def read_config(folder: Path) -> Settings:
    """The settings of a stored index.

    Raises:
      BadData: the folder holds no index that this release can read.
    """
    try:
        config = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError) as e:
        raise BadData(
            f"An index folder must contain {CONFIG}, but {folder} cannot be read: {e}. The folder is"
            " damaged, or it is not an index. Run the index stage again."
        ) from e
    if config.get("format") != FORMAT:
        raise BadData(
            f"This release can read indexes of format {FORMAT}; {folder} has format"
            f" {config.get('format')}. A newer release built it. Upgrade Twinspire."
        )
    return Settings(**config["settings"])
