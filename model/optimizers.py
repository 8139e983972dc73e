"""Adagrad, on variables and on single rows of embedding tables; and Adam, for weights that every
row of a batch uses.

Adagrad (Duchi, Hazan and Singer, JMLR 2011):

    slot <- slot + g * g;   x <- x - rate * g / (sqrt(slot) + EPSILON)

Slots are variables of this project, stored by name, so that the next day's training can continue from them.
Slots only grow during a day's training, and larger slots make smaller steps. Over months, training would stop
learning. So the slots are multiplied by `train.slot_decay` before the next day uses them (`decay_slots`). An
update changes only the rows of a table that the batch used, so its time does not grow with the vocabulary.
(Keras 3's Adagrad reads and divides the whole slot array.)

Adam (Kingma and Ba, ICLR 2015), for the weights of attention:

    m <- BETA_1 m + (1 - BETA_1) g;   v <- BETA_2 v + (1 - BETA_2) g * g
    x <- x - rate * (m / (1 - BETA_1^t)) / (sqrt(v / (1 - BETA_2^t)) + ADAM_EPSILON)

Tables use Adagrad. With Adam, the moments of a row that is looked up once a day would decay between lookups.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

EPSILON = 1e-7
# Losses are means over the batch, so the gradient of a table's row is of the order of 1e-4, and
# START is its square. With a much larger start, new ids would learn slowly for days. With zero, their first
# step would have the full rate.
START = 1e-8
"""Initial value of Adagrad's slots."""


def decay_slots(slots: np.ndarray, decay: float) -> np.ndarray:
    """Adagrad's slots for the start of the next training: decayed, but not below `START`.

    A slot is the sum of all squared gradients. With decay and n steps per training, it converges to the
    squares of n / (1 - decay) steps instead of growing forever.

    `decay` is above 0 and at most 1; 1 does not change the slots.
    """
    if decay == 1:
        return slots
    return np.maximum(slots * np.float32(decay), np.float32(START))


BETA_1 = 0.9
BETA_2 = 0.98
ADAM_EPSILON = 1e-8


class AdagradWeight(tf.Module):
    """A trained variable with its Adagrad slots.

    Attributes:
      values: any shape, float32; of an embedding table [rows, width].
      slots: the same shape, float32.
    """

    def __init__(self, values: tf.Tensor) -> None:
        super().__init__()
        self.values = tf.Variable(values)
        self.slots = tf.Variable(tf.fill(tf.shape(values), START), trainable=False)
        self._copies: list[tf.Variable] = []

    def make_copies(self) -> None:
        """Creates the variables that `update` needs for `lists`, unless they exist.

        It is called before a step is traced, because TensorFlow traces a function twice if it creates
          variables.
        """
        if self._copies:
            return
        with tf.init_scope():
            shape = [None, *self.values.shape[1:]]
            both = (self.values, self.slots)
            self._copies = [tf.Variable(weight[:0], shape=shape) for weight in both]

    def update(
        self,
        gradient: tf.Tensor | tf.IndexedSlices | None,
        rate: float,
        lists: Sequence[tf.IndexedSlices] = (),
    ) -> None:
        """Applies a gradient. The gradient of a lookup changes only the rows that were looked up.

        Args:
          gradient: in the shape of the values, or of single rows, which may be repeated; None for no
            gradient.
          rate: the learning rate of Adagrad.
          lists: further gradients of rows; in each of them the rows are distinct and ascending.
        """
        settings = {"lr": rate, "epsilon": EPSILON}
        variables = {"var": self.values.handle, "accum": self.slots.handle, **settings}
        if isinstance(gradient, tf.Tensor):
            tf.raw_ops.ResourceApplyAdagradV2(**variables, grad=gradient)
            return
        parts = _without_repeats([*lists], [] if gradient is None else [gradient])
        if lists:
            self._update_copies(parts.pop(0), settings)
        for part in parts:
            tf.raw_ops.ResourceSparseApplyAdagradV2(
                **variables, grad=part.values, indices=part.indices
            )

    def _update_copies(self, gradient: tf.IndexedSlices, settings: Mapping[str, float]) -> None:
        """Updates many rows: copies them into a contiguous variable, updates it, and writes them back. The
        result equals that of TensorFlow's operation for single rows, in two thirds of the time.
        """
        self.make_copies()
        both = (self.values, self.slots)
        # Rows [3, 7] of the table become rows [0, 1] of the copy, are updated as a dense variable, and
        # go back to [3, 7].
        for weight, copy in zip(both, self._copies, strict=True):
            copy.assign(tf.gather(weight, gradient.indices))
        values, slots = (copy.handle for copy in self._copies)
        tf.raw_ops.ResourceApplyAdagradV2(var=values, accum=slots, grad=gradient.values, **settings)
        for weight, copy in zip(both, self._copies, strict=True):
            weight.scatter_update(tf.IndexedSlices(copy.read_value(), gradient.indices))


def _without_repeats(
    lists: list[tf.IndexedSlices], others: list[tf.IndexedSlices]
) -> list[tf.IndexedSlices]:
    """Gradients of rows, summed so that no row is repeated.

    The gradients of a row must be summed before they are squared, because the slot adds the square of the
    batch's gradient, not the squares of its parts.

    The first list is by far the largest part of a batch. Rows of the other lists that it contains are added
    to it. Summing all lists would copy the large one twice.
    """
    first = lists[:1]
    rest = [*lists[1:], *others]
    if not rest:
        return first
    rows, position = tf.unique(tf.concat([part.indices for part in rest], 0))
    values = tf.concat([part.values for part in rest], 0)
    summed = tf.math.unsorted_segment_sum(values, position, tf.size(rows))
    if not first:
        return [tf.IndexedSlices(summed, rows)]
    ids = first[0].indices
    position = tf.searchsorted(ids, rows)
    # An extra id that no row has, for rows after the last id.
    is_shared = tf.gather(tf.concat([ids, [-1]], 0), position) == rows
    together = tf.tensor_scatter_nd_add(
        first[0].values,
        tf.boolean_mask(position, is_shared)[:, tf.newaxis],
        tf.boolean_mask(summed, is_shared),
    )
    return [
        tf.IndexedSlices(together, ids),
        tf.IndexedSlices(tf.boolean_mask(summed, ~is_shared), tf.boolean_mask(rows, ~is_shared)),
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
          rate: the learning rate of Adam.
          step: scalar int32, number of earlier steps, including those of all ancestors. So a weight that is
            added later has no correction by t: for about fifty steps it moves 0.7 to 1.6 times as far.
        """
        t = tf.cast(step + 1, tf.float32)
        m = BETA_1 * self.slots[0] + (1 - BETA_1) * gradient
        v = BETA_2 * self.slots[1] + (1 - BETA_2) * tf.square(gradient)
        self.slots.assign(tf.stack([m, v]))
        unbiased_m = m / (1 - BETA_1**t)
        unbiased_v = v / (1 - BETA_2**t)
        self.values.assign_sub(rate * unbiased_m / (tf.sqrt(unbiased_v) + ADAM_EPSILON))
