"""The index of small corpora: it compares every query with every item."""

from pathlib import Path
from typing import Self

import numpy as np

from twinspire_core.search.index import VECTORS, Settings, write_config
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
