"""Lists of the quality benchmark, and their scores, against answers made by hand."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.quality import bench, contenders, lists, runs
from benchmarks.quality.prepare import Fitted, Prepared
from benchmarks.quality.splits import Case, Split
from tests.benchmarks.quality_rows import frame, micros
from twinspire_core.config import pipeline

ROOT = Path(__file__).resolve().parent.parent.parent


DAY = date(2017, 10, 10)


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
    asked = ("q1", "u1", ["a", "b", "c", "b"], 4), ("q2", "u2", ["x", "e"], 2)
    queries = frame("_query _user _before _earlier", *asked)
    queries.write_parquet(tmp_path / "queries-toy-next-day.parquet")
    truth = frame("_query _truth", ("q1", ["d", "a"]), ("q2", ["e", "x"]))
    truth.write_parquet(tmp_path / "truth-toy-next-day.parquet")
    p = pipeline.load(ROOT / "pipelines" / "news.toml")
    split = Split(name="toy", file=tmp_path, last=DAY, first=DAY, settings={}, cases=(case,))
    return Prepared(split=split, pipeline=p, folder=tmp_path, features=tmp_path, digest="1")


def test_popular_lists(ready: Prepared) -> None:
    (case,) = ready.split.cases
    # a 3, b 2, c 1; "gone" is not in the catalogue. Of the last day only c.
    assert lists.popular(ready, case)[:, :5].tolist() == [[0, 1, 2, 3, 4]] * 2
    assert lists.popular_lately(ready, case)[:, :3].tolist() == [[2, 0, 1]] * 2
    assert (lists.popular(ready, case)[:, 5:] == -1).all()


def test_user_history_is_ordered_by_count_then_by_recency(ready: Prepared) -> None:
    (case,) = ready.split.cases
    listed = lists.purchase_history(ready, case)
    assert listed[:, :5].tolist() == [[1, 2, 0, 3, 4], [4, 0, 1, 2, 3]]


def test_lists_are_scored_by_query_with_what_was_had_before_and_without(ready: Prepared) -> None:
    (case,) = ready.split.cases
    ranked = np.full((2, 100), -1)
    ranked[0, :2], ranked[1, :12] = [3, 4], [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 4]
    scores = runs.score(ready, case, Fitted({case.name: ranked}, 0.0))
    # q1 wants d and a, and gets d; q2 wants e and x, which no list can hold, and gets e after the
    # tenth place.
    assert scores["kept/recall@10"].tolist() == [0.5, 0]
    assert scores["kept/recall@50"].tolist() == [0.5, 0.5]
    assert scores["kept/coverage@50"] == 1.0
    # q1 had a, b and c: d and e are left. q2 had e, and finds nothing.
    assert scores["left out/recall@50"].tolist() == [0.5, 0]


def test_a_contenders_own_lists_without_what_was_had_count(ready: Prepared) -> None:
    (case,) = ready.split.cases
    lists_of = {case.name: np.full((2, 100), -1)}
    own = {case.name: np.tile(np.arange(100) % 5, (2, 1))}
    scores = runs.score(ready, case, Fitted(lists_of, 0.0, unseen=own))
    assert scores["kept/recall@50"].tolist() == [0, 0]
    assert scores["left out/recall@50"].tolist() == [1, 0.5]


def test_what_is_left_is_filled_up_with_what_is_popular(ready: Prepared) -> None:
    (case,) = ready.split.cases
    nothing = {case.name: np.full((2, 100), -1)}
    scores = runs.score(ready, case, Fitted(nothing, 0.0))
    # Of q1 d and e are left; of q2 all but e, which it wants.
    assert scores["left out/recall@50"].tolist() == [0.5, 0]


def test_a_run_that_is_done_is_not_done_again(
    ready: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple] = []

    def fit(name: str, prepared: Prepared, settings: dict, seed: int, work: Path) -> Fitted:
        asked.append((name, seed))
        if (name, seed) == ("tfrs", 1):
            raise KeyboardInterrupt
        ranked = np.tile(np.arange(100) % 5, (2, 1))
        return Fitted({case.name: ranked for case in prepared.split.cases}, 1.5)

    monkeypatch.setattr(contenders, "fit", fit)
    monkeypatch.setattr(bench, "prepared", lambda *_, **__: [ready])
    monkeypatch.setattr(bench, "CASES", {"toy/next-day": "toy"})
    monkeypatch.setattr(contenders, "chosen", lambda name, split: {})
    plan = bench.Plan(work=tmp_path, cases=["toy/next-day"], names=["ials", "tfrs"], seeds=2)
    with pytest.raises(KeyboardInterrupt):
        list(bench.run(plan))
    assert asked == [("ials", 0), ("ials", 1), ("tfrs", 0), ("tfrs", 1)]
    monkeypatch.setattr(contenders, "fit", lambda *a: fit(a[0], a[1], a[2], 7, a[4]))
    *_, last = bench.run(plan)
    assert asked[4:] == [("tfrs", 7)]
    every = {(name, kind): 2 for name in plan.names for kind in runs.KINDS}
    assert {(r.contender, r.kind): len(r.values) for r in last} == every
    assert last[0].cpu == [1.5, 1.5]
    # Another setting is another run; so is another input.
    assert runs.find(runs.run_folder(tmp_path, ready, "ials", {}, 0))
    assert not runs.find(runs.run_folder(tmp_path, ready, "ials", {"factors": 3}, 0))
    assert not runs.find(runs.run_folder(tmp_path, replace(ready, digest="2"), "ials", {}, 0))
