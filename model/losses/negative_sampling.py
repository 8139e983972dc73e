"""What the rows of a batch are held against: the batch's own items, items drawn uniformly from the
corpus, and items of earlier batches.

A candidate is weighted by how often its item is expected among all of them, in whatever way it was
sampled. With B rows, U items drawn from a corpus of C, and M remembered items, that is

    (B - 1) q + U / C + M q'

where q is the item's sampling probability now, its share of the training rows. q' is what it was
when the item was encoded, for a remembered item, and else q. An item outside the corpus has no U / C.

Three things are not exact: q is an estimate; a memory that spans a change of q holds its items by
probabilities in between; and remembered vectors are as old as they are. After a full training over
several days the corpus of the last day has served for all days.
"""

from typing import NamedTuple

import tensorflow as tf

from model.losses.corrected_softmax import Candidates
from model.losses.sampling_probability import StreamingFrequency
from twinspire_core.config.tables.training import NegativesConfig


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


class NegativeMemory(tf.Module):
    """The newest items of earlier batches, as they were encoded then: a ring buffer.

    Attributes:
      written: scalar int64, items ever written.
    """

    def __init__(self, size: int, dimension: int) -> None:
        """Starts empty.

        Args:
          size: items kept.
          dimension: width of the vectors.
        """
        super().__init__()
        self.size = size
        self.written = tf.Variable(tf.constant(0, tf.int64), trainable=False)
        self._items = EncodedItems(
            tf.Variable(tf.zeros([size, dimension]), trainable=False),
            tf.Variable(tf.zeros([size], tf.int64), trainable=False),
            tf.Variable(tf.zeros([size]), trainable=False),
        )
        self._probability = tf.Variable(tf.zeros([size]), trainable=False)

    def read(self, most: tf.Tensor) -> tuple[EncodedItems, tf.Tensor]:
        """Up to `most` items, [N], and their sampling probabilities when they were written, [N]
        float32.
        """
        written = tf.cast(tf.minimum(self.written, self.size), tf.int32)
        filled = tf.minimum(written, most)
        return EncodedItems(*(x[:filled] for x in self._items)), self._probability[:filled]

    def write(self, items: EncodedItems, probability: tf.Tensor) -> None:
        """Puts items, [B], with their sampling probabilities, in the place of the oldest."""
        newest = [x[-self.size :] for x in (*items, probability)]
        count = tf.size(newest[1])
        place = (self.written + tf.range(count, dtype=tf.int64)) % self.size
        for variable, x in zip((*self._items, self._probability), newest, strict=True):
            variable.scatter_update(tf.IndexedSlices(x, place))
        self.written.assign_add(tf.cast(count, tf.int64))


class NegativeSampler(tf.Module):
    """Puts the candidates of a step together.

    Attributes:
      memory: items of earlier batches; None if none are to be remembered.
    """

    def __init__(
        self, settings: NegativesConfig, dimension: int, frequency: StreamingFrequency | None
    ) -> None:
        """Starts with an empty memory.

        Args:
          settings: sizes.
          dimension: width of the vectors.
          frequency: estimates q; None where no correction needs it.
        """
        super().__init__()
        self.memory = NegativeMemory(settings.memory, dimension) if settings.memory else None
        self._memory_after = settings.memory_after
        self._frequency = frequency

    def candidates(
        self, batch: EncodedItems, drawn: EncodedItems | None, step: tf.Tensor
    ) -> Candidates:
        """The batch's items, then those drawn, then those remembered; remembers the batch.

        Args:
          batch: [B], the rows' own items, which the frequency estimate has counted already.
          drawn: [U], from the corpus.
          step: scalar int32, steps ever taken.
        """
        fresh = batch if drawn is None else _concat(batch, drawn)
        rows = tf.size(batch.item)
        batch_size = tf.cast(rows, tf.float32)
        uniform = tf.cast(tf.size(fresh.item) - rows, tf.float32)
        others = tf.maximum(batch_size - 1, 1)
        q = self._probability(fresh.item)
        if self.memory is None:
            return Candidates(
                vector=fresh.vector,
                item=fresh.item,
                in_batch=others * q,
                added=uniform * fresh.draw_probability,
            )
        # Read before it is written: the batch is none of its own earlier batches. Young towers move
        # so fast that what they remember is misleading; `memory_after` steps wait for that.
        most = tf.where(step < self._memory_after, 0, self.memory.size)
        remembered, q_then = self.memory.read(most)
        self.memory.write(batch._replace(vector=tf.stop_gradient(batch.vector)), q[:rows])
        every = _concat(fresh, remembered)
        q_as_sampled = tf.concat([q, q_then], 0)
        q_now = tf.concat([q, self._probability(remembered.item)], 0)
        memory = tf.cast(tf.size(q_then), tf.float32)
        return Candidates(
            vector=every.vector,
            item=every.item,
            in_batch=others * q_now,
            added=uniform * every.draw_probability + memory * q_as_sampled,
            # Remembered vectors are constants: the weights that made them have changed since.
            learned=tf.size(fresh.item),
        )

    def _probability(self, item: tf.Tensor) -> tf.Tensor:
        """[N] float32, share of the rows that hold each item; 1 where no correction reads it."""
        if self._frequency is None:
            return tf.ones_like(item, tf.float32)
        return tf.exp(self._frequency.log_q(item))


def _concat(first: EncodedItems, second: EncodedItems) -> EncodedItems:
    return EncodedItems(*(tf.concat(pair, 0) for pair in zip(first, second, strict=True)))
