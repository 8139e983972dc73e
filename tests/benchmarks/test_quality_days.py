"""The days of the quality benchmark, as they were written down before anything was measured."""

from datetime import date, timedelta

import pytest

from benchmarks.quality.days import LOGS, Days


@pytest.mark.parametrize("days", LOGS.values(), ids=list(LOGS))
def test_all_that_is_chosen_on_lies_before_the_first_test_day(days: Days) -> None:
    last_truth = max(days.earlier) + timedelta(days=days.ahead - 1)
    assert last_truth < min(days.test)
    assert len({*days.earlier, *days.test}) == len(days.earlier) + len(days.test)


@pytest.mark.parametrize("days", LOGS.values(), ids=list(LOGS))
def test_test_days_follow_each_other(days: Days) -> None:
    steps = {later - day for day, later in zip(days.test, days.test[1:], strict=False)}
    assert steps == {timedelta(days=1)}


def test_there_are_two_weeks_of_groceries_and_four_days_of_clicks() -> None:
    assert len(LOGS["groceries"].test) == len(LOGS["small-shop"].test) == 14
    assert len(LOGS["globo"].test) == 4
    assert max(LOGS["globo"].test) == date(2017, 10, 16)
