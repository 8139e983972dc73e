import math
import time
import tracemalloc
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire_core.metrics.list_metrics import (
    by_user,
    contains,
    exposure,
    means,
    popular_items,
    popular_share,
    slice_of,
    top_k,
)
from twinspire_core.metrics.measure_names import names
from twinspire_core.search.ragged import Ragged

NONE = -1


def ragged(lists) -> Ragged:
    values = np.array([item for listed in lists for item in listed], np.int64)
    return Ragged(values, np.repeat(np.arange(len(lists)), [*map(len, lists)]), len(lists))


def slow_measures(ranked, truth, k) -> dict[str, float]:
    """One user, in sets and loops. Items outside the corpus are given apart, as 'x1', 'x2', …"""
    wanted, seen, gain, first = set(truth), set(), 0.0, 0.0
    for place, item in enumerate(ranked, 1):
        if item != NONE and item in wanted and item not in seen:
            first = first or 1 / place
            gain += (place <= k) / math.log2(place + 1)
        seen.add(item)
    hits = len(wanted & set(ranked[:k]))
    ideal = sum(1 / math.log2(place + 1) for place in range(1, min(k, len(wanted)) + 1))
    return {
        f"recall@{k}": hits / len(wanted),
        f"hit_rate@{k}": float(hits > 0),
        f"ndcg@{k}": gain / ideal,
        "mrr": first,
    }


def test_users_weigh_alike_and_one_without_truth_not_at_all():
    value = means(by_user(np.array([[1, 2], [3, 4], [5, 6]]), ragged([[1, 2, 8, 9], [3], []]), [2]))
    assert value["recall@2"] == (0.5 + 1) / 2
    assert value["mrr"] == value["hit_rate@2"] == 1


@given(st.data())
def test_equal_to_the_slow_measures(data):
    item = st.integers(0, 12)
    users = data.draw(st.integers(1, 5))
    length = data.draw(st.integers(1, 8))
    lists = st.lists(st.one_of(item, st.just(NONE)), min_size=length, max_size=length)
    ranked = [data.draw(lists) for _ in range(users)]
    inside = [data.draw(st.lists(item, max_size=6)) for _ in range(users)]
    outside = [data.draw(st.integers(0 if known else 1, 3)) for known in inside]
    truth = ragged([known + [NONE] * n for known, n in zip(inside, outside, strict=True)])
    k = data.draw(st.integers(1, length))
    expected = [
        slow_measures(listed, [*known, *(f"x{i}" for i in range(n))], k)
        for listed, known, n in zip(ranked, inside, outside, strict=True)
    ]
    for name, values in by_user(np.array(ranked), truth, [k]).items():
        np.testing.assert_allclose(
            values, [user[name] for user in expected], rtol=1e-9, err_msg=name
        )


def test_k_beyond_the_corpus_leaves_nothing_behind():
    items = np.eye(3, dtype=np.float32)
    assert top_k(items[:2], items, 5)[0].tolist() == [[0, 1, 2, NONE, NONE], [1, 0, 2, NONE, NONE]]
    assert top_k(items, np.zeros((0, 3), np.float32), 2)[0].tolist() == [[NONE, NONE]] * 3
    assert top_k(np.zeros((0, 3), np.float32), items, 2)[0].shape == (0, 2)


def test_a_vector_that_is_no_number_is_not_ranked():
    with pytest.raises(ValueError, match="nan or inf"):
        top_k(np.array([[np.nan, 1]], np.float32), np.eye(2, dtype=np.float32), 1)


def test_contains_equals_sets():
    rng = np.random.default_rng(4)
    lists = [rng.integers(NONE, 5, n).tolist() for n in (3, 0, 7, 1, 4)]
    ranked = rng.integers(NONE, 6, (5, 9))
    expected = [
        [x in {*listed} - {NONE} for x in row]
        for listed, row in zip(lists, ranked.tolist(), strict=True)
    ]
    assert contains(ragged(lists), ranked).tolist() == expected
    assert not contains(ragged([[]] * 5), np.full((5, 2), NONE)).any()
    assert contains(ragged([]), np.zeros((0, 4), np.int64)).shape == (0, 4)


@pytest.mark.system
def test_ten_thousand_users_by_fifty_thousand_items_in_time_and_memory():
    rng = np.random.default_rng(3)
    queries, items = (rng.standard_normal((n, 64), np.float32) for n in (10_000, 50_000))
    tracemalloc.start()
    started = time.perf_counter()
    top, _ = top_k(queries, items, 100)
    seconds, peak = time.perf_counter() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert top.shape == (10_000, 100)
    assert seconds < 20
    assert peak < 500e6  # all scores at once would be 2 GB


def test_what_is_not_defined_is_not_there():
    assert exposure(np.zeros((0, 2), np.int64), [2], 3) == {"coverage@2": 0}
    assert exposure(np.array([[1, 2]]), [2], 3).keys() == {"coverage@2", "gini@2"}
    assert exposure(np.array([[1, 2], [2, 3]]), [2]) == {"overlap@2": 1 / 2}


@given(st.data())
def test_equal_to_a_look_at_every_pair(data):
    items, length = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 6))
    lists = st.lists(st.integers(NONE, items - 1), min_size=length, max_size=length)
    ranked = data.draw(st.lists(lists, min_size=2, max_size=6))
    k = data.draw(st.integers(1, length))
    shares = exposure(np.array(ranked), [k], items)
    shown = [{item for item in listed[:k] if item != NONE} for listed in ranked]
    pairs = [len(a & b) / k for a, b in combinations(shown, 2)]
    assert shares[f"overlap@{k}"] == pytest.approx(sum(pairs) / len(pairs))
    counts = [sum(item in listed for listed in shown) for item in range(items)]
    assert shares[f"coverage@{k}"] == pytest.approx(sum(n > 0 for n in counts) / items)
    if any(counts):
        differences = sum(abs(a - b) for a, b in permutations(counts, 2)) / items**2
        assert shares[f"gini@{k}"] == pytest.approx(differences / (2 * sum(counts) / items))


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
    share = popular_share(np.array([[0, 1, 2], [1, 0, NONE], [NONE, NONE, NONE]]), popular, [1, 3])
    np.testing.assert_allclose(share["popular_share@1"], [1, 0, np.nan])
    np.testing.assert_allclose(share["popular_share@3"], [1 / 3, 1 / 2, np.nan])


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((1, 5, 20), ["0", "1-4", "5-19", "20+"]),
        ((1,), ["0", "1+"]),
        ((5, 6), ["0-4", "5", "6+"]),
        ((2, 3, 10), ["0-1", "2", "3-9", "10+"]),
    ],
)
def test_names_say_what_lies_inside(bounds, expected):
    assert names(bounds) == expected
    for events in range(30):
        name = expected[slice_of(np.array([events]), bounds)[0]]
        low, _, high = name.rstrip("+").partition("-")
        assert int(low) <= events
        assert name.endswith("+") or events <= int(high or low)
