"""Hard and semi-hard negatives: items of the batch chosen by their cosine to the row's query.

There is a band of columns, by rank or by cosine, and k of the band are drawn. A share of the band
can be corrected for: every column drawn stands for 1 / share of the band's. What lies outside has
no such stand-in, unless columns were added by other ways (uniform, memory), which then hold its
place.
"""

from typing import NamedTuple

import tensorflow as tf

from twinspire_core.config.tables.training import NegativesConfig

_NEVER = -3.0
"""Below every cosine and every number that is drawn."""


class Chosen(NamedTuple):
    """Columns chosen for R rows.

    Attributes:
      columns: [R, B] bool.
      share: [R] float32, the part of the band that was chosen.
      low: [R] float32, the least cosine of the band.
      high: [R] float32, the greatest.
    """

    columns: tf.Tensor
    share: tf.Tensor
    low: tf.Tensor
    high: tf.Tensor


def choose(
    cosine: tf.Tensor, allowed: tf.Tensor, settings: NegativesConfig, seed: tf.Tensor
) -> Chosen:
    """Chooses k columns for each row, or all there are in the band.

    Args:
      cosine: [R, B] float32, of each row and column.
      allowed: [R, B] bool, the columns that may be chosen.
      settings: whose `in_batch` is `hard` or `semi_hard`. Of equal cosines the first column ranks
        first.
      seed: [2] int32; what is drawn is a function of it.
    """
    if settings.in_batch == "semi_hard" and settings.scores:
        low, high = settings.scores
        picked, share = _draw(allowed & (cosine >= low) & (cosine <= high), settings.k, seed)
        return Chosen(
            _marked(picked, cosine),
            share,
            tf.fill(tf.shape(share), low),
            tf.fill(tf.shape(share), high),
        )
    first, last = (0, settings.k) if settings.in_batch == "hard" else settings.ranks
    ranked = tf.math.top_k(tf.where(allowed, cosine, _NEVER), tf.minimum(last, tf.shape(cosine)[1]))
    band, place = ranked.values[:, first:], ranked.indices[:, first:]
    there = band > _NEVER
    drawn, share = _draw(there, settings.k, seed)
    picked = tf.where(drawn < 0, -1, tf.gather(place, tf.maximum(drawn, 0), batch_dims=1))
    lowest = tf.reduce_min(tf.where(there, band, -_NEVER), 1)
    return Chosen(_marked(picked, cosine), share, lowest, tf.reduce_max(band, 1))


def _draw(band: tf.Tensor, k: int, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws k of each row's true entries, or all there are.

    Args:
      band: [R, W] bool.
      k: how many.
      seed: [2] int32.

    Returns: [R, k] int32, their places, -1 where there are no more; [R] float32, the share that was
    drawn.
    """
    lots = tf.where(band, tf.random.stateless_uniform(tf.shape(band), seed), _NEVER)
    drawn = tf.math.top_k(lots, tf.minimum(k, tf.shape(band)[1]))
    there = tf.reduce_sum(tf.cast(band, tf.float32), 1)
    share = tf.math.divide_no_nan(tf.minimum(there, float(k)), there)
    return tf.where(drawn.values > _NEVER, drawn.indices, -1), share


def _marked(place: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """[R, B] bool, true at the places [R, k] of each row; -1 is none."""
    row = tf.repeat(tf.range(tf.shape(place)[0]), tf.shape(place)[1])
    at = tf.stack([row, tf.reshape(place, [-1])], 1)
    at = tf.boolean_mask(at, at[:, 1] >= 0)
    return tf.scatter_nd(at, tf.ones_like(at[:, 0]), tf.shape(like)) > 0
