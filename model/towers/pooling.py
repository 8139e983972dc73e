"""How a list of ids becomes one vector. Shapes: B rows, L entries of a list, W the width of the
table.

An empty list gives zeros, or, of a sequence, a vector that is learned. How far lists are padded
changes nothing.
"""

from collections.abc import Callable, Mapping

import tensorflow as tf

from model.towers.architecture import Attention
from model.towers.embedding_bag import EmbeddingBags
from model.towers.history_encoder import attend


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
    def summed(rows: tf.Tensor) -> tuple[tf.Tensor, Callable]:
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


def attended(
    column: str,
    spec: Attention,
    table: tf.Tensor,
    dense: Mapping[str, tf.Tensor],
    features: Mapping[str, tf.Tensor],
    seed: tf.Tensor | None,
) -> tf.Tensor:
    """Encodes histories by self-attention, and takes what stands at each one's newest item.

    Args:
      column: name of the history.
      spec: its encoder.
      table: [rows, W] float32.
      dense: weights by name.
      features: `column`, [B, L] int, histories with 0 as padding, of which the newest `spec.length`
        are read. Or, if there is a `last_of(column)`, [B] int32 too: [S, T] sequences padded at the
        end, and where each row's newest item stands in them when they are laid end to end; -1 for
        an empty history.
      seed: [2] int32 of dropout, or None.

    Returns: [B, W] float32.
    """
    prefix = encoder_prefix(column)
    weights = {name.removeprefix(prefix): w for name, w in dense.items() if name.startswith(prefix)}
    ids, last = features[column], features.get(last_of(column))
    if last is None:
        ids, last = _newest(ids, spec.length)
    encoded = attend(spec, weights, tf.gather(table, ids), seed)
    every = tf.concat([weights["empty"][tf.newaxis], tf.reshape(encoded, [-1, spec.width])], 0)
    return tf.gather(every, last + 1)


def _newest(ids: tf.Tensor, length: int) -> tuple[tf.Tensor, tf.Tensor]:
    """A sequence per row, without holes, and where it ends."""
    lists = tf.ragged.boolean_mask(ids, ids > 0)[:, -length:]
    count = tf.cast(lists.row_lengths(), tf.int32)
    sequences = lists.to_tensor()
    first = tf.range(tf.size(count)) * tf.shape(sequences)[1]
    return sequences, tf.where(count > 0, first + count - 1, -1)


def last_of(column: str) -> str:
    """Name that the ends of a packed history go by, beside its own."""
    return f"{column}:last"


def rows_of(column: str) -> str:
    """Name that the rows of a list's ids go by, beside its own."""
    return f"{column}:rows"


def encoder_prefix(column: str) -> str:
    """What the names of a history's encoder's weights start with."""
    return f"query/history/{column}/"
