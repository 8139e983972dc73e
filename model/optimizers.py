"""Adagrad, on variables and on single rows of embedding tables; and Adam, for weights that every
row of a batch uses.

Adagrad (Duchi, Hazan and Singer, JMLR 2011):

    slot <- slot + g * g;   x <- x - rate * g / (sqrt(slot) + EPSILON)

Slots are our own variables, stored by name, so that the training of the next day can continue from
them. Slots only grow while a day is trained, and larger slots make smaller steps: over months,
training would stop learning. So the slots of a day are multiplied by `train.slot_decay` before the
next day uses them (`decay_slots`). The update of a table touches the rows that the batch used and
no others: its time does not grow with the vocabulary. (Keras 3's Adagrad reads and divides the
whole slot array.)

Adam (Kingma and Ba, ICLR 2015), for the weights of attention:

    m <- BETA_1 m + (1 - BETA_1) g;   v <- BETA_2 v + (1 - BETA_2) g * g
    x <- x - rate * (m / (1 - BETA_1^t)) / (sqrt(v / (1 - BETA_2^t)) + ADAM_EPSILON)

Tables use Adagrad: with Adam, the moments of a row that is looked up once a day would decay in
between.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

EPSILON = 1e-7
# Losses are means over the batch, so the gradient of a table's row is of the order of 1e-4, and
# START is its square. A start far above would hold new ids back for days; from zero, their first
# step would jump by the full rate.
START = 1e-8
"""What Adagrad's slots start from."""


def decay_slots(slots: np.ndarray, decay: float) -> np.ndarray:
    """Adagrad's slots as the next training starts from them: multiplied, but not below `START`.

    A slot is the sum of all squared gradients. With n steps a training, it settles at the squares
    of n / (1 - decay) steps instead of growing for ever.

    `decay` is above 0 and at most 1; 1 leaves them as they are.
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
        """Creates what `update` needs for `lists`, unless it is there.

        Called before a step is traced: TensorFlow traces a function that creates variables twice.
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
          gradient: of the values' shape, or of rows of it, which may be named several times; None
            for none.
          rate: the learning rate of Adagrad.
          lists: further gradients of rows; each names its rows once and in ascending order.
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
        """Updates many rows: copies of them that lie together, which are written back. The same
        numbers as by TensorFlow's operation for single rows, in two thirds of its time.
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
    """Gradients of rows, added up so that no row is named twice.

    A row's gradients must be added up before they are squared: the slot adds the square of the
    batch's gradient, not the squares of its parts.

    The first of the lists is by far the largest part of a batch. The others are added to it where
    they share its rows, since summing all of them again would copy the large one twice.
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
    # One id more, which no row has, for rows behind the last id.
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
          step: scalar int32, steps taken before, of the whole line of versions. A weight that joins
            late therefore has no correction by t: for some fifty steps it moves by 0.7 to 1.6 times
            as much.
        """
        t = tf.cast(step + 1, tf.float32)
        m = BETA_1 * self.slots[0] + (1 - BETA_1) * gradient
        v = BETA_2 * self.slots[1] + (1 - BETA_2) * tf.square(gradient)
        self.slots.assign(tf.stack([m, v]))
        unbiased_m = m / (1 - BETA_1**t)
        unbiased_v = v / (1 - BETA_2**t)
        self.values.assign_sub(rate * unbiased_m / (tf.sqrt(unbiased_v) + ADAM_EPSILON))
