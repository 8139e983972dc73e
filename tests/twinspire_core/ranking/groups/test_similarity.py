"""Similarities by hand: a was taken with b (0.5) and c (0.25), c with a (0.25)."""

import numpy as np
import pyarrow as pa
import pytest

from tests.twinspire_core.ranking.tiny import described, value, without_counts
from twinspire_core.contracts.feature_schema import co_occurrence_schema

NEAR = pa.Table.from_pydict(
    {"_item": ["a", "c"], "_rows": [[1, 2], [0]], "_similarities": [[0.5, 0.25], [0.25]]},
    co_occurrence_schema(),
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
    found = value("similar_sum", queries=without_counts(), co_occurrence=NEAR)
    assert found[0, 0] == 0.25
    newest = value("similar_newest", queries=without_counts(), co_occurrence=NEAR)
    assert (newest[0, 0], newest[0, 1]) == (0.25, 0)


def test_it_is_missing_where_nobody_counted_what_is_taken_together():
    assert all(np.isnan(list(value("similar_sum").values())))


def test_in_words():
    assert "similarity 0.50" in described("similar_newest", 0.5)
    assert described("similar_items", 2.0).startswith("often taken with 2 of the last 20 things")
    assert "seldom" in described("similar_most", 0.0)
