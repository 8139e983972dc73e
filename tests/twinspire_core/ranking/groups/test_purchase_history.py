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


def test_two_events_around_midnight_are_no_rhythm_of_minutes():
    hour = replace(
        PERSONAL, span=np.array([1 / 24, 0, 0], np.float32), days=np.array([2, 1, 1], np.float32)
    )
    asked = replace(QUERIES, personal=hour)
    assert value("overdue", queries=asked)[0, 2] == 30


def test_rhythm_is_that_of_days():
    """Three times on two days."""
    twice = replace(PERSONAL, days=np.array([2, 1, 1], np.float32))
    assert value("interval", queries=replace(QUERIES, personal=twice))[0, 2] == 20


@pytest.mark.parametrize("name", ["interval", "personal_days", "user_visits", "user_first"])
def test_without_spans_and_days_there_is_no_rhythm(name):
    bare = replace(PERSONAL, span=None, days=None, visits=None)
    assert np.isnan(value(name, queries=replace(QUERIES, personal=bare))[0, 2])


@pytest.mark.parametrize(
    ("name", "taken", "new"),
    [
        ("personal_days", 3, 0),
        ("personal_day_share", 3 / 5, 0),
        ("personal_first", 50, np.nan),
        ("personal_rank", 0, np.nan),
        ("seen", 1, 0),
    ],
)
def test_what_is_known_of_an_item_that_the_user_took(name, taken, new):
    found = value(name)
    assert found[0, 2] == np.float32(taken)
    np.testing.assert_equal(found[0, 1], np.float32(new))


def test_what_was_taken_is_seen_also_where_nobody_counted():
    found = value("seen", queries=replace(QUERIES, personal=None))
    assert found == {(0, 0): 1, (0, 1): 0, (0, 2): 1, (1, 0): 0, (1, 1): 0}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("user_visits", np.log(6)),
        ("user_basket", 6 / 5),
        ("user_first", 50),
        ("user_interval", 49 / 4),
        ("user_overdue", 4 / 49),
    ],
)
def test_the_users_rhythm_is_that_of_the_days_with_any_event(name, wanted):
    found = value(name)
    assert found[0, 0] == found[0, 2] == np.float32(wanted)
    assert np.isnan(found[1, 0]), "of a newcomer nothing is known"


def test_how_users_take_an_item_again():
    corpus = CORPUS.append_column("_buyers", pa.array([7.0, None, 3.0], pa.float32()))
    corpus = corpus.append_column("_again", pa.array([0.25, None, 0.0], pa.float32()))
    corpus = corpus.append_column("_again_days", pa.array([9.0, None, None], pa.float32()))
    assert value("buyers", corpus=corpus)[0, 0] == np.float32(np.log(8))
    assert value("buyers", corpus=corpus)[0, 1] == 0
    assert value("again", corpus=corpus)[0, 0] == 0.25
    assert np.isnan(value("again", corpus=corpus)[0, 1]), "nobody took it"
    assert value("again_days", corpus=corpus)[0, 0] == 9
    assert np.isnan(value("again_days", corpus=corpus)[0, 2]), "nobody took it again"


def test_how_new_an_item_is():
    corpus = CORPUS.append_column("_first_seen", pa.array([2.5, None, 9], pa.float32()))
    found = value("first_seen", corpus=corpus)
    assert (found[0, 0], found[0, 2]) == (2.5, 9)
    assert np.isnan(found[1, 1])
    assert np.isnan(value("first_seen")[0, 0]), "of a corpus that does not say it"


def test_an_age_is_that_of_the_pair():
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
    assert described("personal_days", 3.0) == "taken on 3 days"
    assert described("again", 0.25) == "25% of what everybody takes of it is taken again"
    assert described("attribute_own:brand", 0.5) == "50% of what the user takes of this brand"
