"""What is trained on, and what is to be found: the cases of the benchmark, each on its test days
and on earlier ones.

Settings of contenders are chosen on the earlier days, never on the test days.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.quality import data
from benchmarks.quality.data import ROOT


@dataclass(frozen=True, kw_only=True)
class Case:
    """Queries that are put to every contender trained on a split.

    Attributes:
      name: `globo/next-day`.
      frozen: one query per user, as things stood at the end of training; else one per event, as
        they stood just before.
      wanted: what is to be found: `_user`, `_item`, and `_time` (microseconds since 1970) unless
        frozen.
    """

    name: str
    frozen: bool
    wanted: pl.DataFrame

    @property
    def days(self) -> tuple[date, date]:
        """First and last day of the events to be found, UTC."""
        times = self.wanted["_time"].cast(pl.Datetime("us")).dt.date()
        return times.min(), times.max()  # type: ignore[return-value]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Days to train on.

    Attributes:
      name: of the data set, or of the split where a data set has several.
      file: its pipeline file.
      last: the last day trained on.
      asked: the last day that queries as of an event are taken from, if there are any.
      settings: of the pipeline file, put over it for every contender: places, windows.
      less: further settings in a quick run, of our own contenders and of peers that train alike.
      cases: what is asked.
    """

    name: str
    file: Path
    last: date
    asked: date | None = None
    settings: Mapping[str, Any]
    less: Mapping[str, Any] = field(default_factory=dict)
    cases: tuple[Case, ...]


def globo(work: Path, *, quick: bool, earlier: bool) -> Split:
    """Trained on all days before the test day: that day by user, and the last click of each of its
    sessions.
    """
    day = date(2017, 10, 9) if earlier else date(2017, 10, 11)
    train_days = 3 if quick else (day - date(2017, 10, 1)).days
    place = data.globo(work / "globo", sample=16 if quick else 1)
    clicks = pl.read_parquet(place.format(date=day) + "/*.parquet").select(
        pl.col("user_id").cast(pl.String).alias("_user"),
        pl.col("click_article_id").cast(pl.String).alias("_item"),
        (pl.col("click_timestamp") * 1000).alias("_time"),
        "session_id",
    )
    sessions = clicks.sort("_time", "_item").group_by("_user", "session_id", maintain_order=True)
    last_clicks = sessions.agg(pl.len().alias("n"), pl.col("_item", "_time").last()).filter(
        pl.col("n") >= 2
    )
    return Split(
        name="globo",
        file=ROOT / "pipelines" / "news.toml",
        last=day - timedelta(days=1),
        asked=day,
        settings={"source.events": place, "window.train_days": train_days},
        less={"train.epochs": 1, "train.batch_size": 256},
        cases=(
            Case(name="globo/next-day", frozen=True, wanted=clicks.drop("session_id")),
            Case(name="globo/last-click", frozen=False, wanted=last_clicks.drop("session_id", "n")),
        ),
    )


def groceries(work: Path, *, quick: bool, earlier: bool) -> Split:
    """Trained on the 60 days before: what each household buys on the next day, and within the next
    week.
    """
    day = date(2017, 9, 21) if earlier else date(2017, 10, 15)
    places = data.groceries(work / "groceries")
    days = [day + timedelta(days=n) for n in range(7)]
    bought = pl.concat(
        pl.read_parquet(places["events"].format(date=of) + "/*.parquet").select(
            pl.col("household_id").cast(pl.String).alias("_user"),
            pl.col("product_id").cast(pl.String).alias("_item"),
            pl.lit(of).alias("_day"),
            pl.col("transaction_timestamp").cast(pl.Datetime("us")).cast(pl.Int64).alias("_time"),
        )
        for of in days
    )
    return Split(
        name="groceries",
        file=ROOT / "pipelines" / "groceries.toml",
        last=day - timedelta(days=1),
        settings={
            **{f"source.{table}": place for table, place in places.items()},
            "window.train_days": 7 if quick else 60,
        },
        less={"train.epochs": 1},
        cases=(
            Case(
                name="groceries/next-day",
                frozen=True,
                wanted=bought.filter(pl.col("_day") == day).drop("_day"),
            ),
            Case(name="groceries/next-week", frozen=True, wanted=bought.drop("_day")),
        ),
    )


def movielens_global_time(work: Path, *, quick: bool, earlier: bool) -> Split:
    """Trained on the first 80% of the positives: each later one, from all that its user liked
    before it.

    Earlier: trained on 70%, up to 80%.
    """
    raw = data.movielens_raw(work / "movielens")
    liked = data.movielens_liked(raw).with_columns(
        pl.from_epoch("timestamp").dt.date().alias("_day")
    )
    last_row = len(liked) - 1
    if earlier:
        cut = liked["_day"][int(0.7 * last_row)]
        end = liked["_day"][int(0.8 * last_row)]
    else:
        cut = liked["_day"][int(0.8 * last_row)]
        end = liked["_day"][last_row] + timedelta(days=1)
    places = data.movielens(work / "movielens" / "all", liked.drop("_day"), raw)
    tested = liked.filter(pl.col("_day").is_between(cut, end, closed="left"))
    last = liked.filter(pl.col("_day") < cut)["_day"].max()
    return Split(
        name="ml-100k/global-time",
        file=ROOT / "benchmarks" / "pipelines" / "movielens.toml",
        last=last,
        asked=tested["_day"].max(),
        settings={f"source.{table}": place for table, place in places.items()},
        less={"train.epochs": 2},
        cases=(Case(name="ml-100k/global-time", frozen=False, wanted=_wanted(tested)),),
    )


def movielens_last_item(work: Path, *, quick: bool, earlier: bool) -> Split:
    """Trained on all but the last positive of each user, which is to be found.

    Earlier: the last one is left out for good, and the one before it is to be found. Such a split
    shows a model other users' future.
    """
    raw = data.movielens_raw(work / "movielens")
    liked = data.movielens_liked(raw)
    from_end = pl.int_range(pl.len()).reverse().over("user_id")
    place = 1 if earlier else 0
    tested = liked.filter(from_end == place)
    kept = liked.filter(from_end > place)
    places = data.movielens(
        work / "movielens" / ("last-but-one" if earlier else "last-item"), kept, raw
    )
    return Split(
        name="ml-100k/last-item",
        file=ROOT / "benchmarks" / "pipelines" / "movielens.toml",
        last=kept.select(pl.from_epoch("timestamp").dt.date().max()).item(),
        settings={f"source.{table}": place for table, place in places.items()},
        less={"train.epochs": 2},
        cases=(Case(name="ml-100k/last-item", frozen=True, wanted=_wanted(tested)),),
    )


SPLITS: Mapping[str, Callable[..., Split]] = {
    "globo": globo,
    "groceries": groceries,
    "ml-100k/global-time": movielens_global_time,
    "ml-100k/last-item": movielens_last_item,
}
CASES: Mapping[str, str] = {
    "globo/next-day": "globo",
    "globo/last-click": "globo",
    "groceries/next-day": "groceries",
    "groceries/next-week": "groceries",
    "ml-100k/global-time": "ml-100k/global-time",
    "ml-100k/last-item": "ml-100k/last-item",
}
"""The split of each case."""


def _wanted(liked: pl.DataFrame) -> pl.DataFrame:
    return liked.select(
        pl.col("user_id").cast(pl.String).alias("_user"),
        pl.col("item_id").cast(pl.String).alias("_item"),
        (pl.col("timestamp") * 1_000_000).alias("_time"),
    )
