"""Numbers by hand, and a slow loss in float64 that goes row by row. test_corpus_softmax.py has
the exact softmax.
"""

import numpy as np
import pytest
import tensorflow as tf

from model.losses import corrected_softmax, negatives
from model.losses.corrected_softmax import sampled_softmax_loss
from model.losses.negatives import Candidates
from twinspire_core.config.tables.training import NegativesConfig

EYE = np.eye(3, dtype=np.float32)
CORRECTIONS = ("none", "batch", "expected_count")


def loss_of(query, vectors, items, q, temperature=1.0, correction="batch", reward=None, **options):
    """Losses of the rows; q is each column's share of the rows."""
    rows = len(query)
    columns = Candidates(
        tf.constant(vectors, tf.float32),
        tf.constant(np.asarray(items)),
        tf.constant((rows - 1) * np.asarray(q), tf.float32),
        tf.zeros(len(items)),
    )
    reward = tf.ones(rows) if reward is None else tf.constant(reward, tf.float32)
    query = tf.constant(query, tf.float32)
    return sampled_softmax_loss(
        query, columns, reward, temperature=temperature, correction=correction, **options
    )


def rows_of(*args, **options):
    return loss_of(*args, **options).rows.numpy()


def test_the_temperature_divides_the_cosine_and_not_the_correction():
    # Row 0: logits 1/.5 + ln 2 and 0 + ln 4; the loss is ln(1 + 4/2 e^-2). A tau under both would
    # give ln(1 + 4 e^-2).
    loss = rows_of(EYE[:2], EYE[:2], [7, 8], [0.5, 0.25], temperature=0.5)
    np.testing.assert_allclose(loss, np.log(1 + np.array([2, 0.5]) * np.exp(-2)), rtol=3e-6)


def test_an_expected_count_weighs_negatives_and_leaves_the_positive_alone():
    # Row 0 keeps two negatives of shares .3 and .2, each 1 / (1 - .5) as likely among them: counts
    # 1.2 and .8.
    q, no_preference = np.array([0.5, 0.3, 0.2]), np.zeros((3, 2), np.float32)
    loss = rows_of(no_preference, no_preference, range(3), q, correction="expected_count")
    np.testing.assert_allclose(loss[0], np.log(1 + 1 / 1.2 + 1 / 0.8), rtol=3e-6)
    expected = np.log(1 + 1 / (2 * 0.5 / 0.8) + 1 / (2 * 0.3 / 0.8))
    np.testing.assert_allclose(loss[2], expected, rtol=3e-6)


def test_string_ids_serve_as_well():
    loss = rows_of(EYE, EYE, ["a", "b", "a"], [1, 1, 1])
    np.testing.assert_allclose(loss[0], np.log(1 + np.exp(-1)), rtol=3e-6)
    masked, user = NegativesConfig(mask_positives=True), tf.constant(["u", "u", "v"])
    loss = rows_of(EYE, EYE, ["a", "b", "c"], [1, 1, 1], negatives=masked, user=user)
    np.testing.assert_allclose(np.exp(loss) - 1, np.exp(-1) * np.array([1, 1, 2]), rtol=3e-6)


@pytest.mark.parametrize("added", [[], [1, 2]], ids=["batch", "batch and uniform"])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_some_negatives_stand_for_all_four_items(k, added):
    """All four are equally likely, in the batch and among those added, and all cosines 0: ln 4."""
    items = np.array([0, 1, 2, 3, *added])
    vectors = tf.zeros([len(items), 2])
    expected = (tf.fill([len(items)], share / 4) for share in (3, len(added)))
    columns = Candidates(vectors, tf.constant(items), *expected)
    options = {"negatives": NegativesConfig(in_batch="random", k=k), "seed": tf.constant([1, 2])}
    loss = sampled_softmax_loss(
        vectors[:4], columns, tf.ones(4), temperature=1.0, correction="expected_count", **options
    )
    np.testing.assert_allclose(loss.rows, [np.log(4)] * 4, rtol=3e-6)


