"""Counts of the features job: added up by what they count, written once, and gone once they are read."""

from datetime import date

import pytest

from beam_jobs.features.counters import COUNTERS, Count, Counted, Counters, count
from twinspire_core.errors import UsageError

DAY = date(2024, 5, 1)


def test_counts_of_the_same_thing_add_up():
    counters = Counters(
        [
            count(Counted.GOOD, "events", DAY, 3),
            count(Counted.GOOD, "items", DAY, 50),
            count(Counted.GOOD, "events", DAY, 4),
            count(Counted.REJECTED, "events", DAY, 1, "time is missing | or odd"),
            count(Counted.REJECTED, "events", DAY, 2, "a"),
            count(Counted.REJECTED, "events", DAY, 5, "time is missing | or odd"),
        ]
    )
    assert counters.of(Counted.GOOD, "events", DAY) == 7
    assert counters.of(Counted.GOOD, "users", DAY) == 0
    rejected = counters.by_detail(Counted.REJECTED, "events", DAY)
    assert list(rejected.items()) == [("a", 2), ("time is missing | or odd", 6)]


def test_they_are_read_once(tmp_path):
    Counters([count(Counted.TYPES, "events", DAY, 2, "a\tb")]).write(str(tmp_path))
    counters = Counters.take(str(tmp_path))
    assert counters.of(Counted.TYPES, "events", DAY, "a\tb") == 2
    assert not (tmp_path / COUNTERS).exists()
    with pytest.raises(UsageError, match="every worker sees"):
        Counters.take(str(tmp_path))


def test_a_count_travels_as_text_and_a_number():
    assert [type(value) for value in count(Counted.LATE, "events", DAY, 1)] == [str] * 4 + [int]
    assert count(Counted.LATE, "events", DAY, 1) == Count("late", "events", "2024-05-01", "", 1)
