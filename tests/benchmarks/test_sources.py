"""The benchmarks of candidate sources: their figures on days and purchases made by hand."""

from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest

from benchmarks import repeat_intervals
from benchmarks.sources import figures
from benchmarks.sources.cases import ALL, K
from benchmarks.sources.kept_days import Kept
from twinspire_core.search.ragged import Ragged


def kept(users: int, finds: str) -> Kept:
    """Users who took two items that one source lists, behind so many that a fusion has to trust it;
    all others list something else.
    """
    lists = {}
    for number, name in enumerate(ALL):
        first = 0 if name == finds else 100 * (number + 1)
        lists[name] = np.tile(np.arange(first, first + 100), (users, 1))
    row = np.repeat(np.arange(users), 2)
    return Kept(
        user=np.arange(users).astype(str),
        past_events=np.full(users, 3),
        headline=np.ones(users, bool),
        taken=Ragged(np.tile([20, 21], users), row, users),
        lists=lists,
        constants={},
    )


def test_a_source_that_finds_all_adds_that_to_the_fusion():
    found = figures.recalls([kept(120, "trending")], kept(5, "trending"), (1, 5))
    assert found["trending"].tolist() == [1] * 5 and found["past"].tolist() == [0] * 5
    assert found["+ trending"].tolist() == found["+ both"].tolist() == [1] * 5
    assert found["as now"].tolist() == found["+ personal"].tolist() == [0] * 5


def test_a_slice_of_few_users_has_the_weights_of_all():
    """99 users are too few for weights of their own."""
    days = [kept(60, "trending"), kept(60, "trending")]
    own = figures._weights(days, ALL, (1, 5), 1)
    assert ALL[own.argmax()] == "trending" and own.sum() == pytest.approx(1)
    assert figures._weights(days, ALL, (1, 5), 0).tolist() == own.tolist(), "nobody is in it"
    assert K == 50


def test_the_table_says_differences_with_their_intervals():
    row = {"name": "x", "recall@50": 0.25, "more": 0.05, "low": -0.01, "high": 0.1}
    text = figures.table([{**row, "queries": 1200, "users": 9}])
    assert "0.2500  +0.0500 (-0.0100 to +0.1000)" in text and "1,200 queries of 9 users" in text


def purchase(user: str, item: str, day: int, month: int = 1) -> dict:
    time = datetime(2017, month, day, 12, tzinfo=UTC)
    return {"user": user, "item": item, "time": time, "day": time.date()}


def test_intervals_between_two_purchases_are_drawn_towards_those_of_all():
    rows = [purchase("u", "a", day) for day in (1, 3, 5, 5)] + [purchase("v", "b", 1)]
    rows += [purchase("v", "c", day) for day in (1, 9)]
    found = repeat_intervals.repeat_intervals(pl.DataFrame(rows).unique()).sort("item")
    every = (2 * np.log(2) + np.log(8)) / 3
    expected = [(2 * np.log(2) + 5 * every) / 7, every, (np.log(8) + 5 * every) / 6]
    assert found["mean"].to_list() == pytest.approx(expected)
    assert (found["spread"] > 0).all()


def test_only_what_was_before_the_day_is_known():
    rows = [purchase("u", item, day) for item, day in (("a", 1), ("a", 3), ("b", 4))]
    day = date(2017, 1, 10)
    taken = [purchase("u", "c", 10), purchase("u", "a", 10), purchase("new", "a", 10)]
    found = repeat_intervals.recalls(pl.DataFrame(rows + taken), day)
    assert found["user"].to_list() == ["u"], "the other one bought nothing before"
    assert all(found[name].to_list() == [0.5] for name, _ in repeat_intervals.factors())
