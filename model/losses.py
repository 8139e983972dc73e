"""Losses of the two towers. B is the batch, D the width of the vectors; a row's own column is its positive."""

import tensorflow as tf


def in_batch_softmax_loss(
    query: tf.Tensor, candidate: tf.Tensor, item_id: tf.Tensor, log_q: tf.Tensor, *, temperature: float
) -> tf.Tensor:
    """Softmax loss over the batch's own items, corrected for popularity.

        -log softmax_j(<query_i, candidate_j> / temperature - log_q_j)[i]

    over the columns j that do not hold row i's item once more: such a column would teach that the positive is wrong.
    Items drawn in proportion to q are thereby weighted by 1 / q, so that the batch stands for the whole corpus. A
    constant added to `log_q` changes nothing: the log of an expected count serves as well as the log of a share, and
    zeros give the plain loss. Source: Yi et al., RecSys 2019, equation 5.

    Args:
      query: [B, D] float32, L2-normalised.
      candidate: [B, D] float32, L2-normalised; row i is the positive of query row i.
      item_id: [B] int64 or string; the item of each candidate. An item may occur in several rows.
      log_q: [B] float32, natural log of each item's frequency. No gradient flows into it.
      temperature: positive; divides the cosine before the correction.

    Returns: [B] float32, nats, not reduced.
    """
    rows = tf.range(tf.shape(query)[0])
    logits = tf.matmul(query, candidate, transpose_b=True) / temperature - tf.stop_gradient(log_q)[None, :]
    logits = tf.where(accidental_hits(item_id), logits.dtype.min, logits)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=rows, logits=logits)


def accidental_hits(item_id: tf.Tensor) -> tf.Tensor:
    """[B, B] bool: column j is another row that holds row i's item."""
    own = tf.eye(tf.shape(item_id)[0], dtype=tf.bool)
    return (item_id[:, None] == item_id[None, :]) & ~own


def weighted_mean(loss: tf.Tensor, reward: tf.Tensor) -> tf.Tensor:
    """Mean of the rows' losses weighted by reward, so that neither batch size nor the rewards' unit moves the step.

    A row of reward 0 teaches nothing as a positive; its item is still a negative of the others.

    Args:
      loss: [B] float32.
      reward: [B] float32, 0 or more.

    Returns: scalar float32; 0 when all rewards are 0.
    """
    return tf.math.divide_no_nan(tf.reduce_sum(loss * reward), tf.reduce_sum(reward))
