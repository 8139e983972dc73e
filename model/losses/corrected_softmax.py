"""The loss of the two towers: a softmax, corrected for how often items are sampled.

A training step calls `sampled_softmax_loss` with the vectors of its rows and with the items that
they are compared with (model/losses/negatives.py).

Shapes: B rows; C candidates (the batch's own items first, then items added to them); D the width of
the vectors. Row i's positive is candidate i: with two rows and one added item the logits are

               item 0     item 1     added
      row 0  [ positive   negative   negative ]
      row 1  [ negative   positive   negative ]

Candidates are sampled, some items far oftener than others; a correction makes those that were sampled
stand for the whole corpus:

    none            -log softmax of s
    batch           -log softmax of s - log E, of the positive and the negatives
                    (Yi et al., RecSys 2019, equation 5)
    expected_count  -log softmax of s for the positive, and s - log(n E / (N - M)) for the negatives
                    (Khrylchenko et al., RecSys 2025)

s is the cosine divided by the temperature. For a row, N is the number of the other candidates; E is
how many of them are expected to hold the candidate's item, in whatever way they were sampled; M is
how many are expected to hold an item that the row leaves out; n is the number of candidates that
are left as negatives. In a plain batch E / N is q, the item's sampling probability, and the last
form is log(n q / (1 - q_i)). In `batch` a constant factor of E changes nothing. No gradient flows
into E, M or n.

An item that was sampled several times keeps a candidate for each time, all of them weighted by
1 / E. Candidates without repeats would need the probability to be sampled at all instead.
"""

from typing import Literal, NamedTuple

import tensorflow as tf

from model.losses.blockwise_softmax import LEFT_OUT, Block, Logits, Loss, blocked_softmax
from model.losses.negatives import (
    Candidates,
    Excluded,
    Mask,
    choose_negatives,
    mask_drawn,
    mask_items_of_user,
    mask_own_item,
)
from twinspire_core.config.tables.training import NegativesConfig

Correction = Literal["none", "batch", "expected_count"]

_MAX_SHARE = 0.999
"""The most of the other candidates that are taken to hold items that a row leaves out. Estimates
may add up to more than all of them, and the correction takes the log of the rest.
"""


def sampled_softmax_loss(
    query: tf.Tensor,
    candidates: Candidates,
    reward: tf.Tensor,
    *,
    temperature: float,
    correction: Correction,
    negatives: NegativesConfig | None = None,
    user: tf.Tensor | None = None,
    seed: tf.Tensor | None = None,
) -> Loss:
    """Mean of the rows' losses, weighted by reward, so that neither the batch size nor the unit of
    rewards changes the size of a step.

    A row with reward 0 has no effect as a positive. Its item is still a negative of other rows.

    Args:
      query: [B, D] float32, L2-normalised.
      candidates: the items that the rows are held against.
      reward: [B] float32, 0 or more; where all are 0, so is the loss.
      temperature: positive; divides the cosine before the correction.
      negatives: which of the batch's items are negatives; all by default.
      user: [B] int64 or string, needed with `negatives.mask_positives`: what a user took is then no
        negative of that user.
      seed: [2] int32, needed if negatives are drawn.

    Returns: the mean, and each row's loss in nats.

    Example: two queries, each at its own item and at right angles to the other: log(1 + 1 / e).
      >>> one = tf.eye(2)
      >>> candidates = Candidates(one, tf.constant([1, 2], tf.int64), tf.ones([2]), tf.zeros([2]))
      >>> loss = sampled_softmax_loss(
      ...     one, candidates, tf.ones([2]), temperature=1.0, correction="none"
      ... )
      >>> round(float(loss.total), 4)
      0.3133
    """
    negatives = negatives or NegativesConfig()
    # Expected counts say how candidates were sampled: training must not lower the loss by them.
    candidates = candidates._replace(
        in_batch=tf.stop_gradient(candidates.in_batch), added=tf.stop_gradient(candidates.added)
    )
    rows = tf.shape(query)[0]
    size = tf.shape(candidates.item)[0]
    others = size - 1
    if negatives.in_batch == "random":
        # Of each row's other items in the batch only k are kept: fewer are expected to hold any item.
        k = tf.minimum(negatives.k, rows - 1)
        kept_share = tf.cast(k / tf.maximum(rows - 1, 1), tf.float32)
        candidates = candidates._replace(in_batch=candidates.in_batch * kept_share)
        others = size - rows + k
    expected = candidates.in_batch + candidates.added
    if negatives.mask_positives:
        mask = mask_items_of_user(candidates.item, expected, user)
    else:
        mask = mask_own_item(candidates.item, expected)
    if negatives.in_batch == "random":
        mask = mask_drawn(mask, rows, k, seed)
    logits = _CorrectedLogits(
        candidates, mask, tf.cast(others, tf.float32), temperature, correction
    )

    def logits_of(query: tf.Tensor, vectors: tf.Tensor) -> Block:
        if negatives.in_batch in ("hard", "semi_hard"):
            return logits.against_chosen(query, vectors, negatives, seed)
        return logits.against_all(query, vectors)

    # Rewards 1 and 3 weigh a quarter and three quarters: their unit does not matter.
    weight = tf.stop_gradient(tf.math.divide_no_nan(reward, tf.reduce_sum(reward)))
    return blocked_softmax(
        query,
        candidates.vector,
        weight,
        logits_of,
        temperature=temperature,
    )


