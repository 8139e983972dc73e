"""Splits of the quality benchmark: what is asked, and what is trained on, of logs made by hand."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from benchmarks.quality import data, logs, prepare, runs, splits
from benchmarks.quality.splits import Case
from tests.benchmarks.quality_rows import frame, micros


def test_a_user_is_asked_once_for_all_that_is_taken() -> None:
    wanted = frame("_user _item", ("u1", "b"), ("u1", "a"), ("u1", "b"), ("new", "a"))
    queries, truth = prepare.frozen_queries(wanted)
    assert queries.rows() == [("new", "new"), ("u1", "u1")]
    assert truth.rows() == [("new", ["a"]), ("u1", ["a", "b"])]


def test_an_event_is_asked_with_what_was_there_just_before_it() -> None:
    first, second = micros(2017, 10, 11, 8), micros(2017, 10, 11, 9)
    clicks = ("u1", "b", second, "phone"), ("u2", "c", second, "desk")
    wanted = frame("_user _item _time device", *clicks)
    queries, truth = prepare.event_queries(wanted)
    assert queries["device"].to_list() == ["phone", "desk"]
    assert truth["_truth"].to_list() == [["b"], ["c"]]
    log = ("u1", "x", 5), ("u1", "a", first), ("u1", "b", second), ("u2", "c", second)
    events = frame("_user _item _time", *log)
    before = prepare.with_before(prepare.with_history(queries, events, datetime.now(UTC)))
    # The event itself and later ones are not known yet; u2 is new
    assert before["_before"].to_list() == [["x", "a"], []]
    assert before["_earlier"].to_list() == [2, 0]


@pytest.fixture
def clicks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two days of clicks, in the zone UTC-3."""
    context = "click_environment click_deviceGroup click_os click_country click_region"
    columns = f"user_id session_id click_article_id click_timestamp {context} click_referrer_type"
    rows = {
        "2017-10-12": [(1, 9, 6, 1507820000_000)],
        "2017-10-13": [
            (1, 10, 7, 1507900001_000),
            (1, 10, 8, 1507900002_000),
            (1, 11, 9, 1507900003_000),
            (2, 20, 7, 1507900001_000),
            (2, 20, 8, 1507900000_500),
        ],
    }
    for day, of_day in rows.items():
        (tmp_path / f"dt={day}").mkdir()
        made = frame(columns, *((*row, 4, 1, 2, 3, 5, 6) for row in of_day))
        made.write_parquet(tmp_path / f"dt={day}" / "part-0.parquet")
    monkeypatch.setattr(data, "globo", lambda *_, **__: str(tmp_path / "dt={date}"))
    return tmp_path


def test_the_last_click_of_a_session_with_two_clicks(clicks: Path) -> None:
    split = logs.globo(clicks).splits(earlier=False, costly=True)[0]
    assert (split.last, split.asked) == (date(2017, 10, 12), date(2017, 10, 13))
    next_day, last_click = split.cases
    asked = last_click.wanted.sort("_user")
    assert asked["_item"].to_list() == ["8", "7"]
    assert asked["_time"].to_list() == [1507900002_000_000, 1507900001_000_000]
    assert last_click.context == ["environment", "device", "os", "country", "region", "referrer"]
    assert len(next_day.wanted) == 5 and next_day.series == "globo/next-day"


def test_a_split_is_laid_out_without_the_events_that_it_is_asked_for(clicks: Path) -> None:
    split = logs.globo(clicks).splits(earlier=False, costly=False)[0]
    ready = prepare.prepare(split, clicks / "split")
    next_day, last_click = split.cases
    assert ready.log()["_item"].to_list() == ["6"]
    assert ready.corpus()["_item"].to_list() == ["6"]
    asked = ready.queries(next_day).sort("_user")
    assert asked["_user"].to_list() == ["1", "2"] and asked["_earlier"].to_list() == [1, 0]
    assert ready.queries(last_click).sort("_user")["_before"].to_list() == [["6", "7"], ["8"]]


@pytest.mark.parametrize(
    ("key", "value", "who"),
    [
        ("sources.use", ["two_tower"], {"twinspire/served"}),
        ("train.epochs", 9, {"twinspire/served"}),
        ("vocabulary.min_events", 7, {"twinspire/served", "vstan"}),
    ],
)
def test_another_pipeline_file_rebuilds_only_what_depends_on_it(
    clicks: Path, key: str, value: object, who: set[str]
) -> None:
    split = logs.globo(clicks).splits(earlier=False, costly=False)[0]

    def places(settings: dict[str, object]) -> dict[str, Path]:
        changed = replace(split, settings={**split.settings, **settings})
        ready = prepare.prepare(changed, clicks / "split")
        names = ("twinspire/served", "vstan")
        return {name: runs.run_folder(clicks, ready, name, {}, 0) for name in names}

    before, after = places({}), places({key: value})
    assert {name for name in before if before[name] != after[name]} == who


