"""Losses of the two towers: each row's own item against other items, by softmax.

Shapes: B rows, C columns (the batch's own items first, then items added to them), D the width of
the vectors. Row i's positive is column i. Columns come by chance, some items far oftener than
others; a correction makes those that came stand for the whole catalogue:

    none            -log softmax of s
    batch           -log softmax of s - log E, the positive's included; Yi et al., RecSys 2019, equation 5
    expected_count  the same with the positive's s as it is, and s - log(n E / (N - M)) of the negatives; Khrylchenko
                    et al., RecSys 2025

s is the cosine divided by the temperature. E is how many of the N other columns are expected to
hold the column's item, whatever way they came; M the same of the items that the row leaves out, n
the columns that are left. In a plain batch E / N is the item's share q of the rows, and the last
form is log(n q / (1 - q_i)). In `batch` a constant factor of E changes nothing. No gradient flows
into any of these.

Repeated items keep a column each, all of them weighted by 1 / E. Distinct columns would want the
chance to be there.
"""

from typing import Literal, NamedTuple

import tensorflow as tf

from model.losses.blockwise_softmax import LEFT_OUT, Block, Logits, Loss, blocked_softmax
from model.losses.in_batch_negatives import choose
from model.losses.negative_masks import Excluded, Mask, drawn, items_of_user, own_item
from twinspire_core.config.tables.training import NegativesConfig

Correction = Literal["none", "batch", "expected_count"]

_MOST = 0.999
"""The most of the other columns that a row's own item is taken to hold; estimates may say more than
all.
"""


class Columns(NamedTuple):
    """What rows are held against.

    Attributes:
      vector: [C, D] float32, L2-normalised.
      item: [C] int64 or string; an item may hold several columns.
      batch: [C] float32, how many of the batch's other columns are expected to hold the column's
        item.
      added: [C] float32, how many of the added columns are; 0 where the item cannot be among them.
      learned: how many columns, the first ones, get a gradient; None for all.
    """

    vector: tf.Tensor
    item: tf.Tensor
    batch: tf.Tensor
    added: tf.Tensor
    learned: tf.Tensor | None = None


def sampled_softmax_loss(
    query: tf.Tensor,
    columns: Columns,
    reward: tf.Tensor,
    *,
    temperature: float,
    correction: Correction,
    negatives: NegativesConfig | None = None,
    user: tf.Tensor | None = None,
    seed: tf.Tensor | None = None,
) -> Loss:
    """Mean of the rows' losses weighted by reward, so that neither batch size nor the rewards' unit
    moves the step.

    A row of reward 0 teaches nothing as a positive; its item is still a negative of the others.

    Args:
      query: [B, D] float32, L2-normalised.
      columns: what the rows are held against.
      reward: [B] float32, 0 or more; where all are 0, so is the loss.
      temperature: positive; divides the cosine before the correction.
      correction: as above.
      negatives: which of the batch's items are negatives; all by default.
      user: [B] int64 or string, needed if `negatives.mask_positives`: what a user took is no
        negative of theirs.
      seed: [2] int32, needed if negatives are drawn.

    Returns: the mean, and each row's loss in nats.

    Example: two queries, each at its own item and at right angles to the other: log(1 + 1 / e).
      >>> one = tf.eye(2)
      >>> columns = Columns(one, tf.constant([1, 2], tf.int64), tf.ones([2]), tf.zeros([2]))
      >>> loss = sampled_softmax_loss(one, columns, tf.ones([2]), temperature=1.0, correction="none")
      >>> round(float(loss.total), 4)
      0.3133
    """
    negatives = negatives or NegativesConfig()
    columns = columns._replace(
        batch=tf.stop_gradient(columns.batch), added=tf.stop_gradient(columns.added)
    )
    rows, size = tf.shape(query)[0], tf.shape(columns.item)[0]
    others = size - 1
    if negatives.in_batch == "random":
        k = tf.minimum(negatives.k, rows - 1)
        columns = columns._replace(
            batch=columns.batch * tf.cast(k / tf.maximum(rows - 1, 1), tf.float32)
        )
        others = size - rows + k
    expected = columns.batch + columns.added
    mask = (
        items_of_user(columns.item, expected, user)
        if negatives.mask_positives
        else own_item(columns.item, expected)
    )
    if negatives.in_batch == "random":
        mask = drawn(mask, rows, k, seed)
    compare = _Comparison(columns, mask, tf.cast(others, tf.float32), temperature, correction)

    def logits(query: tf.Tensor, vectors: tf.Tensor) -> Block:
        if negatives.in_batch in ("hard", "semi_hard"):
            return compare.with_chosen(query, vectors, negatives, seed)
        return compare.with_all(query, vectors)

    weight = tf.stop_gradient(tf.math.divide_no_nan(reward, tf.reduce_sum(reward)))
    return blocked_softmax(
        query, columns.vector, weight, logits, temperature=temperature, learned=columns.learned
    )


