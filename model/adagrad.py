"""Adagrad on variables and on single rows of embedding tables.

    slot <- slot + g * g;   x <- x - rate * g / (sqrt(slot) + EPSILON)

Slots are variables of our own, kept by name, so that a day's training can hand them to the next. The update of a table
touches the rows that the batch used and no others: time does not grow with the vocabulary. (Keras 3's Adagrad reads
and divides the whole slot array.)
"""

import tensorflow as tf

EPSILON = 1e-7
# What slots start from. Losses are means over the batch, so the gradient of a row is of the order of 1e-4, and this is
# its square: a start far above would hold new ids back for days, zero would let their first step jump by the full rate.
START = 1e-8


class Weight(tf.Module):
    """A trained variable with its Adagrad slots.

    Attributes:
      values: any shape, float32; of an embedding table [rows, width].
      slots: the same shape.
    """

    def __init__(self, values: tf.Tensor, slots: tf.Tensor | None = None) -> None:
        super().__init__()
        self.values = tf.Variable(values)
        self.slots = tf.Variable(tf.fill(tf.shape(values), START) if slots is None else slots, trainable=False)

    def update(self, gradient: tf.Tensor | tf.IndexedSlices, rate: float) -> None:
        """Applies a gradient; one of a lookup touches only the rows looked up, whose occurrences are added up first."""
        if isinstance(gradient, tf.IndexedSlices):
            rows, place = tf.unique(gradient.indices)
            summed = tf.math.unsorted_segment_sum(gradient.values, place, tf.size(rows))
            # On a processor this takes half as long as ResourceSparseApplyAdagradV2, which goes row by row.
            slots = tf.gather(self.slots, rows) + tf.square(summed)
            values = tf.gather(self.values, rows) - rate * summed / (tf.sqrt(slots) + EPSILON)
            self.slots.scatter_update(tf.IndexedSlices(slots, rows))
            self.values.scatter_update(tf.IndexedSlices(values, rows))
        else:
            tf.raw_ops.ResourceApplyAdagradV2(
                var=self.values.handle, accum=self.slots.handle, lr=rate, epsilon=EPSILON, grad=gradient
            )
