"""Opens stored indexes. Imports ScaNN only when the stored index is ScaNN's."""

from pathlib import Path

import numpy as np

from twinspire_core.search.exact_index import ExactIndex
from twinspire_core.search.index import ASSETS, STORED_VECTORS, VECTORS, Index, read_config


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
