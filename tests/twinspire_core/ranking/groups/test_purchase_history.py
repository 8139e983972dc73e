from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.twinspire_core.ranking.tiny import CORPUS, PERSONAL, QUERIES, value

UNKNOWN = np.nan


@pytest.mark.parametrize(
    ("name", "of_first", "of_newcomer"),
    [
        ("user_events", np.log(9), 0),
        ("user_items", np.log(4), 0),  # one is no longer there
        ("user_age", 1, UNKNOWN),
        ("user_repeats", 1 - 3 / 8, UNKNOWN),
        # The rhythm is that of the days with any event.
        ("user_visits", np.log(6), UNKNOWN),
        ("user_basket", 6 / 5, UNKNOWN),
        ("user_first", 50, UNKNOWN),
        ("user_interval", 49 / 4, UNKNOWN),
        ("user_overdue", 4 / 49, UNKNOWN),
    ],
)
def test_what_is_known_of_a_user(name, of_first, of_newcomer):
    values = value(name)
    np.testing.assert_equal([values[0, item] for item in range(3)], [np.float32(of_first)] * 3)
    np.testing.assert_equal([values[1, item] for item in range(2)], [np.float32(of_newcomer)] * 2)


def test_users_without_counts():
    bare = replace(QUERIES, personal=None)
    assert value("user_items", queries=bare)[0, 0] == np.float32(np.log(3))
    assert np.isnan(value("user_age", queries=bare)[0, 0])
    values = value("seen", queries=bare)
    assert values == {(0, 0): 1, (0, 1): 0, (0, 2): 1, (1, 0): 0, (1, 1): 0}


@pytest.mark.parametrize(
    ("name", "often", "once", "never"),
    [
        # Three times in 20 days: every 10 days, and 30 days have gone by.
        ("interval", 10, UNKNOWN, UNKNOWN),
        ("overdue", 3, UNKNOWN, UNKNOWN),
        ("personal_days", 3, 1, 0),
        ("personal_day_share", 3 / 5, 1 / 5, 0),
        ("personal_first", 50, 1, UNKNOWN),
        ("personal_rank", 0, 1, UNKNOWN),
        ("personal_age", 30, 1, UNKNOWN),
        ("seen", 1, 1, 0),
        ("personal:7d", 3, 1, 0),
    ],
)
def test_what_is_known_of_an_item_and_a_user(name, often, once, never):
    values = value(name)
    expected = np.array([often, once, never, never, never], np.float32)
    np.testing.assert_equal([values[p] for p in ((0, 2), (0, 0), (0, 1), (1, 0), (1, 1))], expected)


@pytest.mark.parametrize(
    ("name", "span", "days", "wanted"),
    [("overdue", 1 / 24, 2, 30), ("interval", 20, 2, 20)],
    ids=["two events around midnight", "three times on two days"],
)
def test_rhythm_is_that_of_days_and_not_of_minutes(name, span, days, wanted):
    rhythm = {"span": np.array([span, 0, 0], "f4"), "days": np.array([days, 1, 1], "f4")}
    counts = replace(PERSONAL, of_entry={**PERSONAL.of_entry, **rhythm})
    asked = replace(QUERIES, personal=counts)
    assert value(name, queries=asked)[0, 2] == wanted


@pytest.mark.parametrize(
    ("name", "column", "numbers", "expected"),
    [
        ("buyers", "_buyers", [7, None, 3], [np.log(8), 0, np.log(4)]),
        ("again", "_again", [0.25, None, 0], [0.25, UNKNOWN, 0]),  # nobody took the second one
        ("again_days", "_again_days", [9, None, None], [9, UNKNOWN, UNKNOWN]),
        ("first_seen", "_first_seen", [2.5, None, 9], [2.5, UNKNOWN, 9]),
    ],
)
def test_what_the_corpus_says_of_an_item(name, column, numbers, expected):
    values = value(name, corpus=CORPUS.append_column(column, pa.array(numbers, pa.float32())))
    np.testing.assert_equal([values[0, item] for item in range(3)], np.array(expected, np.float32))
    assert np.isnan(value(name)[0, 0]), "of a corpus that does not say it"