def test_costly_contenders_are_trained_once_a_week_and_asked_each_day() -> None:
    test = [date(2017, 11, 6) + timedelta(days=n) for n in (0, 1, 2, 3, 4, 5, 6, 7, 9)]
    asked = Case(name="x", frozen=True, wanted=frame("_user _item _time", ("u", "i", 1)))
    nothing = {"settings": {}, "events": pl.DataFrame(schema={"_day": pl.Date}), "items": None}
    days = {"test": test, "earlier": []}
    days["cases"] = lambda day: [replace(asked, name=f"x {day}", day=day)]
    shop = splits.Log(name="shop", file=Path(), **nothing, **days)
    weekly = shop.splits(earlier=False, costly=True)
    assert [len(split.cases) for split in weekly] == [7, 1, 1]
    assert [split.last for split in weekly] == [test[n] - timedelta(days=1) for n in (0, 7, 8)]
    daily = shop.splits(earlier=False, costly=False)
    names = ([case.name for split in some for case in split.cases] for some in (weekly, daily))
    assert next(names) == next(names)


def test_a_small_shop_is_always_the_same_households() -> None:
    events = pl.DataFrame({"household_id": [1, 2, 3, 4, 5, 1, 2], "n": range(7)})
    kept = data.thinned(events, "household_id", 2)
    assert kept["household_id"].n_unique() == 2
    # Whatever their order is, and with other users; each with all events
    shuffled = data.thinned(events.sample(7, shuffle=True, seed=1), "household_id", 2)
    assert shuffled.sort("n").equals(kept)
    own = pl.col("household_id").is_in(kept["household_id"].unique().to_list())
    assert len(kept) == len(events.filter(own))
    more = set(data.thinned(events, "household_id", 3)["household_id"])
    assert set(kept["household_id"]) < more


MOVIES = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
LIKED = [(1, 5, 5, 3), (1, 6, 4, 9), (1, 7, 3, 10), (2, 5, 4, 1)]
DAYS = [f"{user}\t{item}\t{rating}\t{day * 86_400}" for user, item, rating, day in LIKED]


@pytest.fixture
def laid_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[tuple]]:
    """MovieLens in small, and the events that were laid out, by user and item."""
    (tmp_path / "ml-100k.inter").write_text("\n".join([*MOVIES, *DAYS, f"2\t6\t5\t{12 * 86_400}"]))
    kept: list[list[tuple]] = []
    monkeypatch.setattr(data, "movielens_raw", lambda _: tmp_path)
    monkeypatch.setattr(data, "movielens_films", lambda _: pl.Series(["5", "6"]))
    monkeypatch.setattr(data, "movielens", lambda _, liked, __: kept.append(liked.rows()) or {})
    return kept


@pytest.mark.parametrize(
    ("earlier", "wanted", "trained"),
    [
        (False, [("1", "6"), ("2", "6")], [("2", "5"), ("1", "5")]),
        (True, [("2", "5"), ("1", "5")], []),
    ],
)
def test_the_last_positive_of_each_film_lover_is_left_out(
    tmp_path: Path, laid_out: list, earlier: bool, wanted: list, trained: list
) -> None:
    if earlier:  # somebody has to be left to train on
        trained = [("3", "9")]
        with (tmp_path / "ml-100k.inter").open("a") as file:
            file.write("".join(f"\n3\t{i}\t5\t{i * 86_400}" for i in (9, 10, 11)))
        wanted = [*wanted, ("3", "10")]
    films = logs.movielens_last_item(tmp_path, earlier=earlier)
    (split,) = films.splits(earlier=earlier, costly=False)
    assert split.cases[0].wanted.select("_user", "_item").sort("_user").rows() == sorted(wanted)
    assert [(user, item) for _, user, item in laid_out[0]] == trained


def test_a_global_split_trains_on_days_before_the_cut_only(tmp_path: Path, laid_out: list) -> None:
    with (tmp_path / "ml-100k.inter").open("w") as file:
        file.write("\n".join([*MOVIES, *(f"1\t{day}\t5\t{day * 86_400}" for day in range(1, 11))]))
    films = logs.movielens_global_time(tmp_path)
    (split,) = films.splits(earlier=False, costly=False)
    # Ten positives, one a day: the cut is the day of the eighth.
    assert split.last == date(1970, 1, 8)
    assert split.cases[0].wanted["_item"].to_list() == ["8", "9", "10"]
    assert split.asked == date(1970, 1, 11)
    (before,) = films.splits(earlier=True, costly=False)
    assert before.cases[0].wanted["_item"].to_list() == ["7"]
    assert before.last == date(1970, 1, 7)
