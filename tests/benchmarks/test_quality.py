"""Splits, lists and scores of the quality benchmark against answers made by hand."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from benchmarks.quality import (
    bench,
    contenders,
    data,
    figures,
    lists,
    peers,
    prepare,
    runs,
    splits,
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
    frame("_user _item _time", *events).write_parquet(tmp_path / "interactions.parquet")
    queries = frame(
        "_query _user _before", ("q1", "u1", ["a", "b", "c", "b"]), ("q2", "u2", ["x", "e"])
    )
    queries.write_parquet(tmp_path / "queries-toy-next-day.parquet")
    truth = frame("_query _truth", ("q1", ["d", "a"]), ("q2", ["e", "x"]))
    truth.write_parquet(tmp_path / "truth-toy-next-day.parquet")
    p = pipeline.load(ROOT / "pipelines" / "news.toml")
    split = Split(name="toy", file=tmp_path, last=DAY, settings={}, cases=(case,))
    return Prepared(split=split, pipeline=p, folder=tmp_path, features=tmp_path, digest="1")


def test_a_user_is_asked_once_and_only_with_a_past_and_something_to_find() -> None:
    wanted = frame(
        "_user _item", ("u1", "b"), ("u1", "a"), ("u1", "b"), ("new", "a"), ("no past", "a")
    )
    users = pl.DataFrame(
        {
            "_user": ["u1", "no past", "away"],
            "_past": [["z"]] * 3,
            "_past_events": [3, 0, 2],
            "_last_time": [0] * 3,
            "hour": [1, 2, 3],
        }
    )
    queries, truth = prepare.frozen_queries(wanted, users)
    assert queries.to_dicts() == [{"_user": "u1", "hour": 1, "_query": "u1"}]
    assert truth.to_dicts() == [{"_query": "u1", "_truth": ["a", "b"]}]


def test_an_event_is_asked_with_what_was_there_just_before_it() -> None:
    first, second = micros(2017, 10, 11, 8), micros(2017, 10, 11, 9)
    examples = pl.DataFrame(
        {
            "_user": ["u1", "u1", "u2"],
            "_item": ["a", "b", "c"],
            "_time": pl.Series([first, second, second]).cast(pl.Datetime("us", "UTC")),
            "_reward": [1.0] * 3,
            "_holdout": [False] * 3,
            "read": [["x"], ["x", "a"], []],
        }
    )
    wanted = frame("_user _item _time", ("u1", "b", second), ("u2", "c", second))
    queries, truth = prepare.event_queries(wanted, examples)
    assert queries["read"].to_list() == [["x", "a"], []]
    assert truth["_truth"].to_list() == [["b"], ["c"]]
    events = frame(
        "_user _item _time",
        ("u1", "x", 5),
        ("u1", "a", first),
        ("u1", "b", second),
        ("u2", "c", second),
    )
    before = prepare.with_before(queries, events)
    # The event itself and later ones are not known yet
    assert before["_before"].to_list() == [["x", "a"], []]


def test_without_a_moment_all_that_was_trained_on_is_known() -> None:
    queries = frame("_query _user", ("u1", "u1"))
    events = frame("_user _item _time", ("u1", "b", 2), ("u1", "a", 1), ("u2", "c", 1))
    assert prepare.with_before(queries, events)["_before"].to_list() == [["a", "b"]]


def test_the_last_click_of_a_session_with_two_clicks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = tmp_path / "dt=2017-10-11"
    day.mkdir()
    clicks = [
        (1, 10, 7, 1_000),
        (1, 10, 8, 2_000),
        (1, 11, 9, 3_000),
        (2, 20, 7, 1_000),
        (2, 20, 7, 500),
    ]
    frame("user_id session_id click_article_id click_timestamp", *clicks).write_parquet(
        day / "part-0.parquet"
    )
    monkeypatch.setattr(data, "globo", lambda *_, **__: str(tmp_path / "dt={date}"))
    split = splits.globo(tmp_path, quick=False, earlier=False)
    assert (split.last, split.settings["window.train_days"]) == (DAY, 10)
    next_day, last_click = split.cases
    assert last_click.wanted.sort("_user").rows() == [("1", "8", 2_000_000), ("2", "7", 1_000_000)]
    assert len(next_day.wanted) == 5


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
    split = splits.movielens_last_item(tmp_path, quick=False, earlier=earlier)
    assert split.cases[0].wanted.select("_user", "_item").sort("_user").rows() == sorted(wanted)
    assert [(user, item) for _, user, item in laid_out[0]] == trained


def test_a_global_split_trains_on_days_before_the_cut_only(tmp_path: Path, laid_out: list) -> None:
    with (tmp_path / "ml-100k.inter").open("w") as file:
        file.write("\n".join([*MOVIES, *(f"1\t{day}\t5\t{day * 86_400}" for day in range(1, 11))]))
    split = splits.movielens_global_time(tmp_path, quick=False, earlier=False)
    # Ten positives, one a day: the cut is the day of the eighth.
    assert split.last == date(1970, 1, 8)
    assert split.cases[0].wanted["_item"].to_list() == ["8", "9", "10"]
    assert split.asked == date(1970, 1, 11)
    before = splits.movielens_global_time(tmp_path, quick=False, earlier=True)
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


def test_lists_are_scored_by_query(ready: Prepared, tmp_path: Path) -> None:
    (case,) = ready.split.cases
    ranked = np.full((2, 100), -1)
    ranked[0, :2], ranked[1, :12] = [3, 4], [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 4]
    means, values = runs.score(ready, case, ranked, tmp_path)
    # q1 wants d and a, and gets d; q2 wants e and x, which no list can hold, and gets e after the
    # tenth place.
    assert values["recall@10"].tolist() == [0.5, 0]
    assert means["recall@10"] == 0.25
    assert means["recall@50"] == 0.5
    assert means["coverage@10"] == 1.0
    written = pl.read_parquet(tmp_path / "lists-toy-next-day.parquet")
    assert written.rows()[0] == ("q1", ["d", "e"])


def result(
    name: str,
    values: list[list[float]],
    rate: list[float] | None = None,
    case: str = "globo/next-day",
):
    arrays = [np.array(x) for x in values]
    means = {m: [float(x.mean()) for x in arrays] for m in figures.METRICS}
    user = np.arange(len(arrays[0]))
    return figures.Result(
        case=case,
        contender=name,
        means=means,
        values=arrays,
        user=user,
        seconds=[1.0],
        rate=rate or [],
    )


def test_the_mean_over_the_seeds_lies_within_its_interval() -> None:
    rng = np.random.default_rng(0)
    seeds = [rng.binomial(1, 0.3, 2000).astype(float) for _ in range(3)]
    (row, *_) = result("twinspire", seeds).rows()
    assert row["metric"] == "recall@50"
    assert row["value"] == pytest.approx(np.mean(seeds), abs=1e-4)
    # One seed's standard error would be sqrt(.3 * .7 / 2000) = .0102; of three independent ones
    # less, never more.
    assert 0.6 * 0.0102 / 3**0.5 < (row["high"] - row["low"]) / 4 < 0.0102


def test_a_seed_that_differs_widens_the_interval() -> None:
    same = result("twinspire", [[0.5] * 100] * 3)
    other = result("twinspire", [[0.4] * 100, [0.5] * 100, [0.6] * 100])
    assert np.ptp(same.draws) == 0
    assert np.ptp(other.draws) == pytest.approx(0.2)


def test_targets_are_ratios_of_what_is_compared() -> None:
    better = result("twinspire", [[0.4, 0.8]], [10.0])
    found = {
        str(t.what): t
        for t in targets.targets(
            [better, result("tfrs", [[0.2, 0.4]]), result("als", [[0.5, 0.6]])]
        )
    }
    tfrs = found["recall@50: twinspire / tfrs"]
    # The same draws: no noise in the ratio
    assert (tfrs.found, tfrs.low, tfrs.high) == pytest.approx((2, 2, 2))
    assert found["recall@50: twinspire / als"].found == pytest.approx(1.2 / 1.1)
    assert str(found["recall@50: twinspire / als"]).startswith("MISSED")


def test_the_pages_table_is_put_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "measurements.md"
    page.write_text(f"before\n{figures.BEGIN}\nold\n{figures.END}\nafter\n")
    figures.write_table(page, [result("tfrs", [[0.2] * 9]), result("twinspire", [[0.25] * 9])])
    told = page.read_text().splitlines()
    assert told[0] == "before" and told[-1] == "after" and "old" not in told
    assert "| twinspire | **0.250 ± 0.000** |" in told
    assert "| tfrs | 0.200 ± 0.000 |" in told


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
    monkeypatch.setattr(bench, "prepared", lambda *_: ready)
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
    assert asked == [("twinspire", 0), ("tfrs", 0), ("twinspire", 1), ("tfrs", 1)]
    monkeypatch.setattr(contenders, "fit", lambda *a: fit(a[0], a[1], a[2], 7, a[4]))
    *_, last = bench.run(plan)
    assert asked[4:] == [("tfrs", 7)]
    assert {r.contender: len(r.values) for r in last} == {
        "twinspire": 2,
        "twinspire/batch": 2,
        "tfrs": 2,
    }
    # Another temperature is another run; so is another input.
    assert runs.find(runs.place(tmp_path, ready, "twinspire", {}, 0))
    assert not runs.find(runs.place(tmp_path, ready, "twinspire", {"train.temperature": 0.3}, 0))
    assert not runs.find(runs.place(tmp_path, replace(ready, digest="2"), "twinspire", {}, 0))


@pytest.mark.parametrize("split", splits.SPLITS)
def test_all_settings_are_keys_of_a_pipeline_file(split: str) -> None:
    files = {"globo": "pipelines/news.toml", "groceries": "pipelines/groceries.toml"}
    p = pipeline.load(ROOT / files.get(split, "benchmarks/pipelines/movielens.toml"))
    for name in contenders.VARIANTS:
        prepare.override(p, contenders.chosen(name, split))
    for name in contenders.ENCODERS:
        settings = contenders.chosen(name, split)
        for key, values in contenders.ladders(name, split).items():
            for value in values:
                trained = prepare.override(
                    p, contenders.of_pipeline({**settings, key: value})
                ).train
                assert trained.history.pooling == "mean" and not trained.skip
                assert trained.query_layers == trained.item_layers


@pytest.mark.parametrize("split", sorted(set(splits.CASES.values())))
def test_what_was_chosen_stands_on_its_ladder(split: str) -> None:
    """So that tuning can go on from there."""
    for name in contenders.TUNED:
        settings = contenders.chosen(name, split)
        for key, ladder in contenders.ladders(name, split).items():
            assert key not in settings or settings[key] in ladder, (name, key)


def test_choices_that_were_made_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"globo": {"als": {"settings": {"model": "als", "factors": 7}}}}))
    monkeypatch.setattr(contenders, "CHOSEN", file)
    assert contenders.chosen("als", "globo")["factors"] == 7
    untuned = contenders.chosen("als", "groceries")
    assert (
        untuned["model"] == "als"
        and untuned["factors"] in contenders.ladders("als", "groceries")["factors"]
    )


@pytest.mark.parametrize(("from_a", "tries"), [(1, 4 + 2), (5, 2 + 2), (3, 2 + 2)])
def test_tuning_climbs_each_ladder_from_where_it_stands(
    monkeypatch: pytest.MonkeyPatch, from_a: int, tries: int
) -> None:
    """Of `a` 4 is best and of `b` 20: on until a step makes it worse, and down only if none up made
    it better.
    """
    tried: list[dict[str, int]] = []

    def score(plan: object, ready: object, name: str, settings: dict[str, int]) -> float:
        tried.append(dict(settings))
        return -abs(settings["a"] - 4) - abs(settings["b"] - 20) / 100

    monkeypatch.setattr(tune, "_try", score)
    monkeypatch.setattr(contenders, "start", lambda name, ready: {"a": from_a, "b": 20})
    monkeypatch.setattr(
        contenders, "ladders", lambda name, split: {"a": [1, 2, 3, 4, 5], "b": [10, 20, 30]}
    )
    ready = SimpleNamespace(split=SimpleNamespace(name="s"))
    found = tune._best(None, ready, "als")  # type: ignore[arg-type]
    assert found["settings"] == {"a": 4, "b": 20} and found["recall@50"] == 0
    assert len(tried) == 1 + tries == len(found["tried"])
