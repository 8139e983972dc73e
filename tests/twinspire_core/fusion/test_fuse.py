"""Fused lists by hand, and weights in worlds where it is known which source is right."""

import numpy as np
import pytest

from model.fusion_fitting.fusion_weights import FILL_WEIGHT, STEPS, fit_weights
from twinspire_core.contracts.fusion_file import FittedOn
from twinspire_core.errors import BadData
from twinspire_core.fusion.candidate_pool import CONSTANT, pool_candidates
from twinspire_core.fusion.fuse import Fusion, fuse
from twinspire_core.search.ragged import Ragged

A, B = np.array([[7, 3, 9]]), np.array([[3, 5, -1]])


def gain(place: int) -> float:
    return 60 / (60 + place)


def test_fused_by_hand():
    found = fuse(pool_candidates([A, B]), np.array([[0.75, 0.25]]), 4)
    expected = {
        3: 0.75 * gain(1) + 0.25 * gain(0),
        7: 0.75 * gain(0),
        9: 0.75 * gain(2),
        5: 0.25 * gain(1),
    }
    assert (
        found.items.tolist()
        == [sorted(expected, key=lambda item: -expected[item])]
        == [[3, 7, 9, 5]]
    )
    np.testing.assert_allclose(found.scores[0], sorted(expected.values(), reverse=True), rtol=1e-6)
    np.testing.assert_allclose(found.shares[0, 0], [0.75 * gain(1), 0.25 * gain(0)], rtol=1e-6)
    assert found.shares[0, 3].tolist() == [0, pytest.approx(0.25 * gain(1))]


def test_weights_are_each_users_own():
    found = fuse(
        pool_candidates([np.repeat(A, 2, 0), np.repeat(B, 2, 0)]),
        np.array([[1, 0.001], [0.001, 1]]),
        2,
    )
    assert found.items.tolist() == [[7, 3], [3, 5]] or found.items.tolist() == [[3, 7], [3, 5]]


def test_one_source_keeps_its_order():
    ranked = np.array([[4, 0, 8, 2], [1, -1, -1, -1]])
    found = fuse(pool_candidates([ranked]), np.ones((2, 1)), 5)
    assert found.items.tolist() == [[4, 0, 8, 2, -1], [1, -1, -1, -1, -1]]
    assert np.isneginf(found.scores[:, 4]).all() and not found.shares[:, 4].any()


def test_no_source_has_anything_to_say():
    found = fuse(pool_candidates([np.full((2, 3), -1), np.full((2, 3), -1)]), np.ones((2, 2)), 3)
    assert found.items.tolist() == [[-1] * 3] * 2


@pytest.mark.parametrize(("seed", "apart"), [(0, 1), (1, 1), (2, 1 << 20), (3, 1 << 40)])
def test_fused_as_a_slow_sum(seed, apart):
    rng = np.random.default_rng(seed)
    lists = [np.stack([rng.permutation(50)[:12] * apart for _ in range(20)]) for _ in range(3)]
    for ranked in lists:
        ranked[:10, rng.integers(3, 12) :] = -1
    weights = rng.random((20, 3))
    found = fuse(pool_candidates(lists), weights, 36)
    for user in range(20):
        score = {}
        for ranked, weight in zip(lists, weights[user], strict=True):
            for place, item in enumerate(ranked[user]):
                if item >= 0:
                    score[item] = score.get(item, 0.0) + weight / (1 + place / CONSTANT)
        best = sorted(score, key=lambda item: -score[item])
        assert found.items[user].tolist() == best + [-1] * (36 - len(best))
        scores = found.scores[user, : len(best)]
        np.testing.assert_allclose(scores, [score[item] for item in best], rtol=1e-5)
        np.testing.assert_allclose(found.shares[user, : len(best)].sum(1), scores, rtol=1e-5)


def test_a_mix_comes_back_from_its_file():
    weights = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
    mix = Fusion(
        sources=("two_tower", "past"),
        bounds=(1, 5),
        weights=weights,
        fitted=FittedOn(on="progressive"),
    )
    again = Fusion.parse(mix.dump())
    assert (again.sources, again.bounds, again.fitted) == (mix.sources, mix.bounds, mix.fitted)
    assert again.of(np.array([0, 4, 5, 900])).tolist() == [
        [0.5, 0.5],
        [0.9, 0.1],
        [0.2, 0.8],
        [0.2, 0.8],
    ]
    with pytest.raises(BadData, match="written by another release"):
        Fusion.parse(mix.dump().replace(b'"format": 1', b'"format": 2'))


def test_a_mix_of_another_format_is_refused_whatever_else_it_holds():
    with pytest.raises(BadData, match=r"found 2 and 60\. It was written"):
        Fusion.parse(b'{"format": 2, "constant": 60.0, "weights": [0.5, 0.5]}')


