"""The softmax loss of B rows against C candidates, in blocks of rows: memory grows with B + C, not
with B times C.

A block sees all candidates, so its softmax is complete. With the rows' weights at hand the gradient
follows from the same numbers before they are dropped: one pass, three products of matrices, one
exponential per pair. Automatic differentiation would keep every block's logits for the way back.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

BLOCK_PAIRS = 1 << 20
"""Pairs of a row and a candidate in a block. Each pair is a float in several arrays at a time; with
more pairs these fall out of the processor's cache.
"""

LEFT_OUT = -1e30
"""Logit of a candidate that is none of the row's negatives. It is finite, since a row may have no
negative at all, and -inf - -inf is nan.
"""


class Logits(NamedTuple):
    """Logits of a block of R rows.

    Attributes:
      negatives: [R, C] float32: <query, candidate> / temperature plus whatever corrects it, and
        `LEFT_OUT` where the candidate is none of the row's negatives. The row's own candidate never
        is.
      offset: [R] float32, added to <query, candidate> / temperature of the positive.
    """

    negatives: tf.Tensor
    offset: tf.Tensor


class Loss(NamedTuple):
    """A batch's loss.

    Attributes:
      total: scalar, the sum of the rows' losses times their weights. Gradients flow from it.
      rows: [B] nats, not weighted. No gradient flows from it.
    """

    total: tf.Tensor
    rows: tf.Tensor


Gradients = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""(gradient of the loss, that of its rows) -> gradients of the queries and of the candidates."""
Block = Callable[[tf.Tensor, tf.Tensor], Logits]
"""(first row, last row + 1) -> logits of these rows."""


def blocked_softmax(
    query: tf.Tensor,
    candidates: tf.Tensor,
    weight: tf.Tensor,
    logits: Callable[[tf.Tensor, tf.Tensor], Block],
    *,
    temperature: float,
) -> Loss:
    """Sum over rows i of weight_i * (log(exp p_i + sum_j exp z_ij) - p_i), where p_i is the logit
    of the positive and z_ij are those of the negatives.

    Args:
      query: [B, D] float32, vectors of the rows.
      candidates: [C, D] float32, C >= B; row i's positive is candidate i.
      weight: [B] float32. No gradient flows into it.
      logits: (query, candidates) -> a function that gives a block's z and the offset of its p.
      temperature: above 0; divides the inner products.
    """

    @tf.custom_gradient
    def total(
        query: tf.Tensor, candidates: tf.Tensor
    ) -> tuple[tuple[tf.Tensor, tf.Tensor], Gradients]:
        rows, to_query, to_candidates = _losses_and_gradients(
            query, candidates, weight, logits(query, candidates), temperature
        )

        def gradient(upstream: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return upstream * to_query, upstream * to_candidates

        return (tf.reduce_sum(weight * rows), rows), gradient

    loss, rows = total(query, candidates)
    return Loss(loss, tf.stop_gradient(rows))


def _losses_and_gradients(
    query: tf.Tensor,
    candidates: tf.Tensor,
    weight: tf.Tensor,
    block: Block,
    temperature: float,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Losses [B], and the gradients of their weighted sum to `query` and `candidates`.

    With P the softmax of a row, over its positive and its negatives, the gradient to the query is
    weight / temperature * (sum_j P_j c_j - (1 - P_positive) c_positive), the sum over negatives;
    the gradient to the candidates has the same factors times the query.
    """
    rows = tf.shape(query)[0]
    positives = candidates[:rows]
    positive = tf.reduce_sum(query * positives, 1) / temperature
    # A column of ones adds up the exponentials in the same product that weighs the vectors by them.
    with_ones = tf.concat([candidates, tf.ones_like(candidates[:, :1])], 1)
    height = tf.clip_by_value(BLOCK_PAIRS // tf.shape(candidates)[0], 1, rows)

    def step(
        start: tf.Tensor, losses: tf.TensorArray, sums: tf.TensorArray, to_candidates: tf.Tensor
    ) -> tuple[tf.Tensor, tf.TensorArray, tf.TensorArray, tf.Tensor]:
        end = tf.minimum(start + height, rows)
        negatives, offset = block(start, end)
        own_logit = positive[start:end] + offset
        # Less the greatest logit, no exponential overflows.
        top = tf.maximum(tf.reduce_max(negatives, 1), own_logit)
        exponentials = tf.exp(negatives - top[:, tf.newaxis])
        # [rows, D + 1]: sums of the candidates' vectors by their exponentials, and of these alone.
        weighed = exponentials @ with_ones
        partition = weighed[:, -1] + tf.exp(own_logit - top)
        scale = (weight[start:end] / (partition * temperature))[:, tf.newaxis]
        return (
            end,
            losses.write(start // height, tf.math.log(partition) + top - own_logit),
            sums.write(start // height, scale * weighed),
            to_candidates + tf.matmul(exponentials, scale * query[start:end], transpose_a=True),
        )

    state = (
        tf.constant(0),
        _block_array(rows, height, []),
        _block_array(rows, height, [with_ones.shape[1]]),
        tf.zeros_like(candidates),
    )
    # One block at a time: blocks in parallel would need as many times the memory.
    _, losses, sums, to_candidates = tf.while_loop(
        lambda start, *_: start < rows, step, state, parallel_iterations=1
    )
    weighed = sums.concat()
    # The last column sums up the softmax of the negatives, 1 - P_positive, times the row's scale.
    negative_share = weighed[:, -1:]
    to_query = weighed[:, :-1] - negative_share * positives
    to_candidates -= _pad_rows(negative_share * query, candidates)
    return losses.concat(), to_query, to_candidates


def _block_array(rows: tf.Tensor, height: tf.Tensor, shape: list[int | None]) -> tf.TensorArray:
    """Holds a tensor per block, with as many rows as the block has."""
    return tf.TensorArray(
        tf.float32, -(-rows // height), element_shape=[None, *shape], infer_shape=False
    )


def _pad_rows(x: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """[N, D] with rows of zeros below, as many rows as `like`."""
    return tf.pad(x, [[0, tf.shape(like)[0] - tf.shape(x)[0]], [0, 0]])
