"""Weights for sources that were not all measured."""

import numpy as np
import pytest

from model.fusion_fitting.prior_weights import NO_REPEATS, REPEATS, prior_weights


def test_weights_by_hand():
    """Of repeats: .3 for the two-tower, 1 for the past, .5 for what is popular lately."""
    weights = prior_weights(("two_tower", "past", "popular_lately"), REPEATS)
    np.testing.assert_allclose(weights, np.array([0.3, 1, 0.5]) / 1.8)


def test_sources_that_know_the_same_share_a_weight():
    weights = prior_weights(("past", "personal", "trending", "two_tower"), REPEATS)
    np.testing.assert_allclose(weights, np.array([0.5, 0.5, 0.5, 0.3]) / 1.8)


@pytest.mark.parametrize("kind", [REPEATS, NO_REPEATS])
def test_a_source_that_was_not_measured_only_fills_up(kind):
    weights = prior_weights(("two_tower", "popular_lately", "made_up"), kind)
    assert 0 < weights[2] < 1e-4 and weights.sum() == pytest.approx(1)
