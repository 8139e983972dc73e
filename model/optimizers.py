"""Adagrad, on variables and on single rows of embedding tables; and Adam, for weights that all rows use.

Adagrad (Duchi, Hazan and Singer, JMLR 2011):

    slot <- slot + g * g;   x <- x - rate * g / (sqrt(slot) + EPSILON)

Slots are variables of our own, kept by name, so that a day's training can hand them to the next.
The update of a table touches the rows that the batch used and no others: time does not grow with
the vocabulary. (Keras 3's Adagrad reads and divides the whole slot array.)

Adam (Kingma and Ba, ICLR 2015), for the weights of attention:

    m <- BETA_1 m + (1 - BETA_1) g;   v <- BETA_2 v + (1 - BETA_2) g * g
    x <- x - rate * (m / (1 - BETA_1^t)) / (sqrt(v / (1 - BETA_2^t)) + ADAM_EPSILON)

Tables keep to Adagrad: a row that is looked up once a day would lose its moments in between.
"""

from collections.abc import Sequence

import tensorflow as tf

EPSILON = 1e-7
# What slots start from. Losses are means over the batch, so the gradient of a row is of the order
# of 1e-4, and this is its square: a start far above would hold new ids back for days, zero would
# let their first step jump by the full rate.
START = 1e-8

BETA_1 = 0.9
BETA_2 = 0.98
ADAM_EPSILON = 1e-8


class AdagradWeight(tf.Module):
    """A trained variable with its Adagrad slots.

    Attributes:
      values: any shape, float32; of an embedding table [rows, width].
      slots: the same shape.
    """

    def __init__(self, values: tf.Tensor, slots: tf.Tensor | None = None) -> None:
        super().__init__()
        self.values = tf.Variable(values)
        self.slots = tf.Variable(
            tf.fill(tf.shape(values), START) if slots is None else slots, trainable=False
        )

    def update(
        self,
        gradient: tf.Tensor | tf.IndexedSlices | None,
        rate: float,
        lists: Sequence[tf.IndexedSlices] = (),
    ) -> None:
        """Applies a gradient; one of a lookup touches only the rows looked up, whose occurrences
        are added up first.

        Args:
          gradient: of the values' shape, or of rows of it, which may be named several times; None
            for none.
          rate: learning rate.
          lists: further gradients of rows; each names its rows once and in ascending order.
        """
        variables = {
            "var": self.values.handle,
            "accum": self.slots.handle,
            "lr": rate,
            "epsilon": EPSILON,
        }
        if isinstance(gradient, tf.Tensor):
            tf.raw_ops.ResourceApplyAdagradV2(**variables, grad=gradient)
            return
        for part in _apart([*lists], [gradient] if gradient is not None else []):
            tf.raw_ops.ResourceSparseApplyAdagradV2(
                **variables, grad=part.values, indices=part.indices
            )


def _apart(lists: list[tf.IndexedSlices], others: list[tf.IndexedSlices]) -> list[tf.IndexedSlices]:
    """Gradients of rows, added up so that no row is named twice.

    The first of the lists is by far the largest part of a batch, so that the others are added to
    what it has: summing all of them anew would copy it twice.
    """
    first, rest = lists[:1], [*lists[1:], *others]
    if not rest:
        return first
    rows, place = tf.unique(tf.concat([part.indices for part in rest], 0))
    summed = tf.math.unsorted_segment_sum(
        tf.concat([part.values for part in rest], 0), place, tf.size(rows)
    )
    if not first:
        return [tf.IndexedSlices(summed, rows)]
    ids = first[0].indices
    place = tf.searchsorted(ids, rows)
    there = tf.gather(tf.concat([ids, [-1]], 0), place) == rows
    more = tf.boolean_mask(summed, there)
    together = tf.tensor_scatter_nd_add(
        first[0].values, tf.boolean_mask(place, there)[:, tf.newaxis], more
    )
    return [
        tf.IndexedSlices(together, ids),
        tf.IndexedSlices(tf.boolean_mask(summed, ~there), tf.boolean_mask(rows, ~there)),
    ]


class AdamWeight(tf.Module):
    """A trained variable with its moments.

    Attributes:
      values: any shape, float32.
      slots: [2, …], m and v.
    """

    def __init__(self, values: tf.Tensor) -> None:
        super().__init__()
        self.values = tf.Variable(values)
        self.slots = tf.Variable(tf.zeros([2, *values.shape]), trainable=False)

    def update(self, gradient: tf.Tensor, rate: float, step: tf.Tensor) -> None:
        """Applies a gradient.

        Args:
          gradient: of the values' shape.
          rate: learning rate.
          step: scalar int32, steps taken before. A weight that joins late does without the
            correction by t: for some fifty steps it moves by .7 to 1.6 times as much.
        """
        t = tf.cast(step + 1, tf.float32)
        m = BETA_1 * self.slots[0] + (1 - BETA_1) * gradient
        v = BETA_2 * self.slots[1] + (1 - BETA_2) * tf.square(gradient)
        self.slots.assign(tf.stack([m, v]))
        self.values.assign_sub(
            rate * (m / (1 - BETA_1**t)) / (tf.sqrt(v / (1 - BETA_2**t)) + ADAM_EPSILON)
        )
