"""The logs of the benchmark, their events, and the cases of each day."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from beam_jobs.ingest import day_files
from beam_jobs.ingest.timestamps import to_instants
from benchmarks.quality import data, days
from benchmarks.quality.data import ROOT
from benchmarks.quality.splits import Case, Log
from twinspire_core.config import pipeline
from twinspire_core.config.feature_kinds import CategoryFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.settings import override

_SCHEMA = {"_user": pl.String, "_item": pl.String, "_time": pl.Int64}


def events_of(p: Pipeline, first: date, last: date, *more: pl.Expr) -> pl.DataFrame:
    """`_user`, `_item`, `_time` (microseconds since 1970, UTC) and further columns of all events of some
    days, by time. Duplicates count once. Days without a folder have no events.
    """
    days = (first + timedelta(days=n) for n in range((last - first).days + 1))
    files = [Path(file.uri) for day in days for file in day_files.files(p, "events", day)]
    tables = [_read(p, file, more) for file in files]
    events = pl.concat(tables) if tables else pl.DataFrame(schema=_SCHEMA)
    return events.unique().sort("_time", "_user", "_item")


def _read(p: Pipeline, file: Path, more: Sequence[pl.Expr]) -> pl.DataFrame:
    columns = p.columns
    rows = pl.read_parquet(file)
    return rows.select(
        pl.col(columns.user).cast(pl.String).alias("_user"),
        pl.col(columns.item).cast(pl.String).alias("_item"),
        to_instants(rows[columns.time], columns.time_unit, p.zone).alias("_time"),
        *more,
    )


def with_days(events: pl.DataFrame, p: Pipeline) -> pl.DataFrame:
    """Adds `_day`, the calendar day of `_time` in the pipeline's zone."""
    clock = pl.col("_time").cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(str(p.zone))
    return events.with_columns(clock.dt.date().alias("_day"))


def globo(work: Path, *, judge: str | None = None) -> Log:
    """Trained on all days before. Cases: the items that each reader opens on the next day, and the last
    click of each session of that day.
    """
    path = data.globo(work / "globo")
    p = pipeline.load(ROOT / "pipelines" / "news.toml")
    asked = days.GLOBO.asked(judge)
    known = {
        name: feature.column or name
        for name, feature in p.tower("query").items()
        if isinstance(feature, CategoryFeature)
    }
    context = [pl.col(column).cast(pl.String).alias(name) for name, column in known.items()]
    session = pl.col("session_id").alias("_session")
    p = override(p, {"source.events": path})
    clicks = with_days(events_of(p, date(2017, 10, 1), max(asked), session, *context), p)

    def cases(day: date) -> Iterable[Case]:
        day_clicks = clicks.filter(pl.col("_day") == day).drop("_day")
        opened = day_clicks.select("_user", "_item", "_time")
        yield Case(name=f"globo/next-day {day}", frozen=True, wanted=opened, day=day)
        sessions = day_clicks.sort("_time", "_item").group_by(
            "_user", "_session", maintain_order=True
        )
        last = sessions.agg(pl.len().alias("_clicks"), pl.col("_item", "_time", *known).last())
        last = last.filter(pl.col("_clicks") >= 2).drop("_session", "_clicks")
        yield Case(name=f"globo/last-click {day}", frozen=False, wanted=last, day=day)

    return Log(
        name="globo",
        file=ROOT / "pipelines" / "news.toml",
        settings={"source.events": path},
        events=clicks.select("_user", "_item", "_time", "_day"),
        items=None,
        test=asked,
        earlier=days.GLOBO.earlier,
        cases=cases,
        weekly=False,  # articles are read for a few days only
        chained=7,
        most=5_000,
    )


def groceries(work: Path, *, judge: str | None = None) -> Log:
    """Cases: the purchases of each household on the next day, and in the next week."""
    return _groceries("groceries", work, judge=judge, households=None)


def small_shop(work: Path, *, judge: str | None = None) -> Log:
    """The same for 600 households."""
    return _groceries("small-shop", work, judge=judge, households=600)


def _groceries(name: str, work: Path, *, judge: str | None, households: int | None) -> Log:
    asked = days.GROCERIES.asked(judge)
    last = max(asked)
    paths = data.groceries(work / name, households=households, last=last, judge=judge)
    file = ROOT / "pipelines" / "groceries.toml"
    p = override(pipeline.load(file), {"source.events": paths["events"]})
    bought = with_days(events_of(p, date(2017, 1, 1), last), p)

    def cases(day: date) -> Iterable[Case]:
        for case, until in (("next-day", day), ("next-week", day + timedelta(days=6))):
            if until <= last:  # later purchases must not be read
                wanted = bought.filter(pl.col("_day").is_between(day, until)).drop("_day")
                yield Case(name=f"{name}/{case} {day}", frozen=True, wanted=wanted, day=day)

    snapshot = pl.read_parquet(paths["items"].format(date="2016-12-31") + "/*.parquet")
    return Log(
        name=name,
        file=file,
        settings={f"source.{table}": path for table, path in paths.items()},
        events=bought,
        items=snapshot["product_id"].cast(pl.String).unique().sort(),
        test=asked,
        earlier=days.GROCERIES.earlier,
        cases=cases,
        chained=2,
    )


