"""Adam, for weights that all rows use: those of attention.

    m <- B1 m + (1 - B1) g;   v <- B2 v + (1 - B2) g * g
    x <- x - rate * (m / (1 - B1^t)) / (sqrt(v / (1 - B2^t)) + EPSILON)

Kingma and Ba, ICLR 2015. Tables keep to Adagrad: a row that is looked up once a day would lose its
moments in between.
"""

import tensorflow as tf

B1, B2, EPSILON = 0.9, 0.98, 1e-8


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
        m = B1 * self.slots[0] + (1 - B1) * gradient
        v = B2 * self.slots[1] + (1 - B2) * tf.square(gradient)
        self.slots.assign(tf.stack([m, v]))
        self.values.assign_sub(rate * (m / (1 - B1**t)) / (tf.sqrt(v / (1 - B2**t)) + EPSILON))
