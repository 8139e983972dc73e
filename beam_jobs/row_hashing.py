"""Hashes of rows that are the same on every machine, whatever file a row was read from."""

import numpy as np
import pyarrow as pa
from pandas.util import hash_array

from twinspire_core.contracts.feature_schema import ROW

_IDENTITY = ("_user", "_item", "_time", "_type", ROW)


def row_hashes(batch: pa.RecordBatch) -> np.ndarray:
    """[N] uint64, of what tells rows apart: user, item, time and type, or time and number.

    Args:
      batch: [N] rows with some of these columns.
    """
    total = np.zeros(batch.num_rows, np.uint64)
    for name in _IDENTITY:
        if name not in batch.schema.names:
            continue
        column = batch[name]
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            coded = column.dictionary_encode()
            total += string_hashes(coded.dictionary)[coded.indices.to_numpy()]
        else:
            total += column.cast(pa.int64()).to_numpy().view(np.uint64)
        # Else user 1 with item 2 would be user 2 with item 1.
        total = hash_array(total)
    return total


def string_hashes(strings: pa.Array) -> np.ndarray:
    """[N] uint64, of [N] strings."""
    hashes: np.ndarray = hash_array(strings.to_numpy(zero_copy_only=False), categorize=False)
    return hashes
