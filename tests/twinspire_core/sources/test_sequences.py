import numpy as np
import pyarrow as pa
import pytest

from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.user_histories import Sequences, WeightedItems, of_length_one


def _sequences(*users: list[tuple[int, float]]) -> Sequences:
    """Users' (item, age) lists, newest first."""
    events = [event for user in users for event in user]
    lengths = np.array([len(user) for user in users])
    items = Ragged.of_lengths(np.array([item for item, _ in events], np.int64), lengths)
    return Sequences(items, np.array([age for _, age in events], np.float32))


def test_events_of_other_items_are_left_out():
    table = pa.table({"_items": [["b", "x", "a"], []], "_ages": [[0.5, 1.0, 2.0], []]})
    sequences = Sequences.of(table, pa.array(["a", "b"]))
    assert sequences.items.values.tolist() == [1, 0]
    assert sequences.ages.tolist() == [0.5, 2.0]
    assert sequences.items.rows == 2


def test_the_users_seen_last_are_kept():
    sequences = _sequences([(0, 5.0), (1, 6.0)], [(2, 0.1)], [], [(3, 1.0), (4, 9.0)])
    kept = sequences.newest_users(3)
    assert kept.items.values.tolist() == [2, 3, 4]
    assert kept.items.row.tolist() == [0, 1, 1]


def test_an_old_event_counts_less():
    taken = WeightedItems.of(_sequences([(7, 0.0), (3, 60.0), (7, 120.0)]), 8)
    assert taken.items.values.tolist() == [7, 3]
    assert taken.weights == pytest.approx([1.25, 0.5])
    assert taken.ages.tolist() == [0.0, 60.0]


def test_each_list_becomes_a_vector_of_length_one():
    lists = Ragged.of_lengths(np.array([0, 1, 2]), np.array([2, 1]))
    assert of_length_one(lists, np.array([3, 4, 9], np.float32)) == pytest.approx([0.6, 0.8, 1])
