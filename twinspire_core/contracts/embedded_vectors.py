"""Item and query vectors as the embed stage leaves them."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from twinspire_core import storage
from twinspire_core.errors import BadData
from twinspire_core.storage import parquet_files

ITEMS, QUERIES = "items", "queries"  # folders of the embed stage
_NAMED = 5


def read_items(embed: str) -> tuple[pa.Array, np.ndarray]:
    """Ids and vectors of the corpus, in order of id.

    Returns: [N] string and [N, D] float32.

    Raises:
      BadData: there are none, an id occurs twice, or a vector is not finite.
    """
    ids, vectors = _read(embed, ITEMS, "_item")
    if not len(ids):
        raise BadData(
            "An index needs items, and the corpus is empty. Look at corpus.filter, corpus.days and"
            " the items snapshot."
        )
    check(ids, vectors)
    order = pc.sort_indices(ids).to_numpy()
    return ids.take(order), np.ascontiguousarray(vectors[order])


def read_queries(embed: str) -> np.ndarray:
    """Query vectors in order of user, [Q, D] float32.

    Raises:
      BadData: one is not finite.
    """
    ids, vectors = _read(embed, QUERIES, "_user")
    broken = int((~np.isfinite(vectors).all(1)).sum())
    if broken:
        raise BadData(
            f"A user's vector is finite; found NaN or infinity for {broken:,} of {len(ids):,}. The"
            " model diverged, probably: lower train.learning_rate and train again."
        )
    ordered: np.ndarray = vectors[pc.sort_indices(ids).to_numpy()]
    return ordered


def check(ids: pa.Array, vectors: np.ndarray) -> None:
    """Refuses ids, [N], that occur twice and vectors, [N, D], that are not finite.

    Raises:
      BadData: naming them.
    """
    counts = pc.value_counts(ids)
    doubles = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if doubles:
        raise BadData(
            f"An item is in the corpus once; found more than once: {_some(doubles)}. The items"
            " snapshot probably repeats rows: remove the duplicates and run the features stage"
            " again."
        )
    broken = ids.filter(pa.array(~np.isfinite(vectors).all(1))).to_pylist()
    if broken:
        raise BadData(
            f"An item's vector is finite; found NaN or infinity for {_some(broken)}. The model"
            " diverged, probably: lower train.learning_rate and train again."
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(map(str, names[:_NAMED])) + more


def _read(embed: str, name: str, key: str) -> tuple[pa.Array, np.ndarray]:
    folder = storage.join(embed, name)
    if not parquet_files.list_parquet(folder):
        return pa.array([], pa.string()), np.zeros((0, 1), np.float32)
    table = parquet_files.read_folder(folder).combine_chunks()
    vectors = table["vector"].combine_chunks()
    width = vectors.type.list_size
    values = vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    return table[key].combine_chunks(), values.astype(np.float32, copy=False)
