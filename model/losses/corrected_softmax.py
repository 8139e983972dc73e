"""The loss of the two towers: a softmax, corrected for how often items are sampled.

A training step calls `sampled_softmax_loss` with the vectors of its rows and with the candidate items
(model/losses/negatives.py).

Shapes: B rows; C candidates (the batch's own items first, then items added to them); D the width of the
vectors. The positive of row i is candidate i. With two rows and one added item the logits are

               item 0     item 1     added
      row 0  [ positive   negative   negative ]
      row 1  [ negative   positive   negative ]

Some items are sampled far more often than others. A correction removes this bias, so that the candidates
represent the whole corpus:

    none            -log softmax of s
    batch           -log softmax of s - log E, of the positive and the negatives
                    (Yi et al., RecSys 2019, equation 5)
    expected_count  -log softmax of s for the positive, and s - log(n E / (N - M)) for the negatives
                    (Khrylchenko et al., RecSys 2025)

s is the cosine divided by the temperature. For a row, N is the number of the other candidates. E is the
expected number of them that have the candidate's item, however they were sampled. M is the expected number
of them that have an item that the row excludes. n is the number of candidates that remain as negatives. In
a plain batch, E / N is q, the item's sampling probability, and the last form is log(n q / (1 - q_i)). In
`batch`, a constant factor of E changes nothing. No gradient flows into E, M or n.

An item that was sampled several times has one candidate for each time, each with the weight 1 / E. If repeats
were removed, the weight would need the probability of being sampled at all.

The loss is computed in blocks of rows: memory grows with B + C, not with B times C. A block sees all
candidates, so its softmax is complete. The same pass computes the gradient, from intermediate results that
are then dropped. It takes three matrix products and one exponential per pair. Automatic differentiation would
keep the logits of all blocks until the backward pass.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import tensorflow as tf

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

BLOCK_PAIRS = 1 << 20
"""Pairs of a row and a candidate in a block. Each pair is a float in several arrays. With more pairs,
these arrays would not fit into the processor's cache.
"""
LEFT_OUT = -1e30
"""Logit of a candidate that is not a negative of the row. It is finite, because a row may have no
negatives, and -inf - -inf is nan.
"""


class Logits(NamedTuple):
    """Logits of a block of R rows.

    Attributes:
      negatives: [R, C] float32: <query, candidate> / temperature plus the correction; `LEFT_OUT` if the
        candidate is not a negative of the row. The row's own candidate never is.
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
    # A column of ones sums the exponentials in the same product that sums the weighted vectors.
    with_ones = tf.concat([candidates, tf.ones_like(candidates[:, :1])], 1)
    height = tf.clip_by_value(BLOCK_PAIRS // tf.shape(candidates)[0], 1, rows)

    def step(
        start: tf.Tensor, losses: tf.TensorArray, sums: tf.TensorArray, to_candidates: tf.Tensor
    ) -> tuple[tf.Tensor, tf.TensorArray, tf.TensorArray, tf.Tensor]:
        end = tf.minimum(start + height, rows)
        negatives, offset = block(start, end)
        own_logit = positive[start:end] + offset
        # Subtracting the largest logit prevents overflow of the exponentials.
        top = tf.maximum(tf.reduce_max(negatives, 1), own_logit)
        exponentials = tf.exp(negatives - top[:, tf.newaxis])
        # [rows, D + 1]: sums of the candidates' vectors weighted by their exponentials, and sums of the
        # exponentials.
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
    # One block at a time, because parallel blocks would multiply the memory.
    _, losses, sums, to_candidates = tf.while_loop(
        lambda start, *_: start < rows, step, state, parallel_iterations=1
    )
    weighed = sums.concat()
    # The last column is the sum of the softmax over the negatives, 1 - P_positive, times the row's scale.
    negative_share = weighed[:, -1:]
    to_query = weighed[:, :-1] - negative_share * positives
    to_candidates -= _pad_rows(negative_share * query, candidates)
    return losses.concat(), to_query, to_candidates


def _block_array(rows: tf.Tensor, height: tf.Tensor, shape: list[int | None]) -> tf.TensorArray:
    """A TensorArray with one tensor per block, of as many rows as the block has."""
    return tf.TensorArray(
        tf.float32, -(-rows // height), element_shape=[None, *shape], infer_shape=False
    )


def _pad_rows(x: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """[N, D] padded with rows of zeros to the number of rows of `like`."""
    return tf.pad(x, [[0, tf.shape(like)[0] - tf.shape(x)[0]], [0, 0]])


Correction = Literal["none", "batch", "expected_count"]
# The largest share of the other candidates that may count as excluded. The sum of the estimates may exceed 1,
# and the correction takes the log of the remainder.
_MAX_SHARE = 0.999


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
      candidates: the positives and negatives of the rows.
      reward: [B] float32, 0 or more. If all are 0, the loss is 0.
      temperature: positive; divides the cosine before the correction.
      negatives: which of the batch's items are negatives; all by default.
      user: [B] int64 or string, needed with `negatives.mask_positives`: items that a user took are then
        not negatives of that user.
      seed: [2] int32, needed if negatives are drawn.

    Returns: the mean, and each row's loss in nats.

    Example: two queries, each equal to its item and orthogonal to the other item: log(1 + 1 / e).
      >>> one = tf.eye(2)
      >>> candidates = Candidates(one, tf.constant([1, 2], tf.int64), tf.ones([2]), tf.zeros([2]))
      >>> loss = sampled_softmax_loss(
      ...     one, candidates, tf.ones([2]), temperature=1.0, correction="none"
      ... )
      >>> round(float(loss.total), 4)
      0.3133
    """
    negatives = negatives or NegativesConfig()
    # Expected counts describe the sampling; no gradient may flow into them.
    candidates = candidates._replace(
        in_batch=tf.stop_gradient(candidates.in_batch), added=tf.stop_gradient(candidates.added)
    )
    rows = tf.shape(query)[0]
    size = tf.shape(candidates.item)[0]
    others = size - 1
    if negatives.in_batch == "random":
        # Only k of each row's other items in the batch are kept, so the expected counts are smaller.
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

    # Rewards 1 and 3 have the weights 1/4 and 3/4, whatever their unit.
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
      candidates: their items and expected counts. The methods get the vectors.
      mask: selects the candidates that are not negatives of a row.
      others: scalar float32, N above.
      temperature: the cosine is divided by this.
      correction: one of the three forms above.
    """

    candidates: Candidates
    mask: Mask
    others: tf.Tensor
    temperature: float
    correction: Correction

    def against_all(self, query: tf.Tensor, vectors: tf.Tensor) -> Block:
        """Logits of all candidates that the mask keeps, for queries [B, D] and vectors [C, D]."""
        expected = self.candidates.in_batch + self.candidates.added
        bias = tf.zeros_like(expected) if self.correction == "none" else _log(expected)
        # An extra dimension subtracts the bias in the same product: <(q, 1), (c / t, -bias)>.
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
        """Logits of the batch's candidates that are chosen row by row, and of all added ones, for queries
        [B, D] and vectors [C, D].

        An item inside a row's band can be in the batch or among the added candidates. An item outside the
        band can only be an added candidate.
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
            # [R, B] chosen candidates of the batch, then [R, C - B] added candidates that the mask keeps.
            is_negative = tf.concat([chosen.candidates, ~excluded.candidates[:, rows:]], 1)
            own_expected = chosen.share * in_batch[start:end] + added[start:end]
            return Logits(
                negatives=tf.where(is_negative, logits, LEFT_OUT),
                offset=self._positive_offset(own_expected, excluded),
            )

        return block

    def _positive_offset(self, own_expected: tf.Tensor, excluded: Excluded) -> tf.Tensor:
        """The number that is added to the positive's logit, [R].

        Args:
          own_expected: [R] float32, E of each row's own item.
          excluded: the candidates that the rows exclude.
        """
        if self.correction == "none":
            return tf.zeros_like(own_expected)
        if self.correction == "batch":
            return -_log(own_expected)
        # log(n / (N - M)) must be subtracted from all negatives of the row. A softmax does not change if a
        # number is added to all logits, so adding it to the positive is the same.
        negatives = tf.reduce_sum(tf.cast(~excluded.candidates, tf.float32), 1)
        expected = self.others - tf.minimum(excluded.expected, _MAX_SHARE * self.others)
        return tf.math.log(tf.maximum(negatives, 1.0) / tf.maximum(expected, 1e-3))


def _log(expected: tf.Tensor) -> tf.Tensor:
    """Log of an expected count. For a count of 0 it is a very small finite number.

    Candidates that cannot occur are excluded later, but log 0 would first turn them into -inf or nan.
    """
    return tf.math.log(tf.maximum(expected, 1e-30))
