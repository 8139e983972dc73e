"""The contender `trees`: features by hand, and that no list knows the day it is asked about."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.quality import trees
from benchmarks.quality.prepare import Prepared
from benchmarks.quality.splits import Case, Split
from tests.benchmarks.quality_rows import frame
from twinspire_core.config import pipeline

ROOT = Path(__file__).resolve().parent.parent.parent
ITEMS = [f"i{n:03}" for n in range(120)]
LAST = date(2017, 11, 7)  # a Tuesday: the trees are Monday's


def prepared(folder: Path, events: pl.DataFrame, asked: list[str]) -> Prepared:
    """Events are `_user`, `_item`, `_day`; each happened at noon in New York."""
    snapshot = folder / "items" / "dt=2016-12-31"
    snapshot.mkdir(parents=True, exist_ok=True)
    kind = [f"kind {n % 4}" for n in range(len(ITEMS))]
    products = {"product_id": ITEMS, **dict.fromkeys(trees.ATTRIBUTES, kind)}
    pl.DataFrame(products).write_parquet(snapshot / "rows.parquet")
    pl.DataFrame({"_item": ITEMS}).write_parquet(folder / "corpus.parquet")
    noon = pl.col("_day").cast(pl.Datetime("us")).dt.replace_time_zone("America/New_York")
    events = events.with_columns((noon.dt.offset_by("12h")).dt.epoch("us").alias("_time"))
    events.filter(pl.col("_day") <= LAST).drop("_day").write_parquet(folder / "log.parquet")
    case = Case(name="groceries/next-day 2017-11-08", frozen=True, wanted=pl.DataFrame())
    queries = pl.DataFrame({"_user": asked, "_before": [[]] * len(asked)})
    queries.write_parquet(folder / "queries-groceries-next-day-2017-11-08.parquet")
    p = pipeline.load(ROOT / "pipelines" / "groceries.toml")
    settings = {"source.items": str(folder / "items" / "dt={date}")}
    asks = {"last": LAST, "first": LAST, "cases": (case,), "events": events}
    split = Split(name="groceries", file=folder, settings=settings, **asks)
    return Prepared(split=split, pipeline=p, folder=folder, features=folder, digest="1")


def bought(*rows: tuple[str, str, int]) -> pl.DataFrame:
    """Purchases by how many days before the day asked about."""
    day = LAST + timedelta(days=1)
    events = [(user, item, day - timedelta(days=ago)) for user, item, ago in rows]
    return frame("_user _item _day", *events)


def test_features_are_those_of_the_start_of_the_day(tmp_path: Path) -> None:
    others = [(f"v{n}", ITEMS[n], 3) for n in range(1, 120)]
    events = bought(("u", "i000", 21), ("u", "i000", 11), ("u", "i000", 0), *others)
    shop = trees.Shop.of(prepared(tmp_path, events, ["u"]))
    rows = shop.before(LAST + timedelta(days=1)).rows(shop.users_of(pl.Series(["u"])))
    row = rows.row(by_predicate=pl.col("item") == 0, named=True)
    # At noon of the days before, half a day less than the days; New York's clocks went back once.
    ages = np.array([20.5, 10.5])
    assert row["own_60"] == pytest.approx((0.5 ** (ages / 60)).sum(), rel=2e-3)
    assert (row["own"], row["own_days"], row["own_share"]) == (2, 2, 1.0)
    assert row["gap"] == pytest.approx(10, abs=0.05)
    assert row["due"] == pytest.approx(1.05, abs=0.01)
    assert (row["sold_7"], row["sold_28"], row["item_gap"], row["item_repeats"]) == (0, 2, 10, 0.5)
    assert row["trips"] == 2 and row["weekday"] == 2
    unbought = rows.filter(pl.col("item") > 0)
    assert len(rows) >= trees.CANDIDATES and unbought["own"].null_count() == len(unbought)


def test_no_list_knows_the_day_it_is_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees, "TREES", 20)
    monkeypatch.setattr(trees, "ROW_DAYS", 7)
    rng = np.random.default_rng(0)
    habits = {f"u{n:02}": rng.choice(120, 4, replace=False) for n in range(30)}
    rows = [
        (user, ITEMS[item if rng.random() < 0.8 else rng.integers(120)], ago)
        for ago in range(1, 60)
        for user, items in habits.items()
        for item in items
        if rng.random() < 0.5
    ]
    lists = []
    for name, today in (("a", []), ("b", [(user, "i119", 0) for user in habits])):
        ready = prepared(tmp_path / name, bought(*rows, *today), [*habits, "stranger"])
        (found,) = trees.fit(ready, 0, tmp_path / name).ranked.values()
        lists.append(found)
    assert np.array_equal(*lists)
    yesterday = replace(ready, split=replace(ready.split, last=LAST - timedelta(days=1)))
    trees.fit(yesterday, 0, tmp_path / "b")
    assert len(list((tmp_path / "b" / trees.NAME).iterdir())) == 1  # of one Monday
    each = zip(habits.values(), lists[0], strict=False)
    assert np.mean([set(items) <= set(found[:8]) for items, found in each]) > 0.9
    assert len(set(lists[0][-1][:100])) == 100  # a stranger gets what is popular