def test_an_item_inside_the_band_may_have_come_either_way_and_one_outside_only_by_being_added(
    monkeypatch,
):
    """Row 0 draws one of three columns of cosine .5 in the band; items 4 (-.9) and 1 were added."""
    monkeypatch.setattr(negatives, "SEMI_HARD_RANKS", (0, 3))
    cosine = np.array([1, 0.5, 0.5, 0.5, -0.9, -0.9, 0.5])
    vectors = tf.constant(np.stack([cosine, np.sqrt(1 - cosine**2)], 1), tf.float32)
    columns = Candidates(
        vectors, tf.constant([0, 1, 2, 3, 4, 4, 1]), tf.fill([7], 0.8), tf.fill([7], 0.4)
    )
    options = {"negatives": NegativesConfig(in_batch="semi_hard", k=1), "seed": tf.constant([1, 2])}
    loss = sampled_softmax_loss(
        vectors[:5], columns, tf.ones(5), temperature=1.0, correction="batch", **options
    )
    inside, outside = 0.8 / 3 + 0.4, 0.4
    parts = [np.exp(1) / inside, np.exp(0.5) / inside, np.exp(0.5) / inside, np.exp(-0.9) / outside]
    np.testing.assert_allclose(loss.rows[0], np.log(sum(parts) / parts[0]), rtol=3e-6)


def slow(query, vectors, items, batch, added, weight, temperature, correction, user=None):
    """Losses, and gradients of their weighted sum, in float64, one pair at a time."""
    losses, to_query, to_vectors = [], np.zeros_like(query), np.zeros_like(vectors)
    expected = batch + added
    for i in range(len(query)):
        mine = range(len(query)) if user is not None else [i]
        own = {items[k] for k in mine if user is None or user[k] == user[i]}
        kept = [j for j in range(len(vectors)) if items[j] not in own]
        scores = {j: query[i] @ vectors[j] / temperature for j in [i, *kept]}
        if correction == "batch":
            scores = {j: score - np.log(expected[j]) for j, score in scores.items()}
        if correction == "expected_count":
            left = len(vectors) - 1 - sum(expected[items.tolist().index(item)] for item in own)
            scores |= {j: scores[j] - np.log(len(kept) * expected[j] / left) for j in kept}
        top = max(scores.values())
        whole = sum(np.exp(score - top) for score in scores.values())
        losses.append(np.log(whole) + top - scores[i])
        for j, score in scores.items():
            pull = weight[i] * (np.exp(score - top) / whole - (j == i)) / temperature
            to_query[i] += pull * vectors[j]
            to_vectors[j] += pull * query[i]
    return np.array(losses), to_query, to_vectors


def batch_of(rows, columns, seed=3):
    rng = np.random.default_rng(seed)
    items = rng.integers(0, 40, columns)
    q = rng.dirichlet(np.ones(40))[items]
    query, vectors = (unit(rng.normal(size=(n, 6))) for n in (rows, columns))
    added = 0.7 * (columns - rows) * rng.dirichlet(np.ones(40))[items]
    batch = np.maximum(0.7 * (rows - 1) * q, 1e-3)
    return query, vectors, items, batch, added, rng.integers(0, 12, rows), rng.random(rows)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("by_user", [False, True], ids=["own item", "items of user"])
