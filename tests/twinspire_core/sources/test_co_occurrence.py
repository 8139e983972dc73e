from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest

from tests.twinspire_core.sources.test_sequences import _sequences
from twinspire_core.sources import co_occurrence
from twinspire_core.sources.co_occurrence import SHRINKAGE, CoOccurrenceSettings

SETTINGS = CoOccurrenceSettings(reach=2.0, half_life=5.0, lags=7)


def _slow(users, items):
    """Similarities of all pairs of items."""
    events = np.zeros(items)
    weights = defaultdict(float)
    for user in users:
        for place, (item, age) in enumerate(user):
            events[item] += 0.5 ** (age / SETTINGS.half_life)
            for other, older in user[place + 1 : place + 1 + SETTINGS.lags]:
                if other != item:
                    weight = np.exp(-(older - age) / SETTINGS.reach)
                    weight *= 0.5 ** (age / SETTINGS.half_life)
                    weights[item, other] += weight
                    weights[other, item] += weight
    expected = np.zeros((items, items))
    for (item, other), weight in weights.items():
        expected[item, other] = weight / ((events[item] * events[other]) ** 0.5 + SHRINKAGE)
    return expected


def test_similarities_are_those_of_a_loop():
    generator = np.random.default_rng(0)
    users = []
    for _ in range(20):
        ages = np.sort(generator.random(generator.integers(0, 40)) * 12)
        users.append([(int(generator.integers(0, 15)), float(np.float32(age))) for age in ages])
    near = co_occurrence.near_items(_sequences(*users), 15, SETTINGS, 15)
    similar = np.zeros((15, 15))
    row = np.repeat(np.arange(15), np.diff(near.offsets))
    similar[row, near.columns] = near.weights
    assert similar == pytest.approx(_slow(users, 15), rel=1e-4)
    assert (np.diff(near.weights) <= 0)[np.diff(row) == 0].all()


def test_pairs_grow_old_in_proportion_to_the_span_of_the_log():
    """The same log a hundred times as long: an hour between two events is short against either, so all that counts
    is how old a pair is of what the log reaches back.
    """
    corpus = pa.array(list("abcd"))
    tables = []
    for days in (4.0, 400.0):
        users = [[(0, 0.75 * days), (1, 0.75 * days)], [(0, 0.0), (2, 0.0)], [(3, days)]]
        tables.append(co_occurrence.fit(_sequences(*users), corpus))
    assert tables[0]["_rows"].to_pylist() == [[2, 1], [0], [0]]
    assert tables[0].equals(tables[1])


def test_of_equally_near_items_the_first_rows_come_first():
    users = [[(2, 0.0), (other, 0.0)] for other in (4, 0, 3, 1)]
    near = co_occurrence.near_items(_sequences(*users), 5, SETTINGS, 3)
    of_last = slice(near.offsets[2], near.offsets[3])
    assert near.columns[of_last].tolist() == [0, 1, 3]
    assert len({*near.weights[of_last].tolist()}) == 1


def test_events_that_lie_ages_apart_are_not_near():
    """Their weight is too small for a number, so that an item is met again and again at none."""
    long_ago = [(place % 2, place * 1e5) for place in range(40)]
    assert not len(co_occurrence.near_items(_sequences(long_ago), 2, SETTINGS, 2).columns)
