"""Splits, lists and scores of the quality benchmark against answers made by hand."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.quality import (
    bench,
    contenders,
    data,
    figures,
    lists,
    log,
    logs,
    peers,
    prepare,
    report,
    runs,
    search_space,
    splits,
    tables,
    targets,
    tune,
)
from benchmarks.quality.ours import Fitted
from benchmarks.quality.prepare import Prepared
from benchmarks.quality.splits import Case, Split
from twinspire_core.config import pipeline

ROOT = Path(__file__).resolve().parent.parent.parent
DAY = date(2017, 10, 10)


def micros(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp() * 1_000_000)


def frame(names: str, *rows: tuple) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=names.split(), orient="row")


@pytest.fixture
def ready(tmp_path: Path) -> Prepared:
    """Five items, three users; in the zone UTC-3 the last day begins at 03:00 UTC."""
    events = [
        ("u1", "a", micros(2017, 10, 9, 12)),
        ("u2", "a", micros(2017, 10, 9, 13)),
        ("u3", "a", micros(2017, 10, 9, 14)),
        ("u1", "b", micros(2017, 10, 10, 2)),  # still the day before
        ("u2", "b", micros(2017, 10, 10, 2, 30)),
        ("u1", "c", micros(2017, 10, 10, 3)),
        ("u1", "gone", micros(2017, 10, 10, 4)),
        ("u2", "gone", micros(2017, 10, 10, 4)),
    ]
    case = Case(name="toy/next-day", frozen=True, wanted=frame("_user _item", ("u1", "d")))
    pl.DataFrame({"_item": ["a", "b", "c", "d", "e"]}).write_parquet(tmp_path / "corpus.parquet")
    frame("_user _item _time", *events).write_parquet(tmp_path / "log.parquet")
    queries = frame(
        "_query _user _before _earlier",
        ("q1", "u1", ["a", "b", "c", "b"], 4),
        ("q2", "u2", ["x", "e"], 2),
    )
    queries.write_parquet(tmp_path / "queries-toy-next-day.parquet")
    truth = frame("_query _truth", ("q1", ["d", "a"]), ("q2", ["e", "x"]))
    truth.write_parquet(tmp_path / "truth-toy-next-day.parquet")
    p = pipeline.load(ROOT / "pipelines" / "news.toml")
    split = Split(name="toy", file=tmp_path, last=DAY, settings={}, cases=(case,))
    return Prepared(split=split, pipeline=p, folder=tmp_path, features=tmp_path, digest="1")


def test_a_user_is_asked_once_for_all_that_is_taken() -> None:
    wanted = frame("_user _item", ("u1", "b"), ("u1", "a"), ("u1", "b"), ("new", "a"))
    queries, truth = prepare.frozen_queries(wanted)
    assert queries.rows() == [("new", "new"), ("u1", "u1")]
    assert truth.rows() == [("new", ["a"]), ("u1", ["a", "b"])]


def test_an_event_is_asked_with_what_was_there_just_before_it() -> None:
    first, second = micros(2017, 10, 11, 8), micros(2017, 10, 11, 9)
    wanted = pl.DataFrame(
        {
            "_user": ["u1", "u2"],
            "_item": ["b", "c"],
            "_time": [second, second],
            "device": ["phone", "desk"],
        }
    )
    queries, truth = prepare.event_queries(wanted)
    assert queries["device"].to_list() == ["phone", "desk"]
    assert truth["_truth"].to_list() == [["b"], ["c"]]
    events = frame(
        "_user _item _time",
        ("u1", "x", 5),
        ("u1", "a", first),
        ("u1", "b", second),
        ("u2", "c", second),
    )
    before = prepare.with_before(log.with_history(queries, events, datetime.now(UTC)))
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
    split = logs.globo(clicks, quick=False).splits(earlier=False, costly=True)[0]
    assert (split.last, split.asked) == (date(2017, 10, 12), date(2017, 10, 13))
    next_day, last_click = split.cases
    asked = last_click.wanted.sort("_user")
    assert asked["_item"].to_list() == ["8", "7"]
    assert asked["_time"].to_list() == [1507900002_000_000, 1507900001_000_000]
    assert last_click.context == ["environment", "device", "os", "country", "region", "referrer"]
    assert len(next_day.wanted) == 5 and next_day.of == "globo/next-day"


def test_a_split_is_laid_out_without_the_events_that_it_is_asked_for(clicks: Path) -> None:
    split = logs.globo(clicks, quick=False).splits(earlier=False, costly=False)[0]
    ready = prepare.prepare(split, clicks / "split")
    next_day, last_click = split.cases
    assert ready.log()["_item"].to_list() == ["6"]
    assert ready.corpus()["_item"].to_list() == ["6"]
    asked = ready.queries(next_day).sort("_user")
    assert asked["_user"].to_list() == ["1", "2"] and asked["_earlier"].to_list() == [1, 0]
    assert ready.queries(last_click).sort("_user")["_before"].to_list() == [["6", "7"], ["8"]]


def test_costly_contenders_are_trained_once_a_week_and_asked_each_day() -> None:
    test = [date(2017, 11, 6) + timedelta(days=n) for n in (0, 1, 2, 3, 4, 5, 6, 7, 9)]
    asked = Case(name="x", frozen=True, wanted=frame("_user _item _time", ("u", "i", 1)))
    shop = splits.Log(
        name="shop",
        file=Path(),
        settings={},
        less={},
        events=pl.DataFrame(schema={"_day": pl.Date}),
        items=None,
        test=test,
        earlier=[],
        cases=lambda day: [replace(asked, name=f"x {day}", day=day)],
    )
    weekly = shop.splits(earlier=False, costly=True)
    assert [len(split.cases) for split in weekly] == [7, 1, 1]
    assert [split.last for split in weekly] == [test[n] - timedelta(days=1) for n in (0, 7, 8)]
    daily = shop.splits(earlier=False, costly=False)
    assert [case.name for split in weekly for case in split.cases] == [
        case.name for split in daily for case in split.cases
    ]


def test_a_small_shop_is_always_the_same_households() -> None:
    events = pl.DataFrame({"household_id": [1, 2, 3, 4, 5, 1, 2], "n": range(7)})
    kept = data.thinned(events, "household_id", 2)
    assert kept["household_id"].n_unique() == 2
    # Whatever their order is, and with other users beside; each with all events
    shuffled = data.thinned(events.sample(7, shuffle=True, seed=1), "household_id", 2)
    assert shuffled.sort("n").equals(kept)
    assert len(kept) == len(
        events.filter(pl.col("household_id").is_in(kept["household_id"].unique().to_list()))
    )
    more = set(data.thinned(events, "household_id", 3)["household_id"])
    assert set(kept["household_id"]) < more


MOVIES = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
DAYS = [
    f"{u}\t{i}\t{r}\t{t * 86_400}"
    for u, i, r, t in [(1, 5, 5, 3), (1, 6, 4, 9), (1, 7, 3, 10), (2, 5, 4, 1)]
]


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
    films = logs.movielens_last_item(tmp_path, quick=False, earlier=earlier)
    (split,) = films.splits(earlier=earlier, costly=False)
    assert split.cases[0].wanted.select("_user", "_item").sort("_user").rows() == sorted(wanted)
    assert [(user, item) for _, user, item in laid_out[0]] == trained


def test_a_global_split_trains_on_days_before_the_cut_only(tmp_path: Path, laid_out: list) -> None:
    with (tmp_path / "ml-100k.inter").open("w") as file:
        file.write("\n".join([*MOVIES, *(f"1\t{day}\t5\t{day * 86_400}" for day in range(1, 11))]))
    films = logs.movielens_global_time(tmp_path, quick=False)
    (split,) = films.splits(earlier=False, costly=False)
    # Ten positives, one a day: the cut is the day of the eighth.
    assert split.last == date(1970, 1, 8)
    assert split.cases[0].wanted["_item"].to_list() == ["8", "9", "10"]
    assert split.asked == date(1970, 1, 11)
    (before,) = films.splits(earlier=True, costly=False)
    assert before.cases[0].wanted["_item"].to_list() == ["7"]
    assert before.last == date(1970, 1, 7)


def test_popular_lists(ready: Prepared) -> None:
    (case,) = ready.split.cases
    # a 3, b 2, c 1; "gone" is not in the catalogue. Of the last day only c.
    assert lists.popular(ready, case)[:, :5].tolist() == [[0, 1, 2, 3, 4]] * 2
    assert lists.popular_lately(ready, case)[:, :3].tolist() == [[2, 0, 1]] * 2
    assert (lists.popular(ready, case)[:, 5:] == -1).all()


def test_a_users_own_past_goes_by_number_then_by_recency(ready: Prepared) -> None:
    (case,) = ready.split.cases
    found = lists.past(ready, case)
    assert found[:, :5].tolist() == [[1, 2, 0, 3, 4], [4, 0, 1, 2, 3]]


def test_short_lists_are_filled_up() -> None:
    given, more = (
        np.array([[5, -1, -1], [1, 2, 3], [-1, -1, -1]]),
        np.array([[5, 6, 7], [9, 9, 9], [8, -1, -1]]),
    )
    assert peers.filled_up(given, more).tolist() == [[5, 6, 7], [1, 2, 3], [8, -1, -1]]


def test_lists_are_scored_by_query_with_what_was_had_before_and_without(ready: Prepared) -> None:
    (case,) = ready.split.cases
    ranked = np.full((2, 100), -1)
    ranked[0, :2], ranked[1, :12] = [3, 4], [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 4]
    found = runs.score(ready, case, Fitted({case.name: ranked}, 0.0))
    # q1 wants d and a, and gets d; q2 wants e and x, which no list can hold, and gets e after the
    # tenth place.
    assert found["kept/recall@10"].tolist() == [0.5, 0]
    assert found["kept/recall@50"].tolist() == [0.5, 0.5]
    assert found["kept/coverage@50"] == 1.0
    # q1 had a, b and c: d and e are left. q2 had e, and finds nothing.
    assert found["left out/recall@50"].tolist() == [0.5, 0]


def test_a_contenders_own_lists_without_what_was_had_count(ready: Prepared) -> None:
    (case,) = ready.split.cases
    lists_of = {case.name: np.full((2, 100), -1)}
    own = {case.name: np.tile(np.arange(100) % 5, (2, 1))}
    found = runs.score(ready, case, Fitted(lists_of, 0.0, unseen=own))
    assert found["kept/recall@50"].tolist() == [0, 0]
    assert found["left out/recall@50"].tolist() == [1, 0.5]


def test_what_is_left_is_filled_up_with_what_is_popular(ready: Prepared) -> None:
    (case,) = ready.split.cases
    nothing = {case.name: np.full((2, 100), -1)}
    found = runs.score(ready, case, Fitted(nothing, 0.0))
    # Of q1 d and e are left; of q2 all but e, which it wants.
    assert found["left out/recall@50"].tolist() == [0.5, 0]


def result(
    name: str,
    values: list[list[float]],
    user: Sequence[str] | None = None,
    earlier: Sequence[int] | None = None,
    case: str = "globo/next-day",
) -> figures.Result:
    n = len(values[0])
    return figures.Result(
        case=case,
        kind="kept",
        counts=True,
        contender=name,
        values=[{m: np.array(seed) for m in figures.METRICS} for seed in values],
        coverage=0.1,
        user=np.array(user or [f"u{i}" for i in range(n)]),
        earlier=np.array(earlier or [9] * n),
        settings={"a": 1},
        seconds=[1.0],
        rate=[],
    )


def test_the_mean_over_the_seeds_lies_within_its_interval() -> None:
    rng = np.random.default_rng(0)
    seeds = [rng.binomial(1, 0.3, 2000).astype(float).tolist() for _ in range(3)]
    row = result("twinspire/mix", seeds).row()
    assert row["recall@50"] == pytest.approx(np.mean(seeds), abs=1e-4)
    # One seed's standard error would be sqrt(.3 * .7 / 2000) = .0102; of three independent ones
    # less, never more.
    assert 0.6 * 0.0102 / 3**0.5 < (row["high"] - row["low"]) / 4 < 0.0102


def test_a_seed_that_differs_widens_the_interval() -> None:
    same = result("tfrs", [[0.5] * 100] * 3)
    other = result("tfrs", [[0.4] * 100, [0.5] * 100, [0.6] * 100])
    assert np.ptp(same.draws) == 0
    assert np.ptp(other.draws) == pytest.approx(0.2)


def test_a_users_queries_of_all_days_are_resampled_together() -> None:
    rng = np.random.default_rng(4)
    user = rng.integers(0, 40, 400).astype(str)
    # What a user finds is much alike on all days
    values = (user.astype(int) % 4 / 4 + rng.random(400) / 20).tolist()
    found = result("als", [values], user=user.tolist())
    names = np.unique(user)
    slow = []
    for _ in range(2000):
        drawn = rng.choice(names, len(names))
        rows = np.concatenate([np.flatnonzero(user == name) for name in drawn])
        slow.append(np.mean(np.array(values)[rows]))
    assert found.interval == pytest.approx(np.quantile(slow, [0.025, 0.975]).tolist(), abs=0.012)
    # As if all 400 were users of their own it would be less than half as wide
    alone = result("als", [values]).interval
    assert alone[1] - alone[0] < 0.5 * (found.interval[1] - found.interval[0])


def test_a_ratios_interval_is_that_of_pairs() -> None:
    rng = np.random.default_rng(5)
    below = rng.random(300)
    above = 1.1 * below + rng.normal(0, 0.01, 300)
    ratio = figures.ratio(result("a", [above.tolist()]), result("b", [below.tolist()]))
    slow = []
    for _ in range(2000):
        rows = rng.integers(300, size=300)
        slow.append(above[rows].mean() / below[rows].mean())
    assert ratio[0] == pytest.approx(above.mean() / below.mean())
    assert ratio[1:] == pytest.approx(np.quantile(slow, [0.025, 0.975]).tolist(), abs=0.0015)


def test_what_is_served_is_compared_with_the_best_peer_of_earlier_days_in_each_slice() -> None:
    earlier = [0, 3, 3, 9] * 20 + [30]
    mix = result("twinspire/served", [[0.1, 0.4, 0.8, 0.5] * 20 + [0.1]], earlier=earlier)
    als = result("als", [[0.2, 0.2, 0.4, 0.4] * 20 + [0.1]], earlier=earlier)
    ease = result("ease", [[0.0, 0.9, 0.9, 0.9] * 20 + [0.1]], earlier=earlier)
    found = targets.targets([mix, als, ease], {("globo/next-day", "kept"): ["als"]})
    assert [(t.below, t.aim) for t in found if t.users == "all"] == [("als", 1.05), ("ease", 1.0)]
    of = {t.users: t for t in found if t.best}
    assert {t.below for t in of.values()} == {"als"}
    assert len(found) == len(of) + 1  # of other peers no slices
    assert of["all"].found == pytest.approx(34.1 / 20.1, rel=1e-4)  # the newcomers aside
    assert of["new"].found == pytest.approx(0.5) and of["new"].surely_below
    assert of["1-4"].found == pytest.approx(2.0) and of["1-4"].verdict == "reached"
    assert of["20+"].verdict == "too few"
    assert of["new"].verdict == "MISSED by 0.500"


def test_a_target_is_reached_only_if_it_is_sure() -> None:
    rng = np.random.default_rng(6)
    low = rng.random(50)
    noisy = 1.2 * rng.permutation(low)
    found = targets.targets(
        [result("twinspire/served", [noisy.tolist()]), result("als", [low.tolist()])],
        {("globo/next-day", "kept"): ["als"]},
    )
    assert found[0].found == pytest.approx(1.2) and not found[0].surely_above
    assert found[0].verdict == "MISSED: not surely above 1"


def test_the_pages_tables_are_put_between_their_marks() -> None:
    mix = result("twinspire/served", [[0.25] * 9])
    als = replace(result("als", [[0.2] * 9]), weekly=True)
    best = {("globo/next-day", "kept"): ["als"]}
    reached = targets.targets([mix, als], best)
    told = json.loads(json.dumps(report.told([mix, als], reached, best)))
    page = "before\n<!-- quality: begin -->\nold\n<!-- quality: end -->\nafter\n"
    page += "<!-- quality ratios: begin --><!-- quality ratios: end -->"
    lines = tables.with_tables(page, told).splitlines()
    assert lines[0] == "before" and "after" in lines and "old" not in lines
    assert "| twinspire/served | **0.250 ± 0.000** |" in lines
    assert "| als | 0.200 ± 0.000* |" in lines
    ratio = "1.250 (1.25 to 1.25) | 1.05 | reached |"
    assert f"| globo/next-day, seen kept | 0.250 | als | 0.200 | {ratio}" in lines


def test_a_best_peer_that_was_not_asked_beside_what_is_served_has_no_interval() -> None:
    mix = result("twinspire/served", [[0.25] * 9])
    als = result("als", [[0.2] * 9])
    best = {("globo/next-day", "kept"): ["als", "ease"]}
    told = report.told([mix], [], best)
    apart = report.merged(report.told([als], [], best), told)
    lines = tables.ratios_table(apart).splitlines()
    assert (
        "| globo/next-day, seen kept | 0.250 | als | 0.200 | 1.250, not asked together | | |"
        in lines
    )
    assert "| globo/next-day, seen kept | 0.250 | ease |  | not measured | | |" in lines
    assert "| als | 1.250, apart |" in tables.peers_table(apart)


def test_what_is_served_is_shown_over_each_peer_and_our_encoder_over_tfrs() -> None:
    two = [result(name, [[0.3] * 9]) for name in ("twinspire/served", "twinspire/mean")]
    peers_ = [result(name, [[0.2] * 9]) for name in ("als", "tfrs")]
    told = json.loads(json.dumps(report.told([*two, *peers_], targets.targets(two + peers_, {}))))
    assert "| als | 1.500 (1.50 to 1.50) |" in tables.peers_table(told)
    row = "twinspire/mean | tfrs | 1.500 (1.50 to 1.50) | reached |"
    assert f"| globo/next-day, seen kept | {row}" in tables.two_towers_table(told)


def test_results_of_other_cases_and_contenders_stay() -> None:
    def row(case: str, name: str, **more: object) -> dict[str, object]:
        return {"case": case, "kind": "kept", "contender": name, **more}

    def ratio(name: str, **more: object) -> dict[str, object]:
        return {"case": "b", "kind": "kept", "users": "all", "above": "x", "below": name, **more}

    before = {
        "figures": [row("a", "x"), row("b", "x", old=True), row("b", "als")],
        "ratios": [ratio("als", old=True), ratio("ease")],
    }
    new = report.merged({"figures": [row("b", "x")], "ratios": [ratio("als")]}, before)
    assert new["figures"] == [row("a", "x"), row("b", "als"), row("b", "x")]
    assert new["ratios"] == [ratio("ease"), ratio("als")]


def test_the_pages_say_what_the_committed_results_say() -> None:
    if not report.RESULTS.exists():
        pytest.skip("there are no results yet")
    found = json.loads(report.RESULTS.read_text())
    for page in (report.README, report.MEASUREMENTS):
        text = page.read_text()
        assert "quality" in text and tables.with_tables(text, found) == text


def test_a_run_that_is_done_is_not_done_again(
    ready: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple] = []

    def fit(name: str, prepared: Prepared, settings: dict, seed: int, work: Path) -> Fitted:
        asked.append((name, seed))
        if (name, seed) == ("tfrs", 1):
            raise KeyboardInterrupt
        ranked = np.tile(np.arange(100) % 5, (2, 1))
        return Fitted({case.name: ranked for case in prepared.split.cases}, 1.5, 100.0)

    monkeypatch.setattr(contenders, "fit", fit)
    monkeypatch.setattr(bench, "prepared", lambda *_, **__: [ready])
    monkeypatch.setattr(bench, "CASES", {"toy/next-day": "toy"})
    monkeypatch.setattr(contenders, "chosen", lambda name, split: contenders.VARIANTS.get(name, {}))
    plan = bench.Plan(
        work=tmp_path,
        cases=["toy/next-day"],
        names=["twinspire", "twinspire/batch", "tfrs"],
        seeds=2,
    )
    with pytest.raises(KeyboardInterrupt):
        list(bench.run(plan))
    # The news pipeline corrects as the paper does: twinspire and twinspire/batch are one run.
    assert asked == [("twinspire", 0), ("twinspire", 1), ("tfrs", 0), ("tfrs", 1)]
    monkeypatch.setattr(contenders, "fit", lambda *a: fit(a[0], a[1], a[2], 7, a[4]))
    *_, last = bench.run(plan)
    assert asked[4:] == [("tfrs", 7)]
    assert {(r.contender, r.kind): len(r.values) for r in last} == {
        (name, kind): 2 for name in plan.names for kind in runs.KINDS
    }
    # Another temperature is another run; so is another input.
    assert runs.find(runs.place(tmp_path, ready, "twinspire", {}, 0))
    assert not runs.find(runs.place(tmp_path, ready, "twinspire", {"train.temperature": 0.3}, 0))
    assert not runs.find(runs.place(tmp_path, replace(ready, digest="2"), "twinspire", {}, 0))


@pytest.mark.parametrize("split", logs.LOGS)
def test_all_settings_are_keys_of_a_pipeline_file(split: str) -> None:
    shop = "pipelines/groceries.toml"
    files = {"globo": "pipelines/news.toml", "groceries": shop, "small-shop": shop}
    p = pipeline.load(ROOT / files.get(split, "benchmarks/pipelines/movielens.toml"))
    for name in contenders.VARIANTS:
        prepare.override(p, contenders.chosen(name, split))
    for name in contenders.ENCODERS:
        settings = contenders.chosen(name, split)
        for key, values in search_space.ladders(name, split).items():
            for value in values:
                trained = prepare.override(
                    p, contenders.of_pipeline({**settings, key: value})
                ).train
                assert trained.history.pooling == "mean" and not trained.skip
                assert trained.query_layers == trained.item_layers


@pytest.mark.parametrize("split", sorted(set(logs.CASES.values())))
def test_what_was_chosen_stands_on_its_ladder(split: str) -> None:
    """So that tuning can go on from there."""
    for name in contenders.TUNED:
        settings = contenders.chosen(name, split)
        for key, ladder in search_space.ladders(name, split).items():
            assert key not in settings or settings[key] in ladder, (name, key)


def test_choices_that_were_made_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"globo": {"als": {"settings": {"model": "als", "factors": 7}}}}))
    monkeypatch.setattr(contenders, "CHOSEN", file)
    assert contenders.chosen("als", "globo")["factors"] == 7
    untuned = contenders.chosen("als", "groceries")
    assert (
        untuned["model"] == "als"
        and untuned["factors"] in search_space.ladders("als", "groceries")["factors"]
    )


GRID = {"a": [1, 2, 3, 4, 5], "b": [10, 20, 30]}


def tries(start: dict[str, int], most: int) -> list[tuple[dict[str, int], float]]:
    """Of `a` 4 is best and of `b` 20."""
    return tune.search(start, GRID, lambda s: -abs(s["a"] - 4) - abs(s["b"] - 20) / 100, most)


@pytest.mark.parametrize("from_a", [1, 3, 5])
def test_tuning_goes_to_the_best_neighbour_and_never_tries_twice(from_a: int) -> None:
    tried = tries({"a": from_a, "b": 30}, 12)
    assert max(tried, key=lambda one: one[1])[0] == {"a": 4, "b": 20}
    assert len(tried) == 12 == len({str(settings) for settings, _ in tried})


def test_every_contender_has_as_many_trials_or_tries_all_there_is() -> None:
    assert len(tries({"a": 1, "b": 10}, 99)) == 15
    assert len(tune.search({"a": 1}, {"a": [1, 2, 3]}, lambda s: 0.0, 12)) == 3
    assert len(tune.search({}, {}, lambda s: 0.0, 12)) == 1


def test_committed_trials_are_as_many_for_all() -> None:
    for split, of_log in contenders.all_chosen().items():
        for name, told in of_log.items():
            if "trials" not in told:
                assert told["chosen_before"]  # and it is told in the decision
                continue
            possible = 1
            for ladder in search_space.ladders(name, split).values():
                possible *= len(ladder)
            # Fewer of those that take minutes each, and it is told in the decision.
            most = told.get("most_trials", bench.TRIALS)
            assert len(told["trials"]) == min(most, possible), (split, name)
            best = max(told["trials"], key=lambda trial: trial["recall@50"])
            assert told["settings"] == best["settings"]


def test_the_best_peer_is_that_of_the_earlier_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.json"
    found = {"als": 0.3, "past": 0.4, "twinspire/mean": 0.9}
    told = {
        name: {"settings": {}, "found": {"globo/next-day": {"kept": x, "left out": 1 - x}}}
        for name, x in found.items()
    }
    file.write_text(json.dumps({"globo": told}))
    monkeypatch.setattr(contenders, "CHOSEN", file)
    assert tune.best_peers() == {
        ("globo/next-day", "kept"): ["past"],
        ("globo/next-day", "left out"): ["als"],
    }


def test_beside_a_best_peer_that_reads_the_day_stands_the_best_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.json"
    found = {"popular_decayed": 0.9, "past": 0.4, "als": 0.3}
    told = {
        name: {"settings": {}, "found": {f"globo/{case}": {"kept": x} for case in cases}}
        for name, x in found.items()
        for cases in [("next-day", "last-click")]
    }
    file.write_text(json.dumps({"globo": told}))
    monkeypatch.setattr(contenders, "CHOSEN", file)
    assert tune.best_peers() == {
        ("globo/next-day", "kept"): ["popular_decayed"],
        ("globo/last-click", "kept"): ["popular_decayed", "past"],
    }