class _CorrectedLogits(NamedTuple):
    """How the logits of rows and candidates are computed, block by block.

    Attributes:
      candidates: their items and expected counts; vectors are those given to the methods.
      mask: which candidates are none of a row's negatives.
      others: scalar float32, N above.
      temperature: what the cosine is divided by.
      correction: one of the three forms above.
    """

    candidates: Candidates
    mask: Mask
    others: tf.Tensor
    temperature: float
    correction: Correction

    def against_all(self, query: tf.Tensor, vectors: tf.Tensor) -> Block:
        """Against all candidates that the mask leaves; of queries [B, D] and vectors [C, D]."""
        expected = self.candidates.in_batch + self.candidates.added
        bias = tf.zeros_like(expected) if self.correction == "none" else _log(expected)
        # One dimension more subtracts the bias in the same product: <(q, 1), (c / t, -bias)>.
        rows = tf.concat([query, tf.ones_like(query[:, :1])], 1)
        keys = tf.concat([vectors / self.temperature, -bias[:, tf.newaxis]], 1)

        def block(start: tf.Tensor, end: tf.Tensor) -> Logits:
            excluded = self.mask(start, end)
            logits = tf.matmul(rows[start:end], keys, transpose_b=True)
            return Logits(
                negatives=tf.where(excluded.candidates, LEFT_OUT, logits),
                offset=self._positive_offset(expected[start:end], excluded),
            )

        return block

    def against_chosen(
        self, query: tf.Tensor, vectors: tf.Tensor, negatives: NegativesConfig, seed: tf.Tensor
    ) -> Block:
        """Against candidates of the batch chosen row by row, and all added ones; of queries [B, D]
        and vectors [C, D].

        An item inside a row's band may come with the batch or be added; an item outside the band
        can only be added.
        """
        rows = tf.shape(query)[0]
        in_batch = self.candidates.in_batch
        added = self.candidates.added

        def block(start: tf.Tensor, end: tf.Tensor) -> Logits:
            excluded = self.mask(start, end)
            cosine = tf.matmul(query[start:end], vectors, transpose_b=True)
            chosen = choose_negatives(
                cosine[:, :rows],
                ~excluded.candidates[:, :rows],
                negatives,
                tf.random.experimental.stateless_fold_in(seed, start),
            )
            logits = cosine / self.temperature
            if self.correction != "none":
                low = chosen.low[:, tf.newaxis]
                high = chosen.high[:, tf.newaxis]
                inside_band = (cosine >= low) & (cosine <= high)
                from_batch = chosen.share[:, tf.newaxis] * in_batch
                logits -= _log(tf.where(inside_band, from_batch, 0.0) + added)
            # [R, B] chosen of the batch, beside [R, C - B] of what was added: all that the mask leaves.
            kept = tf.concat([chosen.candidates, ~excluded.candidates[:, rows:]], 1)
            own_expected = chosen.share * in_batch[start:end] + added[start:end]
            return Logits(
                negatives=tf.where(kept, logits, LEFT_OUT),
                offset=self._positive_offset(own_expected, excluded),
            )

        return block

    def _positive_offset(self, own_expected: tf.Tensor, excluded: Excluded) -> tf.Tensor:
        """What is added to the positive's logit, [R].

        Args:
          own_expected: [R] float32, E of each row's own item.
          excluded: what the rows leave out.
        """
        if self.correction == "none":
            return tf.zeros_like(own_expected)
        if self.correction == "batch":
            return -_log(own_expected)
        # log(n / (N - M)) is to be subtracted from all negatives of the row. A softmax does not
        # change when a number is added to all of its logits: adding it to the positive is the same.
        kept = tf.reduce_sum(tf.cast(~excluded.candidates, tf.float32), 1)
        expected = self.others - tf.minimum(excluded.expected, _MAX_SHARE * self.others)
        return tf.math.log(tf.maximum(kept, 1.0) / tf.maximum(expected, 1e-3))


def _log(expected: tf.Tensor) -> tf.Tensor:
    """Log of an expected count; of 0, a number far below any that occurs.

    Candidates that cannot occur are left out anyway, but log 0 would make them -inf or nan first.
    """
    return tf.math.log(tf.maximum(expected, 1e-30))
