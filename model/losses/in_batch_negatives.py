"""Hard and semi-hard negatives: items of the batch chosen by their cosine to the row's query.

There is a band of candidates by rank, and k of the band are drawn. That a share of
the band is drawn can be corrected for: every candidate drawn stands for 1 / share of the band's.
What lies outside the band has no such stand-in, unless uniform candidates were added, which then stand
for it.

R rows of a block, B candidates of the batch, W candidates of a band.
"""

from typing import NamedTuple

import tensorflow as tf

from twinspire_core.config.tables.training import NegativesConfig

SEMI_HARD_RANKS = (100, 500)
"""The first rank of the band, 0 being the best, and the one behind its last: the first hundred are often
items that the user would take too (Facebook's search draws from the same ranks).
"""
_NEVER = -3.0
"""Below every cosine, and below every number that is drawn from [0, 1)."""


class Chosen(NamedTuple):
    """Candidates chosen for R rows.

    Attributes:
      candidates: [R, B] bool.
      share: [R] float32, the part of the band that was chosen.
      low: [R] float32, the least cosine of the band.
      high: [R] float32, the greatest.
    """

    candidates: tf.Tensor
    share: tf.Tensor
    low: tf.Tensor
    high: tf.Tensor


def choose(
    cosine: tf.Tensor, allowed: tf.Tensor, settings: NegativesConfig, seed: tf.Tensor
) -> Chosen:
    """Chooses k candidates for each row, or all there are in the band.

    Args:
      cosine: [R, B] float32, of each row and candidate.
      allowed: [R, B] bool, the candidates that may be chosen.
      settings: whose `in_batch` is `hard` or `semi_hard`. Of equal cosines the first candidate
        ranks first.
      seed: [2] int32; the draw is a function of it.
    """
    first, last = (0, settings.k) if settings.in_batch == "hard" else SEMI_HARD_RANKS
    # What may not be chosen ranks last; a band may still reach down to it, and is cut there.
    ranked = tf.math.top_k(tf.where(allowed, cosine, _NEVER), tf.minimum(last, tf.shape(cosine)[1]))
    band = ranked.values[:, first:]
    place_of_rank = ranked.indices[:, first:]
    is_allowed = band > _NEVER
    drawn, share = _draw(is_allowed, settings.k, seed)
    place = tf.gather(place_of_rank, tf.maximum(drawn, 0), batch_dims=1)
    place = tf.where(drawn < 0, -1, place)
    # An empty band is to hold no cosine: its least is above its greatest.
    low = tf.reduce_min(tf.where(is_allowed, band, -_NEVER), 1)
    return Chosen(_marked(place, cosine), share, low, tf.reduce_max(band, 1))


def _draw(band: tf.Tensor, k: int, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws k of each row's true entries, or all there are.

    Args:
      band: [R, W] bool.
      k: how many.
      seed: [2] int32.

    Returns: [R, k] int32, their places, -1 where there are no more; [R] float32, the share that was
    drawn.
    """
    # The k greatest of random numbers are k entries drawn without replacement.
    numbers = tf.where(band, tf.random.stateless_uniform(tf.shape(band), seed), _NEVER)
    drawn = tf.math.top_k(numbers, tf.minimum(k, tf.shape(band)[1]))
    size = tf.reduce_sum(tf.cast(band, tf.float32), 1)
    share = tf.math.divide_no_nan(tf.minimum(size, float(k)), size)
    return tf.where(drawn.values > _NEVER, drawn.indices, -1), share


def _marked(place: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """[R, B] bool, true at the places [R, k] of each row; -1 is none."""
    row = tf.repeat(tf.range(tf.shape(place)[0]), tf.shape(place)[1])
    pairs = tf.stack([row, tf.reshape(place, [-1])], 1)
    pairs = tf.boolean_mask(pairs, pairs[:, 1] >= 0)
    return tf.scatter_nd(pairs, tf.ones_like(pairs[:, 0]), tf.shape(like)) > 0