@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize(("rows", "columns"), [(53, 53), (37, 80), (1, 1), (1, 9)])
def test_blocks_give_what_a_slow_loss_gives(monkeypatch, rows, columns, correction, by_user):
    # Blocks of 8 rows, and a last one of fewer
    monkeypatch.setattr(corrected_softmax, "BLOCK_PAIRS", 8 * columns)
    query, vectors, items, batch, added, user, reward = batch_of(rows, columns)
    weight, of_user = reward / reward.sum(), user if by_user else None
    expected = slow(query, vectors, items, batch, added, weight, 0.2, correction, of_user)
    options = {"negatives": NegativesConfig(mask_positives=by_user), "user": tf.constant(user)}
    rewards = tf.constant(reward, tf.float32)
    q, v = tf.constant(query, tf.float32), tf.constant(vectors, tf.float32)

    @tf.function
    def step(q, v):
        with tf.GradientTape() as tape:
            tape.watch([q, v])
            counts = (tf.constant(x, tf.float32) for x in (batch, added))
            held = Candidates(v, tf.constant(items), *counts)
            loss = sampled_softmax_loss(
                q, held, rewards, temperature=0.2, correction=correction, **options
            )
        return loss, tape.gradient(loss.total, [q, v])

    loss, gradients = step(q, v)
    np.testing.assert_allclose(loss.rows, expected[0], rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(loss.total, weight @ expected[0], rtol=1e-5, atol=2e-6)
    for value, exact in zip(gradients, expected[1:], strict=True):
        np.testing.assert_allclose(value, exact, rtol=1e-5, atol=1e-5 * np.abs(exact).max() + 1e-9)


@pytest.mark.parametrize("q", [1e-9, 1e-3, 30.0], ids=["rare", "usual", "expected count above 1"])
@pytest.mark.parametrize("correction", CORRECTIONS)
def test_extremes_of_float32(q, correction):
    rng = np.random.default_rng(5)
    query, vectors = (unit(x).astype(np.float32) for x in rng.normal(size=(2, 64, 8)))
    # Cosines of 1 and -1: logits of 100 and -100
    query[0], vectors[1], query[2] = vectors[0], -query[1], vectors[3]
    vectors[10:20] = vectors[10]
    batch, nothing = np.where(np.arange(64) % 2, q, 0.01), np.zeros(64)
    exact = query.astype(float), vectors.astype(float), np.arange(64), batch, nothing
    expected = slow(*exact, np.full(64, 1 / 64), 0.01, correction)
    query, vectors = tf.constant(query), tf.constant(vectors)
    with tf.GradientTape() as tape:
        tape.watch([query, vectors])
        held = Candidates(vectors, tf.range(64), tf.constant(batch, tf.float32), tf.zeros(64))
        loss = sampled_softmax_loss(
            query, held, tf.ones(64), temperature=0.01, correction=correction
        )
    np.testing.assert_allclose(loss.rows, expected[0], rtol=3e-5, atol=3e-5)
    for value, exact in zip(tape.gradient(loss.total, [query, vectors]), expected[1:], strict=True):
        np.testing.assert_allclose(value, exact, rtol=1e-3, atol=1e-4 * np.abs(exact).max())


@pytest.mark.parametrize("correction", CORRECTIONS)
@pytest.mark.parametrize(
    "items", [[1, 1, 1], [1, 2, 3]], ids=["no negative is left", "all vectors are one"]
)
def test_gradients_are_finite_where_there_is_nothing_to_tell_apart(items, correction):
    query, vectors = tf.constant(EYE), tf.constant(EYE[[0, 0, 0]])
    with tf.GradientTape() as tape:
        tape.watch([query, vectors])
        held = Candidates(vectors, tf.constant(items), tf.constant([1e-9, 1.0, 5.0]), tf.zeros(3))
        loss = sampled_softmax_loss(
            query, held, tf.ones(3), temperature=0.01, correction=correction
        )
    assert all(
        np.isfinite(x).all() for x in (*tape.gradient(loss.total, [query, vectors]), loss.rows)
    )
    assert len(set(items)) > 1 or (loss.rows.numpy() == 0).all()


def test_estimates_are_no_parameters():
    batch = tf.constant([0.1, 0.2, 0.3])
    with tf.GradientTape() as tape:
        tape.watch(batch)
        held = Candidates(tf.constant(EYE), tf.constant([1, 2, 3]), batch, tf.zeros(3))
        loss = sampled_softmax_loss(
            tf.constant(EYE), held, tf.ones(3), temperature=1.0, correction="expected_count"
        )
    assert tape.gradient(loss.total, batch) is None


def test_rewards_weigh_and_the_mean_does_not_depend_on_the_batch_size():
    rows = rows_of(EYE, EYE, [1, 2, 3], [0.1, 0.2, 0.3])
    weighed = loss_of(EYE, EYE, [1, 2, 3], [0.1, 0.2, 0.3], reward=[1, 0, 3])
    np.testing.assert_allclose(weighed.total, (rows[0] + 3 * rows[2]) / 4, rtol=3e-6)
    np.testing.assert_allclose(weighed.rows, rows, rtol=3e-6)
    unit_changed = loss_of(EYE, EYE, [1, 2, 3], [0.1, 0.2, 0.3], reward=[10, 0, 30])
    np.testing.assert_allclose(unit_changed.total, weighed.total, rtol=3e-6)
    assert loss_of(EYE, EYE, [1, 2, 3], [0.1, 0.2, 0.3], reward=[0, 0, 0]).total == 0
