"""A mix that leans on a source: its share of the weights, by slice."""

import numpy as np

from twinspire_core.contracts.fusion_file import FittedOn
from twinspire_core.fusion.fuse import Fusion


def test_no_slice_leans_that_does_not_go_by_the_source():
    weights = np.array([[0.9, 0.0, 0.1], [0.0, 0.0, 0.0], [0.5, 0.3, 0.2]])
    mix = Fusion(sources=("a", "b", "c"), bounds=(1, 5), weights=weights, fitted=FittedOn())
    found = mix.leaning_on("b", 0.75).weights
    np.testing.assert_allclose(
        found, [[0.9, 0.0, 0.1], [0, 0, 0], [0.25 * 5 / 7, 0.75, 0.25 * 2 / 7]]
    )


def test_a_mix_that_goes_by_it_alone_stays_as_it_is():
    mix = Fusion(
        sources=("trending", "past"),
        bounds=(),
        weights=np.array([[2.0, 0.0]]),
        fitted=FittedOn(),
    )
    assert mix.leaning_on("trending", 0.8).weights.tolist() == [[1.0, 0.0]]


def test_a_slice_without_weights_may_lean_on_a_source_that_is_added():
    weights = np.array([[0.9, 0.0], [0.0, 0.0], [0.2, 0.8]])
    mix = Fusion(sources=("a", "b"), bounds=(1, 5), weights=weights, fitted=FittedOn())
    found = mix.leaning_on("c", 0.5, adding=True)
    assert found.sources == ("a", "b", "c")
    np.testing.assert_allclose(found.weights, [[0.5, 0, 0.5], [0, 0, 0], [0.1, 0.4, 0.5]])
    assert mix.leaning_on("b", 0.5, adding=True).weights[0].tolist() == [0.5, 0.5]
    assert mix.leaning_on("b", 0.5).weights[0].tolist() == [1, 0]
