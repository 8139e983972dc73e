"""The days of the quality benchmark, and which purchases are kept for the final judgement."""

import sys
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from benchmarks.quality import __main__, data, days, logs
from benchmarks.quality.days import JUDGED, LAST_OPEN, LOGS, Days


@pytest.mark.parametrize("of_log", LOGS.values(), ids=list(LOGS))
def test_all_that_is_chosen_on_lies_before_the_days_compared_on(of_log: Days) -> None:
    assert max(of_log.earlier) < min(of_log.development)
    for asked in (of_log.development, *of_log.judged.values()):
        steps = {later - day for day, later in pairwise(asked)}
        assert steps == {timedelta(days=1)}


def test_development_ends_before_the_first_judged_day() -> None:
    for of_shop in (LOGS["groceries"], LOGS["small-shop"]):
        assert max(of_shop.development) == LAST_OPEN == date(2017, 11, 19)
    assert min(JUDGED["second-stage"]) == date(2017, 11, 20)
    assert min(JUDGED["towers"]) == max(JUDGED["second-stage"]) + timedelta(days=1)
    assert {len(asked) for asked in JUDGED.values()} == {14}


def test_no_purchase_of_a_judged_day_is_laid_out_unless_a_person_says_so(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"up to 2017-11-19; 2017-11-20 was asked for.*--judge"):
        data.groceries(tmp_path, last=date(2017, 11, 20))
    with pytest.raises(SystemExit, match="up to 2017-12-03; 2017-12-04 was asked for"):
        data.groceries(tmp_path, last=date(2017, 12, 4), judge="second-stage")
    assert not list(tmp_path.iterdir())
    days.require_open(date(2017, 12, 3), "second-stage")


@pytest.mark.parametrize(
    ("judge", "last", "next_week"),
    [(None, date(2017, 11, 19), 8), ("second-stage", date(2017, 12, 3), 8)],
)
def test_a_week_is_asked_about_where_it_ends_on_an_open_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judge: str | None, last: date, next_week: int
) -> None:
    read: list[date] = []
    places = {table: str(tmp_path / table / "dt={date}") for table in ("events", "items", "users")}
    snapshot = Path(places["items"].format(date="2016-12-31"))
    snapshot.mkdir(parents=True)
    pl.DataFrame({"product_id": [1]}).write_parquet(snapshot / "rows.parquet")
    monkeypatch.setattr(data, "groceries", lambda *_, last, **__: read.append(last) or places)
    shop = logs.read("groceries", tmp_path, judge=judge)
    asked = [
        case.series for split in shop.splits(earlier=False, costly=False) for case in split.cases
    ]
    assert read == [last]
    assert asked.count("groceries/next-day") == 14
    assert asked.count("groceries/next-week") == next_week
    earlier = shop.splits(earlier=True, costly=False)
    assert [len(split.cases) for split in earlier] == [2, 2, 2]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--judge", "towers", "--case", "globo/next-day"], "globo/next-day"),
        (["--judge", "second-stage", "--tune"], "Nothing is chosen on judged days"),
        (["--judge", "second-stage", "--earlier"], "Nothing is chosen on judged days"),
    ],
)
def test_judged_days_are_for_the_judgement_alone(
    monkeypatch: pytest.MonkeyPatch, options: list[str], why: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["quality", *options])
    with pytest.raises(SystemExit, match=why):
        __main__.main()
