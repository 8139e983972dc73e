"""Opens stored indexes. Imports ScaNN only when the stored index is ScaNN's."""

from pathlib import Path
from typing import Self

import numpy as np

from twinspire_core.search.index import (
    ASSETS,
    STORED_VECTORS,
    VECTORS,
    Index,
    Settings,
    read_config,
    write_config,
)
from twinspire_core.search.top_k import exact_search


class ExactIndex:
    """Compares every query with every item. Ties go to the lower row."""

    def __init__(self, vectors: np.ndarray, settings: Settings) -> None:
        self.vectors = vectors
        self.settings = settings

    @classmethod
    def load(cls, folder: Path, settings: Settings) -> Self:
        """Opens a stored index."""
        return cls(np.load(folder / VECTORS), settings)

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


def load(folder: str | Path) -> Index:
    """Opens a stored index from a local folder.

    Raises:
      BadData: the folder holds no index that this release can read.
    """
    folder = Path(folder)
    settings = read_config(folder)
    if settings.kind == "exact":
        return ExactIndex.load(folder, settings)
    # ScaNN takes a second to import, and cannot be loaded everywhere.
    from twinspire_core.search.scann_index import ScannIndex

    return ScannIndex.load(folder, settings)


def stored_vectors(folder: Path) -> np.ndarray:
    """The items' vectors of a stored index in row order, [N, D] float32, mapped from disk."""
    file = folder / ASSETS / STORED_VECTORS
    if read_config(folder).kind == "exact":
        file = folder / VECTORS
    vectors: np.ndarray = np.load(file, mmap_mode="r")
    return vectors
