import numpy as np
import pytest

from tests.twinspire_core.ranking.tiny import described, value
from twinspire_core.ranking.groups import towers
from twinspire_core.ranking.groups.towers import TowerCosines
from twinspire_core.ranking.pairs import Pairs, Vectors
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.source import Queries, ScoredLists

VECTORS = Vectors(
    queries=np.array([[1, 0], [0, 1]], np.float32),
    items=np.array([[0.6, 0.8], [0, 1], [1, 0]], np.float32),
)


def test_that_with_the_query():
    found = value("cosine", vectors=VECTORS)
    expected = {(0, 0): 0.6, (0, 1): 0, (0, 2): 1, (1, 0): 0.8, (1, 1): 1}
    assert found == pytest.approx(expected)


def test_without_vectors_all_are_missing():
    assert all(np.isnan(list(value("cosine").values())))


def test_many_queries_are_as_each_by_itself(monkeypatch):
    monkeypatch.setattr(towers, "_NUMBERS", 42)
    draw = np.random.default_rng(0)
    users, size = 9, 50
    lists = {
        name: ScoredLists.by_place(np.stack([draw.permutation(size)[:8] for _ in range(users)]))
        for name in ("history", "popular")
    }
    vectors = Vectors(
        queries=draw.normal(size=(users, 6)).astype(np.float32),
        items=draw.normal(size=(size, 6)).astype(np.float32),
    )
    nothing = Ragged(np.zeros(0, np.int64), np.zeros(0, np.int64), users)
    pairs = Pairs.of(lists, Queries.of_past(nothing), size, vectors)
    found = np.empty((1, len(pairs)), np.float32)
    TowerCosines().write(pairs, found)
    for query, item, cosine in zip(pairs.query, pairs.item, found[0], strict=True):
        assert cosine == pytest.approx(vectors.queries[query] @ vectors.items[item], abs=1e-5)


def test_in_words():
    assert described("cosine", 0.7).startswith("close to the user's taste")
    assert described("cosine", 0.1).startswith("far from the user's taste")
