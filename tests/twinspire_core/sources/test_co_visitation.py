"""Items taken close to each other, against a loop over all pairs."""

from collections import defaultdict

import numpy as np
import pytest

from tests.twinspire_core.sources.test_sequences import _sequences
from twinspire_core.sources import co_visitation_fitting
from twinspire_core.sources.co_visitation_fitting import LAGS, SHRINKAGE, CoVisitationSettings

SETTINGS = CoVisitationSettings(reach=2.0, half_life=5.0, exponent=0.4)


def _slow(users, items):
    """Similarities of all pairs of items."""
    events = np.zeros(items)
    weights = defaultdict(float)
    for user in users:
        for place, (item, age) in enumerate(user):
            events[item] += 0.5 ** (age / SETTINGS.half_life)
            for other, older in user[place + 1 : place + 1 + LAGS]:
                if other != item:
                    weight = np.exp(-(older - age) / SETTINGS.reach)
                    weight *= 0.5 ** (age / SETTINGS.half_life)
                    weights[item, other] += weight
                    weights[other, item] += weight
    found = np.zeros((items, items))
    for (one, other), weight in weights.items():
        scale = (events[one] * events[other]) ** SETTINGS.exponent
        found[one, other] = weight / (scale + SHRINKAGE)
    return found


def test_similarities_are_those_of_a_loop():
    generator = np.random.default_rng(0)
    users = []
    for _ in range(20):
        ages = np.sort(generator.random(generator.integers(0, 40)) * 12)
        users.append([(int(generator.integers(0, 15)), float(np.float32(age))) for age in ages])
    rows, similarities = co_visitation_fitting.fit(_sequences(*users), 15, SETTINGS, 15)
    found = np.zeros((15, 15))
    row, place = np.nonzero(rows >= 0)
    found[row, rows[row, place]] = similarities[row, place]
    assert found == pytest.approx(_slow(users, 15), rel=1e-4)
    assert (np.diff(similarities, axis=1) <= 0).all()


def test_closer_in_time_is_nearer():
    users = [[(0, 0.0), (1, 0.1)], [(0, 0.0), (2, 3.0)]]
    rows, _ = co_visitation_fitting.fit(_sequences(*users), 3, SETTINGS, 2)
    assert rows[0].tolist() == [1, 2]


def test_of_equal_pairs_the_newer_one_is_nearer():
    users = [[(0, 4.0), (1, 4.1)], [(0, 0.0), (2, 0.1)]]
    rows, _ = co_visitation_fitting.fit(_sequences(*users), 3, SETTINGS._replace(exponent=0), 2)
    assert rows[0].tolist() == [2, 1]


def test_of_equally_near_items_the_first_rows_come_first():
    users = [[(2, 0.0), (other, 0.0)] for other in (4, 0, 3, 1)]
    rows, similarities = co_visitation_fitting.fit(_sequences(*users), 5, SETTINGS, 3)
    assert rows[2].tolist() == [0, 1, 3]
    assert len(set(similarities[2].tolist())) == 1
