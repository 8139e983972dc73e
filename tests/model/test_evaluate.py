"""A day of five items, three users, and lists small enough to check by hand."""

from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from model.evaluate import (
    evaluate_baselines,
    evaluate_lists,
    evaluate_split,
    headline,
    holdout_rows,
    prepare,
    progressive_rows,
)

DAY = date(2024, 5, 20)
CORPUS = pa.table({"_item": list("abcde"), "_popular": [1, 9, 5, 0, 7], "_lately": [4, 0, 3, 2, 0]})


def rows(*each: tuple) -> pa.Table:
    """User, days before DAY, held out, truth, past."""
    user, back, held, truth, past = zip(*each, strict=True) if each else [[]] * 5
    days = [date.fromordinal(DAY.toordinal() - n) for n in back]
    lists = pa.list_(pa.string())
    return pa.table(
        {
            "_user": pa.array(user, pa.string()),
            "_day": pa.array(days, pa.date32()),
            "_holdout": pa.array(held, pa.bool_()),
            "_truth": pa.array(map(list, truth), lists),
            "_past": pa.array(map(list, past), lists),
        }
    )


QUERIES = rows(("u", 0, False, "ab", "b"), ("v", 0, False, "z", "aez"), ("w", 0, True, "c", "cd"))


def test_two_towers_with_seen_items_kept_and_excluded():
    # One axis per item: each query lists the corpus by its own weights.
    weights = np.array([[5, 4, 3, 2, 1], [1, 2, 3, 4, 5], [2, 1, 5, 3, 4]], np.float32)  # u: abcde, v: edcba, w: ceda…
    found = evaluate_split(prepare(QUERIES, CORPUS), weights, np.eye(5, dtype=np.float32), [1, 2])
    assert found["seen"] == "kept"
    assert (found["users"], found["queries"], found["days"], found["items"]) == (3, 3, 1, 5)
    assert found["recall@1"] == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert found["recall@2"] == pytest.approx((2 / 2 + 0 + 1) / 3)
    assert found["hit_rate@1"] == pytest.approx(2 / 3)
    assert found["mrr"] == pytest.approx(2 / 3)
    assert found["coverage@1"] == 3 / 5
    assert found["coverage@2"] == 5 / 5  # ab, ed, ce
    fresh = found["excluded"]  # u: acde, v: dcb, w: eab; what was seen stays wanted
    assert fresh["seen"] == "excluded"
    assert fresh["recall@2"] == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert fresh["coverage@2"] == 4 / 5  # ac, dc, ea


def test_the_corpus_is_all_items_and_not_those_of_the_test():
    # Only b was taken, and four items score higher: a corpus of the test's items would find it first.
    split = prepare(rows(("u", 0, False, "b", "")), CORPUS)
    found = evaluate_split(split, np.array([[5, 1, 4, 3, 2]], np.float32), np.eye(5, dtype=np.float32), [1, 4, 5])
    assert [found[f"recall@{k}"] for k in (1, 4, 5)] == [0, 0, 1]
    assert found["mrr"] == 1 / 5


def test_baselines():
    found = evaluate_baselines(prepare(QUERIES, CORPUS), [1, 2])
    # Popular: becad. Lately: acdbe. Past, then popular: u b e…, v a e…, w c d…
    assert found["most_popular"]["recall@1"] == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert found["most_popular"]["excluded"]["recall@2"] == 0  # u: ec, v: bc, w: be
    assert found["popular_lately"]["recall@2"] == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert found["popular_lately"]["excluded"]["recall@1"] == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert found["past"]["recall@1"] == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert found["past"]["coverage@2"] == 5 / 5
    assert found["most_popular"]["coverage@2"] == 2 / 5
    assert "excluded" not in found["past"]


def test_lists_of_any_make():
    found = evaluate_lists(prepare(QUERIES, CORPUS), np.array([[1, -1], [0, 1], [-1, -1]]), [2])
    assert found["recall@2"] == pytest.approx((1 / 2) / 3)


def test_no_query_is_no_error():
    split = prepare(rows(), CORPUS)
    found = evaluate_split(split, np.zeros((0, 5), np.float32), np.eye(5, dtype=np.float32), [2])
    assert (found["users"], found["recall@2"], found["coverage@2"]) == (0, 0, 0)
    assert evaluate_baselines(split, [2])["past"]["queries"] == 0


def test_progressive_rows_are_the_days_own_and_a_stable_sample():
    table = rows(*[(f"u{i}", i % 2, False, "a", "b") for i in range(100)])
    day = progressive_rows(table, DAY, 1000)
    assert day.column("_user").to_pylist() == [f"u{i}" for i in range(0, 100, 2)]
    few = progressive_rows(table, DAY, 10).column("_user").to_pylist()
    assert len(few) == 10
    assert few == [user for user in day.column("_user").to_pylist() if user in few]  # in the table's order
    reordered = progressive_rows(table.take(list(range(99, -1, -1))), DAY, 10)
    assert set(reordered.column("_user").to_pylist()) == set(few)


def test_earlier_days_held_out_users_are_added_until_they_are_enough():
    table = rows(
        ("a", 0, True, "a", "b"),
        ("b", 0, False, "a", "b"),
        ("a", 1, True, "a", "b"),
        ("c", 2, True, "a", "b"),
        ("d", 3, True, "a", "b"),
        ("e", 7, True, "a", "b"),  # beyond a week
    )

    def chosen(least: int, most: int = 100) -> list[str]:
        return holdout_rows(table, DAY, min_users=least, max_users=most).column("_user").to_pylist()

    assert chosen(1) == ["a"]
    assert chosen(2) == ["a", "a", "c"]
    assert chosen(3) == ["a", "a", "c", "d"]
    assert chosen(200) == ["a", "a", "c", "d"]
    assert len(chosen(200, most=2)) == 2
    assert prepare(holdout_rows(table, DAY, min_users=2, max_users=9), CORPUS).users == 2


def test_the_headline_is_what_was_measured():
    found = evaluate_lists(prepare(QUERIES, CORPUS), np.array([[0, 1]] * 3), [1, 2])
    assert list(headline(found, [1, 2])) == ["recall@1", "recall@2", "ndcg@1", "hit_rate@1", "mrr", "coverage@2"]
