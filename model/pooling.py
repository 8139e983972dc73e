"""How a list of ids becomes one vector. Shapes: B rows, L entries of a list, W the width of the table.

An empty list gives zeros, or, of a sequence, a vector that is learned. How far lists are padded changes nothing.
"""

from collections.abc import Mapping

import tensorflow as tf

from model.encoder import attend
from model.layout import Attention


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
      features: `column`, [B, L] int, histories with 0 as padding, of which the newest `spec.length` are read. Or, if
        there is a `last_of(column)`, [B] int32 too: [S, T] sequences padded at the end, and where each row's newest
        item stands in them when they are laid end to end; -1 for an empty history.
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


def encoder_prefix(column: str) -> str:
    """What the names of a history's encoder's weights start with."""
    return f"query/history/{column}/"
