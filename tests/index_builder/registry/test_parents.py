from datetime import date, timedelta

import pytest

from index_builder.registry.parents import Choice, Standing, choose_best, standings
from index_builder.registry.version_log import State
from twinspire_core.contracts.day_metrics import MeasuredDay

DAY = date(2024, 3, 31)


def named(back):
    return f"{DAY - timedelta(days=back)}-00000000"


def line(*heights):
    """Versions of the days before, the oldest first."""
    return [Standing(named(len(heights) - n), height) for n, height in enumerate(heights)]


def choose(of_line, day=DAY, stored=lambda version: True, **state):
    known = {"fate": {one.version: "accepted" for one in of_line}} | state
    return choose_best(of_line, State(**known), day, stored)


def test_the_running_sum_starts_at_the_oldest_baseline():
    metric = "recall@50"
    days = {
        "2024-03-12": MeasuredDay(against="b", differences={metric: -0.5}),
        "2024-03-11": MeasuredDay(against="a", differences={metric: 0.25, "mrr": 9.0}),
        "2024-03-13": MeasuredDay(against="c"),  # nobody was held out
    }
    ranking = standings(days, "d", metric)
    assert ranking == [("a", 0.0), ("b", 0.25), ("c", -0.25), ("d", -0.25)]
    assert standings({}, "d", metric) == [("d", 0.0)]


@pytest.mark.parametrize(
    ("heights", "back", "ahead"),
    [
        ((0.0, 0.2, 0.1, 0.05), 3, 0.15),
        ((0.0, 0.1, 0.2), 1, 0.0),
        ((0.2, 0.1, 0.2), 1, 0.0),  # the newest of equals
        ((0.2, 0.2, 0.1), 2, 0.1),
        ((0.0,), 1, 0.0),
    ],
)
def test_the_highest_is_the_best(heights, back, ahead):
    assert choose(line(*heights)) == Choice(named(back), pytest.approx(ahead), ())


def test_thirty_days_count_from_the_day():
    of_line = [Standing(named(31), 0.9), Standing(named(30), 0.5), Standing(named(1), 0.0)]
    assert choose(of_line).version == named(30)
    assert choose(of_line, DAY - timedelta(days=1)).version == named(31)
    assert choose(of_line, DAY + timedelta(days=1)).version == named(1)
    # A version of the day itself, or of a later one, is no version before it
    assert choose(line(0.1, 0.9, 0.0), DAY - timedelta(days=2)).version == named(3)
    # However long ago the parent was: there is nothing else
    assert choose(of_line[:1], DAY + timedelta(days=99)).version == named(31)


def test_a_version_that_was_rolled_back_or_refused_is_not_the_best():
    of_line = line(0.3, 0.2, 0.1)
    fate = {named(3): "rolled back", named(2): "accepted", named(1): "accepted"}
    assert choose(of_line, fate=fate) == Choice(named(2), pytest.approx(0.1), ())


def test_better_versions_with_deleted_files_are_reported():
    of_line = line(0.3, 0.2, 0.1, 0.0)
    assert choose(of_line, pruned={named(4)}).gone == (named(4),)
    assert choose(of_line, stored=lambda version: version == named(2)) == Choice(
        named(2), pytest.approx(0.1), (named(4), named(3))
    )
    assert choose(of_line, stored=lambda version: False) == Choice(
        named(1), 0.0, (named(4), named(3), named(2))
    )
    assert choose(line(0.3, 0.4), pruned={named(2)}).gone == (), "lower ones are not missed"


def test_the_memory_restarts_where_somebody_overruled_the_gate():
    of_line = line(0.9, 0.2, 0.3, 0.1)
    assert choose(of_line, overruled={named(3)}).version == named(2)
    assert choose(of_line, overruled={named(1)}).version == named(1)
