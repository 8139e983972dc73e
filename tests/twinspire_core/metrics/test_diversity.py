from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire_core.metrics.diversity import exposure, popular_items, popular_share

NONE = -1


def test_by_hand():
    # Of four items, item 0 is shown to all three users, items 1 and 2 to one each, item 3 to
    # nobody.
    found = exposure(np.array([[0, 1], [0, 2], [0, NONE]]), [1, 2], 4)
    assert found["coverage@1"] == 1 / 4
    assert found["coverage@2"] == 3 / 4
    assert found["overlap@1"] == 1
    assert found["overlap@2"] == 1 / 2  # each pair shares item 0, one of two places
    # Sorted 0, 1, 1, 3: pairwise differences 1 1 3 0 2 2 add up to 9; twice that over 2 n^2 mean =
    # 2 * 16 * 1.25.
    assert found["gini@2"] == pytest.approx(18 / 40)
    assert found["gini@1"] == 3 / 4  # one of four has it all


def test_equal_exposure_has_no_gini_and_no_overlap():
    assert exposure(np.arange(6).reshape(3, 2), [2], 6) == {
        "coverage@2": 1,
        "gini@2": 0,
        "overlap@2": 0,
    }


def test_what_is_not_defined_is_not_there():
    assert exposure(np.zeros((0, 2), np.int64), [2], 3) == {"coverage@2": 0}
    assert exposure(np.array([[1, 2]]), [2], 3).keys() == {"coverage@2", "gini@2"}
    assert exposure(np.array([[1, 2], [2, 3]]), [2]) == {"overlap@2": 1 / 2}


@given(st.data())
def test_equal_to_a_look_at_every_pair(data):
    items, length = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 6))
    one = st.lists(st.integers(NONE, items - 1), min_size=length, max_size=length)
    ranked = data.draw(st.lists(one, min_size=2, max_size=6))
    k = data.draw(st.integers(1, length))
    found = exposure(np.array(ranked), [k], items)
    shown = [{item for item in one[:k] if item != NONE} for one in ranked]
    pairs = [len(a & b) / k for a, b in combinations(shown, 2)]
    assert found[f"overlap@{k}"] == pytest.approx(sum(pairs) / len(pairs))
    counts = [sum(item in one for one in shown) for item in range(items)]
    assert found[f"coverage@{k}"] == pytest.approx(sum(n > 0 for n in counts) / items)
    if any(counts):
        differences = sum(abs(a - b) for a, b in permutations(counts, 2)) / items**2
        assert found[f"gini@{k}"] == pytest.approx(differences / (2 * sum(counts) / items))


def test_popular_items_have_half_of_all_events():
    events = np.array([1, 40, 5, 30, 9, 15])  # 100 in all; the first two have 70, the first one 40
    assert popular_items(np.array([1, 3, 5, 4, 2, 0]), events).nonzero()[0].tolist() == [1, 3]
    # Exactly half is enough
    assert popular_items(np.array([0, 1]), np.array([5, 5])).tolist() == [True, False]
    assert popular_items(np.array([0, 1]), np.array([0, 0])) is None
    assert popular_items(np.zeros(0, np.int64), np.zeros(0, np.int64)) is None
    assert popular_share(np.array([[0, 1]]), None, [1, 2]) == {}


def test_the_share_of_popular_items_is_of_what_is_listed():
    popular = np.array([True, False, False])
    found = popular_share(np.array([[0, 1, 2], [1, 0, NONE], [NONE, NONE, NONE]]), popular, [1, 3])
    np.testing.assert_allclose(found["popular_share@1"], [1, 0, np.nan])
    np.testing.assert_allclose(found["popular_share@3"], [1 / 3, 1 / 2, np.nan])
