"""The mean gradient over many batches against that of the exact softmax over a whole toy catalogue.

Items have Zipf's frequencies, and users of item y ask with query y. Both gradients are of the
same rows, so what chance leaves comes from the negatives alone: a few hundredths of the norm. A
wrong weight leaves several times as much.
"""

import numpy as np
import pytest
import tensorflow as tf

from model.losses import negatives
from model.losses.corrected_softmax import sampled_softmax_loss
from model.losses.negatives import Candidates
from twinspire_core.config.tables.training import NegativesConfig

ITEMS, TEMPERATURE, BATCHES = 300, 0.5, 50
RNG = np.random.default_rng(7)
Q = 1 / np.arange(1, ITEMS + 1)
Q /= Q.sum()
QUERY, ITEM = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in RNG.normal(size=(2, ITEMS, 6)))
LISTED = np.arange(ITEMS) % 5 > 0  # in the catalogue that uniform negatives come from


def softmax_of(query, temperature):
    p = np.exp(query @ ITEM.T / temperature)
    return p / p.sum(axis=1, keepdims=True)


def exact_gradient(weight):
    """To the item vectors, of weighted rows: sum_y w_y x_y (p(. | x_y) - 1_y) / temperature."""
    off = softmax_of(QUERY, TEMPERATURE) - np.eye(ITEMS)
    return (off * weight[:, None]).T @ QUERY / TEMPERATURE


def relative_error(correction, *, rows=256, uniform=0, forget="", **negatives):
    """Of the mean gradient over many batches; `forget`: a pool whose expected counts are left out."""
    rng, settings = np.random.default_rng(11), NegativesConfig(**negatives)
    options = {"temperature": TEMPERATURE, "correction": correction, "negatives": settings}
    chance = LISTED / LISTED.sum()
    batch = (forget != "batch") * (rows - 1) * Q
    added = (forget != "uniform") * uniform * chance
    total, weight, vectors = 0.0, np.zeros(ITEMS), tf.constant(ITEM, tf.float32)

    @tf.function(autograph=False)
    def gradient(query, drawn, batch, added, seed):
        with tf.GradientTape() as tape:
            tape.watch(vectors)
            columns = Candidates(tf.gather(vectors, drawn), drawn, batch, added)
            loss = sampled_softmax_loss(query, columns, tf.ones(rows), seed=seed, **options).total
        return tf.convert_to_tensor(tape.gradient(loss, vectors))

    for step in range(BATCHES):
        own = rng.choice(ITEMS, rows, p=Q)
        drawn = np.concatenate([own, rng.choice(ITEMS, uniform, p=chance)])
        np.add.at(weight, own, 1 / rows / BATCHES)
        given = (tf.constant(x, tf.float32) for x in (batch[drawn], (added + 0 * Q)[drawn]))
        query, seed = tf.constant(QUERY[own], tf.float32), tf.constant([1, step])
        total = total + gradient(query, tf.constant(drawn), *given, seed).numpy() / BATCHES
    exact = exact_gradient(weight)
    return float(np.linalg.norm(total - exact) / np.linalg.norm(exact))


@pytest.mark.parametrize("correction", ["batch", "expected_count"])
def test_a_corrected_batch_stands_for_the_whole_catalogue(correction):
    assert relative_error(correction) < 0.06


def test_a_plain_one_does_not():
    assert relative_error("none") > 0.2


def test_a_rare_positive_that_is_fitted_looks_solved_to_the_papers_form_only():
    """What the softmax gives to the positive: the gradient no longer asks for it."""
    rng, given = np.random.default_rng(12), {"batch": [], "expected_count": [], "exact": []}
    exact = np.diag(softmax_of(ITEM, 0.2))
    for _ in range(30):
        own = rng.choice(ITEMS, 128, p=Q)
        vectors, batch = (tf.constant(x[own], tf.float32) for x in (ITEM, 127 * Q))
        columns = Candidates(vectors, tf.constant(own), batch, tf.zeros(128))
        rare, rewards = own >= ITEMS // 2, tf.ones(128)
        for form in ("batch", "expected_count"):
            loss = sampled_softmax_loss(vectors, columns, rewards, temperature=0.2, correction=form)
            given[form] += np.exp(-loss.rows.numpy()[rare]).tolist()
        given["exact"] += exact[own[rare]].tolist()
    papers, counted, exact = (np.mean(given[name]) for name in given)
    assert papers > 2 * exact, (papers, exact)
    assert counted == pytest.approx(exact, rel=0.15)


CASES = {
    "random": ({"in_batch": "random", "k": 60}, ""),
    "uniform": ({"rows": 100, "uniform": 150}, "uniform"),
    "both ways": ({"rows": 100, "uniform": 160, "in_batch": "random", "k": 50}, "batch"),
    "band": ({"in_batch": "semi_hard", "k": 60}, ""),
}


@pytest.mark.parametrize("case", CASES)
def test_the_correction_is_that_of_the_mixture(case, monkeypatch):
    monkeypatch.setattr(negatives, "SEMI_HARD_RANKS", (0, 10_000))  # all of the batch
    settings, pool = CASES[case]
    total = relative_error("expected_count", **settings)
    assert total < 0.06, total
    if pool:
        forgotten = relative_error("expected_count", forget=pool, **settings)
        assert forgotten > 2 * total, (forgotten, total)


def test_hard_negatives_alone_miss_what_added_ones_put_in():
    settings = {"in_batch": "hard", "k": 40, "rows": 128}
    alone, helped = (relative_error("expected_count", uniform=n, **settings) for n in (0, 128))
    assert helped < 0.06 and alone > 2 * helped, (helped, alone)
