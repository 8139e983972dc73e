"""How a list of ids becomes one vector. Shapes: B rows, L entries of a list, W the width of the
table.

An empty list gives zeros. How far lists are padded changes nothing. Histories that are read as
sequences are pooled by model/towers/history_encoder.py.

For training, the lists of a batch are laid out without padding (`EmbeddingBags`), twice: list by
list, and id by id. The sum of each list's embeddings is a sparse matrix times the table, and its
gradient that matrix transposed times what flows in. Both are sums of neighbours if the entries are
at hand in either order, for which they are sorted here: TensorFlow does that slowly. Adding up what
lies scattered, as the gradient of a lookup does, is several times slower.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


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


def mean_of_present(rows: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Averages the entries of each list that are not padding.

    Args:
      rows: [B, L, W] float32.
      ids: [B, L] int, 0 is padding.

    Returns: [B, W] float32.
    """
    return _weighted(rows, tf.cast(ids > 0, rows.dtype))


def recent_mean(rows: tf.Tensor, ids: tf.Tensor, half_life: float) -> tf.Tensor:
    """Averages the entries that are not padding, each by 0.5 ^ (entries behind it / half_life).

    Args:
      rows: [B, L, W] float32, the newest entry last.
      ids: [B, L] int, 0 is padding.
      half_life: in entries.

    Returns: [B, W] float32.
    """
    present = tf.cast(ids > 0, rows.dtype)
    behind = tf.cumsum(present, 1, exclusive=True, reverse=True)
    return _weighted(rows, present * 0.5 ** (behind / half_life))


def _weighted(rows: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    total = tf.reduce_sum(weights, 1, keepdims=True)
    return tf.linalg.matvec(rows, tf.math.divide_no_nan(weights, total), transpose_a=True)


def mean_of_bags(rows: tf.Tensor, bags: EmbeddingBags, half_life: float = 0.0) -> tf.Tensor:
    """`mean_of_present` of a table's rows, or `recent_mean` if there is a half-life, of lists laid
    out for training.

    Args:
      rows: [U, W] float32, those of `bags.ids`.
      bags: B lists, each with its newest entry last.
      half_life: in entries; 0 is none.

    Returns: [B, W] float32.
    """
    if not half_life:
        mean = tf.math.divide_no_nan(
            _summed(rows, bags), tf.cast(bags.count, rows.dtype)[:, tf.newaxis]
        )
        return tf.gather(mean, bags.of)
    behind = tf.gather(tf.cumsum(bags.count), bags.row) - 1 - tf.range(tf.size(bags.row))
    weights = 0.5 ** (tf.cast(behind, rows.dtype) / half_life)
    total = _segments(
        weights[:, tf.newaxis], tf.range(tf.size(bags.row)), bags.row, tf.size(bags.count)
    )
    return tf.gather(tf.math.divide_no_nan(_summed(rows, bags, weights), total), bags.of)


def lengthened(mean: tf.Tensor, lists: tf.Tensor | EmbeddingBags) -> tf.Tensor:
    """Sums over the root of their number of entries, from means.

    A mean of many different rows is short, and what all lists share drowns the rest. This is longer
    by the root of the
    count: of rows at right angles to each other it is as long as one of them. It is FISM's
    normalisation (Kabbur et al., KDD 2013) with the exponent 1/2, and that of SVD++ (Koren, KDD
    2008).

    Args:
      mean: [B, W] float32, of each list's rows.
      lists: the lists; [B, L] int with 0 as padding, or B lists laid out for training.

    Returns: [B, W] float32.
    """
    count = (
        tf.gather(lists.count, lists.of)
        if isinstance(lists, EmbeddingBags)
        else tf.math.count_nonzero(lists, 1)
    )
    return mean * tf.sqrt(tf.cast(count, mean.dtype))[:, tf.newaxis]


def _summed(rows: tf.Tensor, bags: EmbeddingBags, weights: tf.Tensor | None = None) -> tf.Tensor:
    """Sums over lists, [B, W], of the distinct ids' rows, [U, W], by weight, [E]. No gradient flows
    into weights.
    """

    @tf.custom_gradient
    def summed(rows: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Any]]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            row, place = tf.gather(bags.row, bags.by_id), tf.gather(bags.place, bags.by_id)
            ordered = None if weights is None else tf.gather(weights, bags.by_id)
            return _segments(upstream, row, place, tf.size(bags.ids), ordered)

        return _segments(rows, bags.place, bags.row, tf.size(bags.count), weights), gradient

    return summed(rows)


def _segments(
    x: tf.Tensor,
    place: tf.Tensor,
    segment: tf.Tensor,
    segments: tf.Tensor,
    weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """Sums of the rows of `x` at `place`, by segment, [S, W]; numbers of segments, [E], ascend."""
    if weights is None:
        return tf.raw_ops.SparseSegmentSumWithNumSegments(
            data=x, indices=place, segment_ids=segment, num_segments=segments
        )
    sums = tf.math.segment_sum(tf.gather(x, place) * weights[:, tf.newaxis], segment)
    return tf.pad(sums, [[0, segments - tf.shape(sums)[0]], [0, 0]])


def rows_of(column: str) -> str:
    """Name that the rows of a list's ids go by, beside its own."""
    return f"{column}:rows"
