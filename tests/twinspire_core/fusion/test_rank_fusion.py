import numpy as np
import pytest

from twinspire_core.config.source_registry import SOURCE_NAMES
from twinspire_core.fusion.rank_fusion import (
    CONSTANT,
    NEITHER,
    REPEATS,
    STEADY,
    WEIGHTS,
    FixedOrder,
    OrderedLists,
)
from twinspire_core.sources.source import ScoredLists

A, B = np.array([[7, 3, 9]]), np.array([[3, 5, -1]])


def gain(place: int) -> float:
    return 60 / (60 + place)


def test_ordered_by_hand():
    order = FixedOrder(weights={"history": 0.75, "two_tower": 0.25})
    lists = {"two_tower": ScoredLists.by_place(B), "history": ScoredLists.by_place(A)}
    ordered = order.rank(lists, 4)
    scores = [0.75 * gain(1) + 0.25 * gain(0), 0.75 * gain(0), 0.75 * gain(2), 0.25 * gain(1)]
    assert ordered.items.tolist() == [[3, 7, 9, 5]]
    np.testing.assert_allclose(ordered.scores[0], scores, rtol=1e-6)
    np.testing.assert_allclose(ordered.shares[0, 0], [0.75 * gain(1), 0.25 * gain(0)], rtol=1e-6)
    assert ordered.shares[0, 3].tolist() == [0, pytest.approx(0.25 * gain(1))]


@pytest.mark.parametrize(("seed", "apart"), [(0, 1), (1, 1), (2, 1 << 10)])
def test_ordered_as_a_slow_sum(seed, apart):
    rng = np.random.default_rng(seed)
    lists = [np.stack([rng.permutation(50)[:12] * apart for _ in range(20)]) for _ in range(3)]
    for ranked in lists:
        ranked[:10, rng.integers(3, 12) :] = -1
        ranked[0] = -1  # a user for whom no source lists anything
    weights = rng.random(3)
    ordered = OrderedLists.of(lists, weights, 36)
    for user in range(20):
        score = {}
        for ranked, weight in zip(lists, weights, strict=True):
            for place, item in enumerate(ranked[user]):
                if item >= 0:
                    score[item] = score.get(item, 0.0) + weight / (1 + place / CONSTANT)
        best = sorted(score, key=lambda item: -score[item])
        assert ordered.items[user].tolist() == best + [-1] * (36 - len(best))
        scores = ordered.scores[user, : len(best)]
        np.testing.assert_allclose(scores, [score[item] for item in best], rtol=1e-5)
        np.testing.assert_allclose(ordered.shares[user, : len(best)].sum(1), scores, rtol=1e-5)


@pytest.mark.parametrize("kind", [REPEATS, STEADY, NEITHER])
def test_every_source_has_a_weight_for_each_kind_of_log(kind):
    order = FixedOrder.of(SOURCE_NAMES, kind)
    assert order.sources == SOURCE_NAMES and kind in WEIGHTS
    assert min(order.weights.values()) > 0
    assert sum(order.weights.values()) == pytest.approx(1, abs=1e-5)
    assert FixedOrder.parse(order.dump()) == order


@pytest.mark.parametrize(
    ("source", "share", "adding", "expected"),
    [
        ("b", 0.75, False, {"a": 0.25 * 5 / 7, "b": 0.75, "c": 0.25 * 2 / 7, "d": 0}),
        ("d", 0.75, False, {"a": 0.5, "b": 0.3, "c": 0.2, "d": 0}),
        ("b", 0.2, False, {"a": 0.5, "b": 0.3, "c": 0.2, "d": 0}),
        ("e", 0.5, True, {"a": 0.25, "b": 0.15, "c": 0.1, "d": 0, "e": 0.5}),
    ],
)
def test_an_order_leans_on_a_source_that_it_uses_or_adds(source, share, adding, expected):
    order = FixedOrder(weights={"a": 0.5, "b": 0.3, "c": 0.2, "d": 0.0})
    leaning = order.leaning_on(source, share, adding=adding)
    assert leaning.sources == tuple(expected) and leaning.weights == pytest.approx(expected)
