"""Activity of users, rhythm and age of items, by hand."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.twinspire_core.ranking.tiny import CORPUS, PERSONAL, QUERIES, described, value


def test_what_the_user_did():
    assert value("user_events")[0, 1] == np.float32(np.log(9))
    assert value("user_items")[0, 1] == np.float32(np.log(4)), "one is no longer there"
    assert value("user_age")[0, 1] == 1
    assert value("user_repeats")[0, 1] == np.float32(1 - 3 / 8)


def test_what_a_newcomer_did():
    assert value("user_events")[1, 0] == value("user_items")[1, 0] == 0
    assert np.isnan(value("user_age")[1, 0]) and np.isnan(value("user_repeats")[1, 0])


def test_users_of_whom_nobody_counted():
    bare = replace(QUERIES, personal=None)
    assert value("user_items", queries=bare)[0, 0] == np.float32(np.log(3))
    assert np.isnan(value("user_age", queries=bare)[0, 0])


def test_the_rhythm_is_the_mean_of_the_days_between():
    """Three times in 20 days: every 10 days, and 30 days have gone by."""
    assert value("interval")[0, 2] == 10
    assert value("overdue")[0, 2] == 3


def test_what_was_taken_once_or_never_has_no_rhythm():
    for name in ("interval", "overdue"):
        assert np.isnan(value(name)[0, 0]) and np.isnan(value(name)[0, 1])


def test_several_events_of_an_hour_are_no_rhythm_of_minutes():
    hour = replace(PERSONAL, span=np.array([1 / 24, 0, 0], np.float32))
    asked = replace(QUERIES, personal=hour)
    assert value("overdue", queries=asked)[0, 2] == 30


@pytest.mark.parametrize("span", [None, np.zeros(3, np.float32)])
def test_without_times_there_is_no_rhythm(span):
    asked = replace(QUERIES, personal=replace(PERSONAL, span=span))
    assert np.isnan(value("interval", queries=asked)[0, 2])


def test_how_new_an_item_is():
    corpus = CORPUS.append_column("_first_seen", pa.array([2.5, None, 9], pa.float32()))
    found = value("first_seen", corpus=corpus)
    assert (found[0, 0], found[0, 2]) == (2.5, 9)
    assert np.isnan(found[1, 1])
    assert np.isnan(value("first_seen")[0, 0]), "of a corpus that does not say it"


@pytest.mark.parametrize("slots", [0, 1 << 22])
def test_pairs_are_found_in_a_table_or_searched_for(monkeypatch, slots):
    monkeypatch.setattr("twinspire_core.ranking.pairs._SLOTS", slots)
    assert value("personal_age")[0, 2] == 30
    assert np.isnan(value("personal_age")[1, 0])


def test_in_words():
    assert described("interval", 12.0) == "usually taken every 12 days"
    assert described("interval", 1.2) == "usually taken every day"
    assert described("interval", 0.2) == "usually taken more than once a day"
    assert described("overdue", 0.2).startswith("not due yet")
    assert described("overdue", 1.1).startswith("due about now")
    assert described("overdue", 3.0).startswith("overdue: 3.0 times")
    assert described("first_seen", 0.5) == "new: first taken 12 hours ago"
    assert described("user_age", 4.0) == "the user last took something 4 days ago"