class _Comparison(NamedTuple):
    """How rows are compared with columns.

    Attributes:
      columns: see there; the vectors are those given to the methods.
      mask: which columns are none of a row's negatives.
      others: scalar float32, N above.
      temperature: of the cosine.
      correction: which.
    """

    columns: Columns
    mask: Mask
    others: tf.Tensor
    temperature: float
    correction: Correction

    def with_all(self, query: tf.Tensor, vectors: tf.Tensor) -> Block:
        """Against all columns that the mask leaves."""
        expected = self.columns.batch + self.columns.added
        bias = tf.zeros_like(expected) if self.correction == "none" else _log(expected)
        # One dimension more subtracts the bias in the product that compares the vectors.
        rows = tf.concat([query, tf.ones_like(query[:, :1])], 1)
        keys = tf.concat([vectors / self.temperature, -bias[:, tf.newaxis]], 1)

        def block(start: tf.Tensor, end: tf.Tensor) -> Logits:
            out = self.mask(start, end)
            logits = tf.matmul(rows[start:end], keys, transpose_b=True)
            return Logits(
                tf.where(out.columns, LEFT_OUT, logits), self._offset(expected[start:end], out)
            )

        return block

    def with_chosen(
        self, query: tf.Tensor, vectors: tf.Tensor, negatives: NegativesConfig, seed: tf.Tensor
    ) -> Block:
        """Against columns of the batch chosen row by row, and all those added.

        An item inside a row's band may have come with the batch or by being added, one outside only
        the latter way.
        """
        size, (_, _, batch, added, _) = tf.shape(query)[0], self.columns

        def block(start: tf.Tensor, end: tf.Tensor) -> Logits:
            out = self.mask(start, end)
            cosine = tf.matmul(query[start:end], vectors, transpose_b=True)
            lot = tf.random.experimental.stateless_fold_in(seed, start)
            chosen = choose(cosine[:, :size], ~out.columns[:, :size], negatives, lot)
            share, low, high = (x[:, tf.newaxis] for x in chosen[1:])
            logits = cosine / self.temperature
            if self.correction != "none":
                band = (cosine >= low) & (cosine <= high)
                logits -= _log(tf.where(band, share * batch, 0.0) + added)
            kept = tf.concat([chosen.columns, ~out.columns[:, size:]], 1)
            own = chosen.share * batch[start:end] + added[start:end]
            return Logits(tf.where(kept, logits, LEFT_OUT), self._offset(own, out))

        return block

    def _offset(self, own: tf.Tensor, out: Excluded) -> tf.Tensor:
        """What is added to the positive's logit, [R]; `own` is how many columns are expected to
        hold the row's item.
        """
        if self.correction == "none":
            return tf.zeros_like(own)
        if self.correction == "batch":
            return -_log(own)
        kept = tf.reduce_sum(tf.cast(~out.columns, tf.float32), 1)
        expected = self.others - tf.minimum(out.expected, _MOST * self.others)
        # To subtract a number from all negatives is to add it to the positive.
        return tf.math.log(tf.maximum(kept, 1.0) / tf.maximum(expected, 1e-3))


def _log(expected: tf.Tensor) -> tf.Tensor:
    """Log of an expected count, far below any that occurs where it is 0: columns that cannot be
    there are left out.
    """
    return tf.math.log(tf.maximum(expected, 1e-30))
