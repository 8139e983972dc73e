"""Which columns are none of a row's negatives: those that hold its own item, or whatever its user
took besides, and those that were not drawn.

An accidental hit, a column that holds the row's item once more, would teach that the positive is
wrong.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class Excluded(NamedTuple):
    """What a block of R rows leaves out.

    Attributes:
      columns: [R, C] bool.
      expected: [R] float32, how many of the other columns are expected to hold an item that may not
        be a negative.
    """

    columns: tf.Tensor
    expected: tf.Tensor


Mask = Callable[[tf.Tensor, tf.Tensor], Excluded]
"""(first row, last row + 1) -> what these rows leave out."""


def own_item(item: tf.Tensor, expected: tf.Tensor) -> Mask:
    """Leaves out the columns that hold the row's item, its own column among them.

    Args:
      item: [C] int64 or string; the first ones are the rows'.
      expected: [C] float32, how many of the other columns are expected to hold the column's item.
    """
    code = tf.unique(item).idx  # int32 is compared faster than what it stands for

    def mask(start: tf.Tensor, end: tf.Tensor) -> Excluded:
        return Excluded(code[start:end, tf.newaxis] == code, expected[start:end])

    return mask


def items_of_user(item: tf.Tensor, expected: tf.Tensor, user: tf.Tensor) -> Mask:
    """Leaves out the columns that hold any item that the row's user took in this batch.

    Args:
      item: [C] int64 or string; the first ones are the rows'.
      expected: [C] float32, how many of the other columns are expected to hold the column's item.
      user: [B] int64 or string, who took each row's item.
    """
    rows = tf.shape(user)[0]
    items, code = tf.unique(item)
    users, taker = tf.unique(user)
    of_code = tf.math.unsorted_segment_max(expected[:rows], code[:rows], tf.size(items))

    def mask(start: tf.Tensor, end: tf.Tensor) -> Excluded:
        there, place = tf.unique(taker[start:end])
        nowhere = tf.fill([tf.size(users)], -1)
        number = tf.tensor_scatter_nd_update(
            nowhere, there[:, tf.newaxis], tf.range(tf.size(there))
        )
        number = tf.gather(number, taker)
        inside = tf.where(number >= 0)
        pairs = tf.concat([tf.gather(number, inside), tf.gather(code, inside)], 1)
        took = tf.scatter_nd(pairs, tf.ones_like(pairs[:, 0]), [tf.size(there), tf.size(items)]) > 0
        columns = tf.gather(tf.gather(took, code, axis=1), place)
        return Excluded(columns, tf.gather(tf.reduce_sum(tf.where(took, of_code, 0.0), 1), place))

    return mask


def drawn(mask: Mask, rows: tf.Tensor, k: tf.Tensor, seed: tf.Tensor) -> Mask:
    """Leaves out what `mask` does, and of each row's `rows - 1` other columns in the batch all but
    k drawn at random.

    Row i holds itself against the columns i + d, counted around, for k distances d that all rows
    share: each row's k are as good as drawn on their own, and every column is drawn equally often.

    Args:
      mask: of the columns that may be no negatives.
      rows: B, scalar int32.
      k: scalar int32, less than B.
      seed: [2] int32.
    """
    distances = tf.random.experimental.stateless_shuffle(tf.range(1, rows), seed)[:k]
    spared = tf.tensor_scatter_nd_update(
        tf.ones([rows], tf.bool), distances[:, tf.newaxis], tf.zeros([k], tf.bool)
    )
    around = tf.tile(spared, [2])

    def further(start: tf.Tensor, end: tf.Tensor) -> Excluded:
        out = mask(start, end)
        of_batch = tf.gather(around, (rows - tf.range(start, end))[:, tf.newaxis] + tf.range(rows))
        added = tf.shape(out.columns)[1] - rows
        return out._replace(columns=out.columns | tf.pad(of_batch, [[0, 0], [0, added]]))

    return further
