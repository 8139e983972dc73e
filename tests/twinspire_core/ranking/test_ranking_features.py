from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.twinspire_core.ranking.tiny import CORPUS, PERSONAL, QUERIES, described, value
from twinspire_core.fusion.rank_fusion import DEPTH
from twinspire_core.ranking import ranker


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("place:history", {(0, 0): 1, (0, 1): DEPTH, (0, 2): 0, (1, 0): DEPTH, (1, 1): DEPTH}),
        ("score:popular", {(0, 0): 9, (1, 1): 4, (0, 2): np.nan}),  # c is not in the list
        ("sources", {(0, 0): 2, (0, 1): 1, (0, 2): 1, (1, 0): 1, (1, 1): 1}),
        ("personal_share", {(0, 2): 3 / 8}),  # also of what is no longer in the corpus
        ("popular", {(1, 0): np.log(8), (0, 2): 0}),
    ],
)
def test_by_hand(name, expected):
    values = value(name)
    assert {pair: values[pair] for pair in expected} == pytest.approx(expected, nan_ok=True)


TIMED = {"personal:7d", "personal:60d", "personal_age", "personal_share", "user_age", "overdue"}


@pytest.mark.parametrize("name", [*sorted(TIMED), "personal:all", "user_items", "place:history"])
def test_where_times_are_not_known_what_needs_them_is_missing(name):
    """Of the first user nobody knows them; of the second there is nothing to know."""
    untimed = replace(PERSONAL, timed=np.array([False, True]))
    values = value(name, queries=replace(QUERIES, personal=untimed))
    known = value(name)
    for pair, feature in values.items():
        if pair[0] == 0 and name in TIMED:
            assert np.isnan(feature)
        else:
            np.testing.assert_equal(feature, known[pair])


@pytest.mark.parametrize(
    ("fast", "slow", "trend", "said"),
    [
        (10, 40, 0, "as often as before"),
        (0, 0, 0, "as often as before"),
        (20, 40, np.log(81 / 41), "more often lately"),
        (5, 40, np.log(21 / 41), "less often lately"),
    ],
)
def test_a_trend_is_0_for_what_is_taken_as_often_every_day(fast, slow, trend, said):
    corpus = CORPUS.append_column("_trending_7d", pa.array([0.0, fast, 0.0]))
    corpus = corpus.append_column("_trending_28d", pa.array([0.0, slow, 0.0]))
    values = value("trend", corpus=corpus)[1, 1]
    assert values == pytest.approx(trend, rel=1e-6)
    assert said in described("trend", values)


def test_many_users_in_blocks_are_as_all_at_once(monkeypatch):
    names = ("place:history", "personal_age", "overdue", "user_events", "popular")
    once = [value(name) for name in names]
    monkeypatch.setattr(ranker, "_BLOCK", 1)
    np.testing.assert_equal([value(name) for name in names], once)


@pytest.mark.parametrize(
    ("name", "number", "said"),
    [
        ("personal:all", 1, "bought once"),
        ("personal_age", 0.1, "last bought less than a day ago"),
        ("first_seen", 1 / 24, "new: first bought 1 hour ago"),
        ("interval", 0.2, "usually bought more than once a day"),
    ],
)
def test_in_words(name, number, said):
    assert described(name, number).startswith(said)
    assert "nan" not in described(name, np.nan)


def test_how_often_and_when_an_item_was_bought_is_one_reason():
    both = {"personal:all": 4.0, "personal_age": 6.1}
    for name in ("personal:60d", *both):
        assert described(name, both.get(name, 2.4), **both) == "bought 4 times, last 6 days ago"
    assert described("personal:7d", 0.0, **{"personal:all": 0.0}) == "never bought before"


def test_a_feature_that_cannot_be_made_is_missing():
    assert all(np.isnan(value) for value in value("trending:7d").values())
    assert all(np.isnan(value) for value in value("no such feature").values())
