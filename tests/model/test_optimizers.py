import keras
import numpy as np
import pytest
import tensorflow as tf

from model import optimizers
from model.optimizers import AdagradWeight, AdamWeight


def test_occurrences_of_a_row_are_added_before_they_are_squared():
    """By hand: g = 1 + 2 = 3, slot = s + 9, step = rate * 3 / sqrt(s + 9)."""
    weight = AdagradWeight(tf.zeros([2, 1]))
    weight.slots.assign(tf.fill([2, 1], 7.0))
    weight.update(tf.IndexedSlices(tf.constant([[1.0], [2.0]]), tf.constant([1, 1])), 0.5)
    np.testing.assert_allclose(weight.slots, [[7.0], [16.0]])
    np.testing.assert_allclose(weight.values, [[0.0], [-0.375]], rtol=1e-5)


@pytest.mark.parametrize(
    "lists", [[], [[]], [[0, 2, 5]], [[7]], [[1, 2, 5], [0, 1, 2, 6]], [[], [3]]]
)
@pytest.mark.parametrize("looked_up", [None, [], [5, 2, 5], [0, 4, 4, 7]])
def test_rows_of_lists_and_rows_looked_up_are_one_gradient(lists, looked_up):
    rng = np.random.default_rng(1)
    used = [*lists, looked_up or []]
    parts = [(rows, rng.normal(size=(len(rows), 3)).astype(np.float32)) for rows in used]
    whole = np.zeros((8, 3), np.float32)
    for rows, values in parts:
        np.add.at(whole, rows, values)
    dense, sparse = (AdagradWeight(tf.ones([8, 3])) for _ in range(2))
    dense.update(tf.constant(whole), 0.1)

    part = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, 3])

    @tf.function(input_signature=[[part] * len(parts)])
    def update(parts):
        *of_lists, looked = (tf.IndexedSlices(values, rows) for rows, values in parts)
        sparse.update(None if looked_up is None else looked, 0.1, of_lists)

    update([(np.array(rows, np.int32), values) for rows, values in parts])
    np.testing.assert_allclose(sparse.slots, dense.slots, rtol=1e-5)
    np.testing.assert_allclose(sparse.values, dense.values, rtol=1e-5)
    untouched = np.setdiff1d(np.arange(8), [row for rows, _ in parts for row in rows])
    assert (sparse.values.numpy()[untouched] == 1).all()


def test_steps_are_those_of_keras():
    """Keras's Adam, with the same constants, is the independent answer."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=(4, 3)).astype("float32")
    ours, theirs = AdamWeight(tf.constant(start)), keras.Variable(start)
    optimiser = keras.optimizers.Adam(
        0.01, beta_1=optimizers.BETA_1, beta_2=optimizers.BETA_2, epsilon=optimizers.ADAM_EPSILON
    )
    for step in range(20):
        gradient = tf.constant(rng.normal(size=(4, 3)) * 10.0 ** rng.integers(-3, 3), tf.float32)
        ours.update(gradient, 0.01, tf.constant(step))
        optimiser.apply([gradient], [theirs])
    np.testing.assert_allclose(ours.values, theirs.value, rtol=1e-4, atol=1e-5)
    assert np.abs(ours.values - start).max() > 0.05
