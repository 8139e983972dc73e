"""Sources by what items say of each other: a table with some others for each item, and the sum of
what the items of a past say.

C items of the corpus, N others of an item, U queries; -1 is none.
"""

import numpy as np
import pyarrow as pa

from twinspire_core.contracts import feature_schema
from twinspire_core.search.ragged import list_offsets


def to_table(rows: np.ndarray, weights: np.ndarray, items: pa.Array) -> pa.Table:
    """Rows of `twinspire_core.contracts.feature_schema.co_occurrence_schema`, of items that say
    something.

    Args:
      rows: [C, N] int32, each item's others, best first, -1 behind the end; rows of the corpus in
        order of id.
      weights: [C, N] float32.
      items: [C] ids in ascending order.
    """
    is_there = rows >= 0
    lengths = is_there.sum(axis=1)
    some = np.flatnonzero(lengths)
    offsets = pa.array(list_offsets(lengths[some]).astype(np.int32))
    columns = [
        items.take(pa.array(some)),
        pa.ListArray.from_arrays(offsets, pa.array(rows[is_there].astype(np.int32))),
        pa.ListArray.from_arrays(offsets, pa.array(weights[is_there])),
    ]
    return pa.table(columns, schema=feature_schema.co_occurrence_schema())