def movielens_global_time(work: Path, *, judge: str | None = None) -> Log:
    """Trained on the first 80% of the positives. Cases: each later positive, given its user's earlier ones.

    Earlier days: trained on 70%, tested on those up to 80%.
    """
    raw = data.movielens_raw(work / "movielens")
    liked = data.movielens_liked(raw)
    paths = data.movielens(work / "movielens" / "all", liked, raw)
    events = _liked(liked)
    last_row = len(events) - 1
    cuts = [events["_day"][int(share * last_row)] for share in (0.7, 0.8)]
    ends = dict(zip(cuts, [cuts[1], events["_day"][last_row] + timedelta(days=1)], strict=True))

    def cases(day: date) -> Iterable[Case]:
        tested = events.filter(pl.col("_day").is_between(day, ends[day], closed="left"))
        name = f"ml-100k/global-time {day}"
        yield Case(name=name, frozen=False, wanted=tested.drop("_day"), day=day)

    return _films("ml-100k/global-time", paths, raw, events, (cuts[1],), (cuts[0],), cases)


def movielens_last_item(work: Path, *, earlier: bool) -> Log:
    """Trained on all except the last positive of each user, which is the case.

    Earlier: the last positive is left out, and the one before it is the case. Such a split shows other
    users' future to a model.
    """
    raw = data.movielens_raw(work / "movielens")
    liked = data.movielens_liked(raw)
    from_end = pl.int_range(pl.len()).reverse().over("user_id")
    number = 1 if earlier else 0
    tested = _liked(liked.filter(from_end == number))
    kept = liked.filter(from_end > number)
    folder = work / "movielens" / ("last-but-one" if earlier else "last-item")
    paths = data.movielens(folder, kept, raw)
    events = _liked(kept)
    day = events["_day"].max() + timedelta(days=1)  # type: ignore[operator]

    def cases(day: date) -> Iterable[Case]:
        name = f"ml-100k/last-item {day}"
        yield Case(name=name, frozen=True, wanted=tested.drop("_day"), day=day)

    return _films("ml-100k/last-item", paths, raw, events, (day,), (day,), cases)


def _films(
    name: str,
    paths: Mapping[str, str],
    raw: Path,
    events: pl.DataFrame,
    test: Sequence[date],
    earlier: Sequence[date],
    cases: Callable[[date], Iterable[Case]],
) -> Log:
    films = data.movielens_films(raw)
    return Log(
        name=name,
        file=ROOT / "benchmarks" / "pipelines" / "movielens.toml",
        settings={f"source.{table}": path for table, path in paths.items()},
        events=events,
        items=films,
        test=test,
        earlier=earlier,
        cases=cases,
    )


def read(name: str, work: Path, *, earlier: bool = False, judge: str | None = None) -> Log:
    """Writes a log's files, and reads the log."""
    if name == "ml-100k/last-item":
        return movielens_last_item(work, earlier=earlier)
    return LOGS[name](work, judge=judge)


LOGS: Mapping[str, Callable[..., Log]] = {
    "globo": globo,
    "groceries": groceries,
    "small-shop": small_shop,
    "ml-100k/global-time": movielens_global_time,
    "ml-100k/last-item": movielens_last_item,
}
CASES: Mapping[str, str] = {
    "globo/next-day": "globo",
    "globo/last-click": "globo",
    "groceries/next-day": "groceries",
    "groceries/next-week": "groceries",
    "small-shop/next-day": "small-shop",
    "small-shop/next-week": "small-shop",
    "ml-100k/global-time": "ml-100k/global-time",
    "ml-100k/last-item": "ml-100k/last-item",
}
"""The log of each case."""


def is_judged(case: str) -> bool:
    """Whether a case has days for a final judgement. Other cases have only development days."""
    log = days.LOGS.get(CASES[case])
    return log is not None and bool(log.judged)


def _liked(liked: pl.DataFrame) -> pl.DataFrame:
    return liked.select(
        pl.col("user_id").cast(pl.String).alias("_user"),
        pl.col("item_id").cast(pl.String).alias("_item"),
        (pl.col("timestamp") * 1_000_000).alias("_time"),
        pl.from_epoch("timestamp").dt.date().alias("_day"),
    ).sort("_time", "_user", "_item")
