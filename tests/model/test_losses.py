"""Numbers by hand, by float64 NumPy, and from the exact softmax over a whole catalogue."""

import numpy as np
import pytest
import tensorflow as tf

from model.losses import in_batch_softmax_loss, weighted_mean

EYE = np.eye(3, dtype=np.float32)


def loss_of(query, candidate, items, q, temperature=1.0):
    args = (query, candidate, np.asarray(items, np.int64), np.log(np.asarray(q, np.float64)).astype(np.float32))
    return in_batch_softmax_loss(*map(tf.constant, args), temperature=temperature).numpy()


def test_the_temperature_divides_the_cosine_and_not_the_correction():
    # Row 0: logits 1/.5 + ln 2 and 0 + ln 4; the loss is ln(1 + 4/2 e^-2). A tau under both would give ln(1 + 4 e^-2).
    loss = loss_of(EYE[:2], EYE[:2], [7, 8], [0.5, 0.25], temperature=0.5)
    np.testing.assert_allclose(loss, [np.log(1 + 2 * np.exp(-2)), np.log(1 + 0.5 * np.exp(-2))], rtol=1e-6)


def test_rare_items_are_pushed_up_by_the_inverse_of_their_chance():
    q, no_preference = np.array([0.5, 0.25, 0.25]), np.zeros((3, 2), np.float32)
    np.testing.assert_allclose(loss_of(no_preference, no_preference, range(3), q), np.log(q * (1 / q).sum()), rtol=1e-6)


def test_all_candidates_of_the_batch_are_the_negatives_of_each_row():
    # A softmax over the three positive scores would give ln 3 here.
    np.testing.assert_allclose(loss_of(EYE, EYE, range(3), [1, 1, 1]), np.log(1 + 2 * np.exp(-1)), rtol=1e-6)


def test_a_second_copy_of_the_positive_is_not_a_negative():
    alone = loss_of(EYE, EYE, [7, 8, 9], [0.2, 0.3, 0.4])
    again = [0, 1, 2, 0]
    doubled = loss_of(EYE[again], EYE[again], [7, 8, 9, 7], [0.2, 0.3, 0.4, 0.2])
    np.testing.assert_allclose(doubled[[0, 3]], alone[[0, 0]], rtol=1e-6)
    assert (doubled[1:3] > alone[1:]).all()  # to other rows it is a second negative


def test_a_copy_gets_no_gradient_from_the_row_it_copies():
    query, candidate = tf.constant(EYE), tf.constant(EYE[[0, 1, 0]])
    with tf.GradientTape() as tape:
        tape.watch(candidate)
        first = in_batch_softmax_loss(query, candidate, tf.constant([7, 8, 7]), tf.zeros(3), temperature=0.1)[0]
    gradient = tape.gradient(first, candidate).numpy()
    assert (gradient[2] == 0).all()
    assert (gradient[1] != 0).any()


def test_string_ids_serve_as_well():
    items = tf.constant(["a", "b", "a"])
    loss = in_batch_softmax_loss(tf.constant(EYE), tf.constant(EYE), items, tf.zeros(3), temperature=1.0)
    np.testing.assert_allclose(loss[0], np.log(1 + np.exp(-1)), rtol=1e-6)


@pytest.mark.parametrize("q", [1e-9, 1e-3, 30.0], ids=["rare", "usual", "expected count above 1"])
def test_extremes_of_float32(q):
    rng = np.random.default_rng(5)
    query, candidate = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in rng.normal(size=(2, 64, 8)))
    query[0], candidate[1] = candidate[0], -query[1]  # logits from -100 to 100 before the correction
    frequency = np.where(np.arange(64) % 2, q, 0.01)
    logits = query.astype(np.float32).astype(float) @ candidate.astype(np.float32).T.astype(float) / 0.01
    logits -= np.log(frequency)
    top = logits.max(axis=1, keepdims=True)
    expected = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0] - np.diag(logits)
    loss = loss_of(query.astype(np.float32), candidate.astype(np.float32), range(64), frequency, temperature=0.01)
    np.testing.assert_allclose(loss, expected, rtol=2e-5, atol=2e-5)


