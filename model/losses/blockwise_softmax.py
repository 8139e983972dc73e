"""The softmax loss of B rows against C columns, in blocks of rows: memory grows with B + C, not
with B times C.

A block sees all of its columns, so its softmax is complete; and with the rows' weights at hand the
gradient follows from the same numbers before they are dropped: one pass, three products of
matrices, one exponential per pair.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

TILE = 1 << 20
"""Pairs of a block, each of which is a float in a few arrays at a time. More fall out of the
processor's cache.
"""

LEFT_OUT = -1e30
"""Logit of a column that is none of the row's negatives; finite, since a row may have none and -inf
- -inf is nan.
"""


class Logits(NamedTuple):
    """A block of R rows against all columns.

    Attributes:
      negatives: [R, C] float32: <query, column> / temperature with whatever is added to it, and
        `LEFT_OUT` where the column is none of the row's negatives. A row's own column never is.
      offset: [R] float32, added to <query, column> / temperature of the positive.
    """

    negatives: tf.Tensor
    offset: tf.Tensor


class Loss(NamedTuple):
    """A batch's loss.

    Attributes:
      total: scalar, the sum of the rows' losses times their weights. Gradients flow from it.
      rows: [B] nats, not weighted. No gradient flows from them.
    """

    total: tf.Tensor
    rows: tf.Tensor


Gradients = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""(gradient of the loss, that of its rows) -> gradients of the queries and of the columns."""
Block = Callable[[tf.Tensor, tf.Tensor], Logits]
"""(first row, last row + 1) -> logits of these rows."""


def blocked_softmax(
    query: tf.Tensor,
    columns: tf.Tensor,
    weight: tf.Tensor,
    logits: Callable[[tf.Tensor, tf.Tensor], Block],
    *,
    temperature: float,
    learned: tf.Tensor | None = None,
) -> Loss:
    """Sum over rows of weight_i * (log(exp p_i + sum_j exp z_ij) - p_i), p_i the positive's logit,
    z its negatives'.

    Args:
      query: [B, D] float32.
      columns: [C, D] float32, C >= B; row i's positive is column i.
      weight: [B] float32. No gradient flows into it.
      logits: (query, columns) -> a function that gives a block's z and offset of p.
      temperature: positive.
      learned: how many of the columns, the first ones, get a gradient; all by default.
    """

    @tf.custom_gradient
    def total(
        query: tf.Tensor, columns: tf.Tensor
    ) -> tuple[tuple[tf.Tensor, tf.Tensor], Gradients]:
        rows, to_query, to_columns = _pass(
            query, columns, weight, logits(query, columns), temperature, learned
        )
        loss = tf.reduce_sum(weight * rows)
        return (loss, rows), lambda upstream, _: (upstream * to_query, upstream * to_columns)

    loss, rows = total(query, columns)
    return Loss(loss, tf.stop_gradient(rows))


def _pass(
    query: tf.Tensor,
    columns: tf.Tensor,
    weight: tf.Tensor,
    block: Block,
    temperature: float,
    learned: tf.Tensor | None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Losses [B], and the gradients of their weighted sum to `query` and `columns`."""
    rows = tf.shape(query)[0]
    own = columns[:rows]
    positive = tf.reduce_sum(query * own, 1) / temperature
    # A column of ones adds the exponentials up in the same product that weighs the vectors by them.
    summed = tf.concat([columns, tf.ones_like(columns[:, :1])], 1)
    height = tf.clip_by_value(TILE // tf.shape(columns)[0], 1, rows)

    def step(
        start: tf.Tensor, losses: tf.TensorArray, sums: tf.TensorArray, to_columns: tf.Tensor
    ) -> tuple[tf.Tensor, tf.TensorArray, tf.TensorArray, tf.Tensor]:
        end = tf.minimum(start + height, rows)
        negatives, offset = block(start, end)
        chosen = positive[start:end] + offset
        top = tf.maximum(tf.reduce_max(negatives, 1), chosen)
        parts = tf.exp(negatives - top[:, tf.newaxis])
        weighed = parts @ summed
        whole = weighed[:, -1] + tf.exp(chosen - top)
        scale = (weight[start:end] / (whole * temperature))[:, tf.newaxis]
        taught = parts if learned is None else parts[:, :learned]
        return (
            end,
            losses.write(start // height, tf.math.log(whole) + top - chosen),
            sums.write(start // height, scale * weighed),
            to_columns + tf.matmul(taught, scale * query[start:end], transpose_a=True),
        )

    none = tf.zeros_like(columns if learned is None else columns[:learned])
    begin = (
        tf.constant(0),
        _blocks(rows, height, []),
        _blocks(rows, height, [summed.shape[1]]),
        none,
    )
    _, losses, sums, to_columns = tf.while_loop(
        lambda at, *_: at < rows, step, begin, parallel_iterations=1
    )
    weighed = sums.concat()
    missing = weighed[:, -1:]  # of the softmax, the positive has what the negatives have not
    to_query = weighed[:, :-1] - missing * own
    to_columns = _below(to_columns, columns) - _below(missing * query, columns)
    return losses.concat(), to_query, to_columns


def _blocks(rows: tf.Tensor, height: tf.Tensor, shape: list[int | None]) -> tf.TensorArray:
    """Holds a tensor per block, with as many rows as the block has."""
    return tf.TensorArray(
        tf.float32, -(-rows // height), element_shape=[None, *shape], infer_shape=False
    )


def _below(x: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """[N, D] with zeros below, as many rows as `columns`."""
    return tf.pad(x, [[0, tf.shape(columns)[0] - tf.shape(x)[0]], [0, 0]])
