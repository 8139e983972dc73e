import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.validation import drift
from beam_jobs.validation.drift import Numbers


def test_distances_by_hand():
    assert drift.linf({"a": 0.5, "b": 0.5}, {"a": 0.2, "b": 0.5, "c": 0.3}) == pytest.approx(0.3)
    assert drift.linf({}, {}) == 0
    half, certain = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    assert drift.js(half, half) == 0
    assert drift.js(certain, certain[::-1]) == pytest.approx(1)
    # m = (3/4, 1/4): (1/2 log 2/3 + 1/2 log 2 + log 4/3) / 2 = (log 4/3 + 2 log 4/3) / 4 = 3/4 log
    # 4/3, in bits
    by_hand = 0.75 * math.log2(4 / 3)
    assert drift.js(half, certain) == pytest.approx(by_hand)
    assert drift.js(certain, half) == pytest.approx(by_hand)


def test_a_value_that_many_rows_have_is_an_interval_of_its_own():
    a = Numbers.weighted([0, 1], [60, 40])
    b = Numbers.weighted([1, 0], [90, 10])
    assert a.distance(b) == b.distance(a)
    assert a.distance(b) == pytest.approx(drift.js(np.array([0.6, 0.4]), np.array([0.1, 0.9])))
    assert a.distance(Numbers.weighted([0.5], [100])) == pytest.approx(1)


@given(st.lists(st.floats(-9, 9, width=32), min_size=1))
def test_quantiles_and_shares_are_those_of_the_sorted_numbers(numbers):
    found = Numbers.weighted(numbers, np.ones(len(numbers)))
    ranks = [n / len(numbers) for n in range(1, len(numbers) + 1)]
    assert found.quantiles(ranks).tolist() == sorted(numbers)
    for one in numbers:
        assert found.share_up_to([one])[0] == pytest.approx(np.mean(np.array(numbers) <= one))
    assert found.share_up_to([-10, 10]).tolist() == pytest.approx([0, 1])
    assert found.distance(found) == 0
