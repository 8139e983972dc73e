"""Lists of a batch without padding, laid out twice: list by list, and id by id.

The sum of each list's embeddings is a sparse matrix times the table, and its gradient that matrix
turned round times what flows in. Both are sums of neighbours if the entries are at hand in either
order, for which they are sorted here: TensorFlow does that slowly. Adding up what lies scattered,
as the gradient of a lookup does, is several times slower.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class EmbeddingBags(NamedTuple):
    """The lists of B rows: L lists with E entries in all, of U distinct ids. Arrays, tensors, or
    what describes them.

    Attributes:
      ids: [U] int32, ascending.
      of: [B] int32, the list of each row. Rows that follow each other with the same list share it.
      count: [L] int32, entries of each list.
      row: [E] int32, the list of each entry, ascending.
      place: [E] int32, where in `ids` each entry's id is.
      by_id: [E] int32, the entries in the order of their ids, and of lists where ids are equal.
    """

    ids: Any
    of: Any
    count: Any
    row: Any
    place: Any
    by_id: Any


def bags(lists: np.ndarray) -> EmbeddingBags:
    """Lays lists out.

    Args:
      lists: [B, L] int32, 0 is padding, wherever it lies.
    """
    first = np.ones(len(lists), bool)
    first[1:] = (lists[1:] != lists[:-1]).any(1)
    lists = lists[first]
    row, at = np.nonzero(lists)
    entries = lists[row, at]
    by_id = _order(entries)
    ordered = entries[by_id]
    new = np.diff(ordered, prepend=-1) != 0
    place = np.empty(len(entries), np.int32)
    place[by_id] = np.cumsum(new) - 1
    count = np.bincount(row, minlength=len(lists))
    return EmbeddingBags(
        ordered[new],
        *(x.astype(np.int32) for x in (np.cumsum(first) - 1, count, row, place, by_id)),
    )


def bagged(
    features: Mapping[str, np.ndarray], columns: Sequence[str]
) -> dict[str, np.ndarray | EmbeddingBags]:
    """The features with some columns laid out."""
    return {**features, **{name: bags(features[name]) for name in columns if name in features}}


def _order(ids: np.ndarray) -> np.ndarray:
    """A stable order by id, half an id at a time: 16 bits are sorted by their value and not by
    comparing.
    """
    order = np.argsort(ids.astype(np.uint16), kind="stable")
    if ids.max(initial=0) >> 16:
        order = order[np.argsort((ids[order] >> 16).astype(np.uint16), kind="stable")]
    return order
