import keras
import numpy as np
import tensorflow as tf

from model.optimizers import adam
from model.optimizers.adam import AdamWeight


def test_steps_are_those_of_keras():
    """Keras's Adam, with the same constants, is the independent answer."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=(4, 3)).astype("float32")
    ours, theirs = AdamWeight(tf.constant(start)), keras.Variable(start)
    optimiser = keras.optimizers.Adam(0.01, beta_1=adam.B1, beta_2=adam.B2, epsilon=adam.EPSILON)
    for step in range(20):
        gradient = tf.constant(rng.normal(size=(4, 3)) * 10.0 ** rng.integers(-3, 3), tf.float32)
        ours.update(gradient, 0.01, tf.constant(step))
        optimiser.apply([gradient], [theirs])
    np.testing.assert_allclose(ours.values, theirs.value, rtol=1e-4, atol=1e-5)
    assert np.abs(ours.values - start).max() > 0.05
