"""Item and query vectors as the embed stage leaves them."""

import numpy as np
import pyarrow as pa

from twinspire_core import storage
from twinspire_core.errors import BadData
from twinspire_core.storage import parquet_files

ITEMS, QUERIES = "items", "queries"  # folders of the embed stage


def read_items(embed: str) -> tuple[pa.Array, np.ndarray]:
    """Ids and vectors of the corpus, in order of id: each once, finite, as the embed stage has seen.

    Returns: [N] string and [N, D] float32.

    Raises:
      BadData: there are none.
    """
    ids, vectors = _read(embed, ITEMS, "_item")
    if not len(ids):
        raise BadData(
            "An index needs items, and the corpus is empty. Look at corpus.filter, corpus.days and"
            " the items snapshot."
        )
    return ids, vectors


def read_queries(embed: str) -> np.ndarray:
    """Query vectors in order of user, [Q, D] float32."""
    return _read(embed, QUERIES, "_user")[1]


def _read(embed: str, name: str, key: str) -> tuple[pa.Array, np.ndarray]:
    folder = storage.join(embed, name)
    if not parquet_files.list_parquet(folder):
        return pa.array([], pa.string()), np.zeros((0, 1), np.float32)
    table = parquet_files.read_folder(folder).sort_by(key).combine_chunks()
    vectors = table["vector"].combine_chunks()
    values = vectors.flatten().to_numpy().reshape(-1, vectors.type.list_size)
    return table[key].combine_chunks(), values
