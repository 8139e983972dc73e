import numpy as np
import pytest
import tensorflow as tf

from model.losses import negative_masks
from model.losses.negative_masks import choose
from twinspire_core.config.tables.training import NegativesConfig

RNG = np.random.default_rng(4)
# Rounded, so that there are ties
COSINE = np.round(RNG.uniform(-1, 1, (40, 25)), 2).astype(np.float32)
COSINE[:, 10] = COSINE[:, 9]
ALLOWED = RNG.random((40, 25)) < 0.8
ALLOWED[3], ALLOWED[4, :22] = False, False


def chosen(seed=1, **settings):
    found = choose(
        tf.constant(COSINE),
        tf.constant(ALLOWED),
        NegativesConfig(**settings),
        tf.constant([7, seed]),
    )
    return [x.numpy() for x in found]


def slow_band(row, ranks):
    """Columns of the band, best first; of equal ones the first is the better."""
    order = sorted(np.flatnonzero(ALLOWED[row]), key=lambda j: (-COSINE[row, j], j))
    return order[ranks[0] : ranks[1]]


@pytest.mark.parametrize("k", [1, 6, 25, 100])
def test_hard_ones_are_those_of_the_highest_cosine(k):
    columns, share, low, high = chosen(in_batch="hard", k=k)
    for row in range(40):
        band = slow_band(row, (0, k))
        assert np.flatnonzero(columns[row]).tolist() == sorted(band)
        assert share[row] == (1 if band else 0)
        if band:
            assert (low[row], high[row]) == (COSINE[row, band[-1]], COSINE[row, band[0]])


@pytest.fixture(params=[(2, 9), (20, 500)], ids=["inside the batch", "beyond it"])
def band(request, monkeypatch):
    monkeypatch.setattr(negative_masks, "SEMI_HARD_RANKS", request.param)
    return request.param


@pytest.mark.parametrize("k", [3, 30])
def test_semi_hard_ones_are_k_of_a_band(band, k):
    columns, share, _, _ = chosen(in_batch="semi_hard", k=k)
    for row in range(40):
        there = set(slow_band(row, band))
        found = set(np.flatnonzero(columns[row]).tolist())
        assert found <= there and len(found) == min(k, len(there))
        assert share[row] == pytest.approx(len(found) / len(there) if there else 0)


def test_all_of_a_band_are_equally_likely(band):
    counts = sum(chosen(seed, in_batch="semi_hard", k=2)[0].astype(int) for seed in range(60))
    for row in range(40):
        there = slow_band(row, band)
        if len(there) > 2:
            expected = 60 * 2 / len(there)
            assert np.abs(counts[row, there] - expected).max() < 5 * np.sqrt(expected), row


def test_what_is_drawn_follows_from_the_seed(monkeypatch):
    monkeypatch.setattr(negative_masks, "SEMI_HARD_RANKS", (0, 9))
    again, other = (
        [chosen(seed, in_batch="semi_hard", k=2)[0] for seed in seeds] for seeds in ((1, 1), (1, 2))
    )
    assert (again[0] == again[1]).all() and (other[0] != other[1]).any()