def world(
    right: int, users: int = 300, sources: int = 3, seed: int = 0
) -> tuple[list[np.ndarray], Ragged]:
    """Lists of 20 of 1,000 items; what is taken is among the 8 first of one source, and elsewhere
    by chance.
    """
    rng = np.random.default_rng(seed)
    lists = [np.stack([rng.permutation(1000)[:20] for _ in range(users)]) for _ in range(sources)]
    taken = np.stack([rng.permutation(lists[right][u][:8])[:3] for u in range(users)])
    return lists, Ragged(taken.ravel(), np.repeat(np.arange(users), 3), users)


@pytest.mark.parametrize("right", [0, 1, 2])
def test_the_source_that_is_right_gets_the_weight(right):
    lists, truth = world(right)
    weights = fit_weights(pool_candidates(lists), truth, [10, 5])
    assert weights.argmax() == right and weights.sum() == pytest.approx(1) and (weights > 0).all()
    ranked = fuse(pool_candidates(lists), np.broadcast_to(weights, (300, 3)), 10).items
    found = [len(set(ranked[u]) & set(truth.values[truth.row == u])) for u in range(300)]
    assert np.mean(found) / 3 > 0.95


def test_sources_that_know_different_things_are_mixed():
    """Half of what is taken stands early in one source, half in the other: neither alone finds more
    than that.
    """
    (one, other, chance), first = world(0)
    _, second = world(1)
    truth = Ragged(
        np.concatenate([first.values.reshape(300, 3), second.values.reshape(300, 3)], 1).ravel(),
        np.repeat(np.arange(300), 6),
        300,
    )
    weights = fit_weights(pool_candidates([one, other, chance]), truth, [16, 5])
    assert weights[2] < weights[:2].min()
    assert weights[:2].min() > 0.5 * weights[:2].max()


def test_what_nobody_lists_decides_nothing():
    lists, _ = world(0)
    nothing = Ragged(np.full(300, -1), np.arange(300), 300)
    assert fit_weights(pool_candidates(lists), nothing, [10, 5]) == pytest.approx([1 / 3] * 3)


def test_a_mix_finds_no_less_than_the_source_that_finds_most():
    """What is taken stands last in the list of one source; the others agree on what stands just
    behind it.
    """
    own = np.arange(100)[np.newaxis]
    others = np.roll(own, -50, axis=1)  # the places 50 to 99 of the first one come first
    lists = [own, others, others, others, others]
    weights = fit_weights(pool_candidates(lists), Ragged(np.array([49]), np.array([0]), 1), [50])
    assert 49 in fuse(pool_candidates(lists), weights[np.newaxis], 50).items


@pytest.mark.parametrize("seed", range(5))
def test_a_mix_finds_no_less_than_each_source_does(seed):
    rng = np.random.default_rng(seed)
    lists = [np.stack([rng.permutation(200)[:100] for _ in range(20)]) for _ in range(3)]
    truth = Ragged(rng.integers(0, 200, 100), np.repeat(np.arange(20), 5), 20)
    weights = fit_weights(pool_candidates(lists), truth, [20])
    ranked = fuse(pool_candidates(lists), np.broadcast_to(weights, (20, 3)), 20).items

    def found(lists):
        taken = [set(truth.values[truth.row == u]) for u in range(20)]
        return sum(
            len(set(own) & those) / len(those) for own, those in zip(lists, taken, strict=True)
        )

    assert found(ranked) >= max(found(own[:, :20]) for own in lists) - 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_the_weights_are_those_of_a_search_that_lists_and_looks(seed, monkeypatch):
    """Each weighting's lists fused and compared with what was taken; of few items, so that many
    scores are equal.
    """
    monkeypatch.setattr("model.fusion_fitting.fusion_weights._BLOCK", 7)
    rng = np.random.default_rng(seed)
    lists = [
        np.stack([np.append(rng.permutation(30)[:12], -1) for _ in range(12)]) for _ in range(3)
    ]
    truth = Ragged(rng.integers(-1, 30, 36), np.repeat(np.arange(12), 3), 12)
    pooled, taken = pool_candidates(lists), [truth.values[truth.row == u] for u in range(12)]

    def value(weights):
        ranked = fuse(pooled, np.broadcast_to(weights, (12, 3)), 8).items
        wanted = [len(set(own[own >= 0])) + (own < 0).sum() for own in taken]
        far, close = (
            sum(
                len(set(own) & set(row[:k]) - {-1}) / n
                for own, row, n in zip(taken, ranked, wanted, strict=True)
            )
            for k in (8, 4)
        )
        return round(far + 1e-3 * close, 9)

    weights = max([np.ones(3), *np.where(np.eye(3), 1.0, FILL_WEIGHT)], key=value)
    for source in [0, 1, 2] * 4:
        tried = [np.where(np.arange(3) == source, step, weights) for step in STEPS]
        weights = max([weights, *tried], key=value)
    assert fit_weights(pooled, truth, [8, 4]) == pytest.approx(weights / weights.sum())


def test_of_equal_scores_the_first_in_the_catalogue_counts():
    """All alike, 3 comes before 5, which is taken: so the second source must weigh more."""
    weights = fit_weights(
        pool_candidates([np.array([[3]]), np.array([[5]])]),
        Ragged(np.array([5]), np.array([0]), 1),
        [1],
    )
    assert weights[1] > 0.99
