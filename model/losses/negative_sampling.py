"""What the rows of a batch are held against: the batch's own items, and items drawn uniformly from
the corpus.

A candidate is weighted by how often its item is expected among all of them, in whatever way it was
sampled. With B rows and U items drawn from a corpus of C, that is

    (B - 1) q + U / C

where q is the item's sampling probability, its share of the training rows. An item outside the corpus
has no U / C. Two things are not exact: q is an estimate, and after a full training over several days
the corpus of the last day has served for all days.
"""

from typing import NamedTuple

import tensorflow as tf

from model.losses.corrected_softmax import Candidates
from model.losses.sampling_probability import StreamingFrequency


class EncodedItems(NamedTuple):
    """Items with their vectors.

    Attributes:
      vector: [N, D] float32.
      item: [N] int64 fingerprints.
      draw_probability: [N] float32, of the item to be the one that is drawn from the corpus; 0
        outside the corpus.
    """

    vector: tf.Tensor
    item: tf.Tensor
    draw_probability: tf.Tensor


def step_candidates(
    batch: EncodedItems, drawn: EncodedItems | None, frequency: StreamingFrequency | None
) -> Candidates:
    """The batch's items, then those drawn, with how often each is expected.

    Args:
      batch: [B], the rows' own items, which the frequency estimate has counted already.
      drawn: [U], from the corpus.
      frequency: estimates q; None where no correction needs it.
    """
    items = batch if drawn is None else _concat(batch, drawn)
    rows = tf.size(batch.item)
    uniform = tf.cast(tf.size(items.item) - rows, tf.float32)
    others = tf.maximum(tf.cast(rows, tf.float32) - 1, 1)
    q = tf.ones_like(items.item, tf.float32) if frequency is None else _share(frequency, items)
    return Candidates(
        vector=items.vector,
        item=items.item,
        in_batch=others * q,
        added=uniform * items.draw_probability,
    )


def _share(frequency: StreamingFrequency, items: EncodedItems) -> tf.Tensor:
    """[N] float32, share of the training rows that hold each item."""
    return tf.exp(frequency.log_q(items.item))


def _concat(first: EncodedItems, second: EncodedItems) -> EncodedItems:
    return EncodedItems(*(tf.concat(pair, 0) for pair in zip(first, second, strict=True)))
