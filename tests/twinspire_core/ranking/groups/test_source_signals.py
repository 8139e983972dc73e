"""Similarities by hand: a was taken with b (0.5) and c (0.25), c with a (0.25)."""

import numpy as np
import pyarrow as pa
import pytest

from tests.twinspire_core.ranking.tiny import value, without_counts
from twinspire_core.ranking.groups import source_signals
from twinspire_core.ranking.groups.source_signals import TowerCosines
from twinspire_core.ranking.pairs import Pairs, Vectors
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.co_occurrence import SCHEMA
from twinspire_core.sources.source import Queries, ScoredLists

NEAR = pa.Table.from_pydict(
    {"_item": ["a", "c"], "_rows": [[1, 2], [0]], "_similarities": [[0.5, 0.25], [0.25]]}, SCHEMA
)
# The first user took a yesterday, once, and c before it, three times.
BY_HAND = {
    "similar_most": {(0, 0): 0.25, (0, 1): 0.5, (0, 2): 0.25, (1, 0): 0, (1, 1): 0},
    "similar_sum": {(0, 0): 0.75, (0, 1): 0.5, (0, 2): 0.25, (1, 0): 0, (1, 1): 0},
    "similar_newest": {(0, 0): 0, (0, 1): 0.5, (0, 2): 0.25, (1, 0): 0, (1, 1): 0},
    "similar_items": {(0, 0): 1, (0, 1): 1, (0, 2): 1, (1, 0): 0, (1, 1): 0},
}


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name):
    assert value(name, co_occurrence=NEAR) == BY_HAND[name]


def test_without_counts_each_item_of_the_past_counts_once():
    """Its first item, c, is then the newest."""
    values = value("similar_sum", queries=without_counts(), co_occurrence=NEAR)
    assert values[0, 0] == 0.25
    newest = value("similar_newest", queries=without_counts(), co_occurrence=NEAR)
    assert (newest[0, 0], newest[0, 1]) == (0.25, 0)


@pytest.mark.parametrize("name", ["similar_sum", "cosine"])
def test_it_is_missing_without_what_it_is_made_of(name):
    assert all(np.isnan(list(value(name).values())))


def test_many_queries_are_as_each_by_itself(monkeypatch):
    monkeypatch.setattr(source_signals, "_NUMBERS", 42)
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
    cosines = np.empty((1, len(pairs)), np.float32)
    TowerCosines().write(pairs, cosines)
    for query, item, cosine in zip(pairs.query, pairs.item, cosines[0], strict=True):
        assert cosine == pytest.approx(vectors.queries[query] @ vectors.items[item], abs=1e-5)
