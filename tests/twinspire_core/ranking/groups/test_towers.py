"""Cosines by hand, and of many queries those of each pair by itself."""

import numpy as np
import pytest

from tests.twinspire_core.ranking.tiny import described, value
from twinspire_core.ranking.groups.towers import TowerCosines
from twinspire_core.ranking.pairs import Pairs, Vectors
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.queries import Queries, ScoredLists

VECTORS = Vectors(
    queries=np.array([[1, 0], [0, 1]], np.float32),
    items=np.array([[0.6, 0.8], [0, 1], [1, 0]], np.float32),
)


def test_that_with_the_query():
    found = value("cosine", vectors=VECTORS)
    expected = {(0, 0): 0.6, (0, 1): 0, (0, 2): 1, (1, 0): 0.8, (1, 1): 1}
    assert found == pytest.approx(expected)


def test_those_with_the_history():
    """The first user took a yesterday and c before that."""
    newest = value("cosine_newest", vectors=VECTORS)
    assert (newest[0, 1], newest[0, 2]) == pytest.approx((0.8, 0.6))
    assert value("cosine_most", vectors=VECTORS)[0, 1] == pytest.approx(0.8)
    assert value("cosine_mean", vectors=VECTORS)[0, 1] == pytest.approx(0.4)
    assert np.isnan(newest[1, 0])


def test_without_vectors_all_are_missing():
    assert all(np.isnan(list(value("cosine").values())))


def test_many_queries_are_as_each_by_itself():
    draw = np.random.default_rng(0)
    users, size = 37, 50
    lists = {
        name: ScoredLists.by_place(np.stack([draw.permutation(size)[:8] for _ in range(users)]))
        for name in ("past", "trending")
    }
    lengths = draw.integers(0, 15, users)
    past = Ragged.of_lengths(
        np.concatenate([draw.permutation(size)[:length] for length in lengths]), lengths
    )
    vectors = Vectors(
        queries=draw.normal(size=(users, 6)).astype(np.float32),
        items=draw.normal(size=(size, 6)).astype(np.float32),
    )
    pairs = Pairs.of(lists, Queries.of_past(past), size, vectors)
    found = TowerCosines().values(pairs)
    for query, item, row in zip(pairs.query, pairs.item, found, strict=True):
        own = past.values[past.row == query][:10]
        near = vectors.items[own] @ vectors.items[item]
        assert row[0] == pytest.approx(vectors.queries[query] @ vectors.items[item], abs=1e-5)
        expected = [near[0], near.max(), near.mean()] if len(own) else [np.nan] * 3
        np.testing.assert_allclose(row[1:], expected, atol=1e-5)


def test_in_words():
    assert described("cosine", 0.7).startswith("close to the user's taste")
    assert described("cosine_newest", 0.1).startswith("far from what the user took last")
