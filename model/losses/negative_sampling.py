"""What the rows of a batch are held against: its own items, some drawn from the catalogue, some of
earlier batches.

A column weighs by how often its item is expected among all of them, whichever way it came: of B
rows, U drawn from a catalogue of C and M remembered, (B - 1) q + U / C + M q'. q is the item's
share of the rows now, q' that of the time when it was encoded, if it is remembered, and else q; an
item outside the catalogue has no U / C.

What is not exact: the estimate of q; that a memory which spans a change of q holds its items by
shares in between; and that remembered vectors are as old as they are. After a full training over
several days the catalogue of the last one has served for all.
"""

from typing import NamedTuple

import tensorflow as tf

from model.losses.corrected_softmax import Columns
from model.losses.sampling_probability import StreamingFrequency
from twinspire_core.config.tables.training import NegativesConfig


class Entries(NamedTuple):
    """Encoded items.

    Attributes:
      vector: [N, D] float32.
      item: [N] int64 fingerprints.
      chance: [N] float32, of the item to be the one that is drawn from the catalogue; 0 outside of
        it.
    """

    vector: tf.Tensor
    item: tf.Tensor
    chance: tf.Tensor


class NegativeMemory(tf.Module):
    """The newest items of earlier batches, as they were encoded then.

    Attributes:
      written: scalar int64, entries ever written.
    """

    def __init__(self, size: int, dimension: int) -> None:
        """Starts empty.

        Args:
          size: entries kept.
          dimension: of the vectors.
        """
        super().__init__()
        self.size = size
        self.written = tf.Variable(tf.constant(0, tf.int64), trainable=False)
        self._entries = Entries(
            tf.Variable(tf.zeros([size, dimension]), trainable=False),
            tf.Variable(tf.zeros([size], tf.int64), trainable=False),
            tf.Variable(tf.zeros([size]), trainable=False),
        )
        self._share = tf.Variable(tf.zeros([size]), trainable=False)

    def read(self, most: tf.Tensor) -> tuple[Entries, tf.Tensor]:
        """Up to `most` entries, [N], and the shares of their items when they were written, [N]
        float32.
        """
        filled = tf.minimum(tf.cast(tf.minimum(self.written, self.size), tf.int32), most)
        return Entries(*(x[:filled] for x in self._entries)), self._share[:filled]

    def write(self, entries: Entries, share: tf.Tensor) -> None:
        """Puts entries, [B], with the shares of their items, in place of the oldest."""
        newest = [x[-self.size :] for x in (*entries, share)]
        place = (self.written + tf.range(tf.size(newest[1]), dtype=tf.int64)) % self.size
        for variable, x in zip((*self._entries, self._share), newest, strict=True):
            variable.scatter_update(tf.IndexedSlices(x, place))
        self.written.assign_add(tf.size(newest[1], tf.int64))


class NegativeSampler(tf.Module):
    """Puts the columns of a step together.

    Attributes:
      memory: earlier items, if there is one.
    """

    def __init__(
        self, settings: NegativesConfig, dimension: int, frequency: StreamingFrequency | None
    ) -> None:
        """Starts with an empty memory.

        Args:
          settings: sizes.
          dimension: of the vectors.
          frequency: tells q; None where no correction asks for it.
        """
        super().__init__()
        self.memory = NegativeMemory(settings.memory, dimension) if settings.memory else None
        self._after, self._frequency = settings.memory_after, frequency

    def columns(self, batch: Entries, drawn: Entries | None, step: tf.Tensor) -> Columns:
        """The batch's items, then those drawn, then those remembered; the batch is remembered from
        now on.

        Args:
          batch: [B], the rows' own items, which the frequency estimate has counted.
          drawn: [U], from the catalogue.
          step: scalar int32, steps ever taken.
        """
        fresh = batch if drawn is None else _joined(batch, drawn)
        rows, q = tf.size(batch.item), self._share(fresh.item)
        batch_size, uniform = (
            tf.cast(rows, tf.float32),
            tf.cast(tf.size(fresh.item) - rows, tf.float32),
        )
        others = tf.maximum(batch_size - 1, 1)
        if self.memory is None:
            return Columns(fresh.vector, fresh.item, others * q, uniform * fresh.chance)
        old, share = self.memory.read(tf.where(step < self._after, 0, self.memory.size))
        self.memory.write(batch._replace(vector=tf.stop_gradient(batch.vector)), q[:rows])
        every, then = _joined(fresh, old), tf.concat([q, share], 0)
        added = uniform * every.chance + tf.cast(tf.size(share), tf.float32) * then
        q = tf.concat([q, self._share(old.item)], 0)
        return Columns(every.vector, every.item, others * q, added, learned=tf.size(fresh.item))

    def _share(self, item: tf.Tensor) -> tf.Tensor:
        """[N] float32, of the rows that hold each item."""
        return (
            tf.ones_like(item, tf.float32)
            if self._frequency is None
            else tf.exp(self._frequency.log_q(item))
        )


def _joined(first: Entries, second: Entries) -> Entries:
    return Entries(*(tf.concat(pair, 0) for pair in zip(first, second, strict=True)))