def test_gradients_are_finite_at_the_extremes():
    query, candidate, log_q = tf.constant(EYE), tf.constant(-EYE), tf.math.log(tf.constant([1e-9, 1.0, 1e-9]))
    with tf.GradientTape() as tape:
        tape.watch([query, candidate, log_q])
        loss = in_batch_softmax_loss(query, candidate, tf.constant([1, 1, 1]), log_q, temperature=0.01)
    to_query, to_candidate, to_log_q = tape.gradient(loss, [query, candidate, log_q])
    assert np.isfinite(to_query).all() and np.isfinite(to_candidate).all()
    assert to_log_q is None  # an estimate, not a parameter


def test_a_constant_in_log_q_changes_nothing():
    rng = np.random.default_rng(6)
    query, candidate = rng.normal(size=(2, 16, 4)).astype(np.float32)
    q = rng.random(16)
    share, count = (loss_of(query, candidate, range(16), x) for x in (q, 1024 * q))
    np.testing.assert_allclose(share, count, rtol=1e-5, atol=1e-5)


def test_the_gradient_is_that_of_the_softmax_over_the_whole_catalogue():
    catalogue = _Catalogue(items=300, dimension=6)
    exact = catalogue.exact_gradient()
    corrected = _relative_error(catalogue.batch_gradient(correct=True), exact)
    plain = _relative_error(catalogue.batch_gradient(correct=False), exact)
    assert corrected < 0.06, corrected  # what 300 batches of 256 leave of chance; measured .033
    assert plain > 0.2, plain  # measured .26


class _Catalogue:
    """Items of Zipf's frequencies; whoever takes item y asks with query y. Unit vectors, temperature 0.5."""

    def __init__(self, items: int, dimension: int) -> None:
        self.rng = np.random.default_rng(7)
        self.q = 1 / np.arange(1, items + 1)
        self.q /= self.q.sum()
        self.query, self.item = (
            x / np.linalg.norm(x, axis=1, keepdims=True) for x in self.rng.normal(size=(2, items, dimension))
        )

    def exact_gradient(self) -> np.ndarray:
        """Of the expected full-softmax loss to the item vectors, by hand: sum_y q_y x_y (p(. | x_y) - 1_y) / tau."""
        p = np.exp(self.query @ self.item.T / 0.5)
        p /= p.sum(axis=1, keepdims=True)
        return ((p - np.eye(len(p))) * self.q[:, None]).T @ self.query / 0.5

    def batch_gradient(self, *, correct: bool, size: int = 256, batches: int = 300) -> np.ndarray:
        """The loss's mean gradient over many batches."""
        item, total = tf.constant(self.item, tf.float32), 0.0
        for _ in range(batches):
            drawn = tf.constant(self.rng.choice(len(self.q), size, p=self.q))
            log_q = tf.constant(np.log(self.q), tf.float32) if correct else tf.zeros(len(self.q))
            with tf.GradientTape() as tape:
                tape.watch(item)
                vectors = tf.gather(item, drawn)
                queries = tf.gather(tf.constant(self.query, tf.float32), drawn)
                loss = in_batch_softmax_loss(queries, vectors, drawn, tf.gather(log_q, drawn), temperature=0.5)
                mean = weighted_mean(loss, tf.ones(size))
            total += tf.convert_to_tensor(tape.gradient(mean, item)).numpy()
        return total / batches


def _relative_error(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def test_rewards_weigh_and_the_mean_does_not_depend_on_the_batch_size():
    loss, reward = tf.constant([1.0, 2.0, 4.0]), tf.constant([1.0, 0.0, 3.0])
    assert weighted_mean(loss, reward) == (1 * 1 + 3 * 4) / 4
    assert weighted_mean(tf.tile(loss, [5]), tf.tile(reward, [5])) == 3.25
    assert weighted_mean(loss, 10 * reward) == 3.25
    assert weighted_mean(loss, tf.zeros(3)) == 0
