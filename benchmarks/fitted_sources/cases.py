"""The logs that sources are measured on, and what is asked of them."""

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.fitted_sources.moments import DAY, Asked, Case, Log
from benchmarks.quality import data
from twinspire_core.search.ragged import Ragged

_LONGEST = 500


def next_day(log: Log, day: int, most: int = 10_000) -> Asked:
    """A query for each user with a past and an event of the day, as of its start."""
    on_day = np.flatnonzero(log.day == day)
    pair = np.unique(log.user[on_day] * log.items + log.item[on_day])
    user, item = np.divmod(pair, log.items)
    first = np.searchsorted(log.user, np.arange(log.user.max() + 2))
    before = np.bincount(log.user[log.day < day], minlength=len(first) - 1)
    users = np.unique(user)
    users = users[before[users] > 0]
    if len(users) > most:
        users = np.sort(np.random.default_rng(0).choice(users, most, replace=False))
    asked = np.isin(user, users)
    high = first[users] + before[users]
    return Asked(
        low=np.maximum(first[users], high - _LONGEST),
        high=high,
        now=np.full(len(users), day * DAY),
        user=users,
        truth=Ragged(item[asked], np.searchsorted(users, user[asked]), len(users)),
    )


def _of_events(log: Log, events: np.ndarray, most: int) -> Asked:
    """A query for each event: what the user did strictly before it."""
    if len(events) > most:
        events = np.sort(np.random.default_rng(0).choice(events, most, replace=False))
    user = log.user[events]
    low = np.searchsorted(log.user, user)
    span = int(log.time.max()) - int(log.time.min()) + 1
    key = log.user * span + (log.time - log.time.min())
    high = np.searchsorted(key, key[events])
    known = high > low
    events, user, low, high = events[known], user[known], low[known], high[known]
    return Asked(
        low=np.maximum(low, high - _LONGEST),
        high=high,
        now=log.time[events],
        user=user,
        truth=Ragged(log.item[events], np.arange(len(events)), len(events)),
    )


def last_clicks(log: Log, day: int) -> Asked:
    """The last click of each session of the day with two or more."""
    assert log.session is not None
    on_day = np.flatnonzero(log.day == day)
    frame = pl.DataFrame({"session": log.session[on_day], "event": on_day})
    last = frame.group_by("session").agg(pl.len(), pl.col("event").max()).filter(pl.col("len") > 1)
    return _of_events(log, last["event"].sort().to_numpy(), 4000)


def all_until(end: int, log: Log, day: int) -> Asked:
    """Each event from the day on, up to the start of another day."""
    events = np.flatnonzero((log.day >= day) & (log.day < end))
    return _of_events(log, events, 4000)


def groceries(work: Path, sample: int = 1) -> Case:
    """Next-day purchases of six days, fitted on the seven before: of fourteen where households are
    few.
    """
    raw = data.groceries_raw() / "transactions.parquet"
    events = pl.read_parquet(raw).select(
        pl.col("household_id").cast(pl.Int64).alias("u"),
        pl.col("product_id").cast(pl.Int64).alias("i"),
        pl.col("transaction_timestamp").cast(pl.Datetime("us")).cast(pl.Int64).alias("t"),
    )
    log = Log.of(events.filter(pl.col("u") % sample == 0))
    few = sample > 1
    return Case(
        log=log,
        fitted=_days(date(2017, 9, 20 if few else 26), 13 if few else 7),
        tested=_days(date(2017, 10, 3), 14 if few else 6),
        history_days=60,
        personal_days=280,
        count_days=28,
        train_days=60,
        corpus_days=None,
        ask=next_day,
    )


def _clicks() -> Log:
    raw = pl.read_parquet(data.CLICKS).select(
        pl.col("user_id").alias("u"),
        pl.col("click_article_id").alias("i"),
        (pl.col("click_timestamp") * 1000 - 3 * DAY // 24).alias("t"),
        pl.col("session_id").alias("s"),
    )
    return Log.of(raw)


def news(work: Path, ask: Callable[[Log, int], Asked]) -> Case:
    """Two days of clicks, fitted on the one before them."""
    return Case(
        log=_clicks(),
        fitted=_days(date(2017, 10, 10), 1),
        tested=_days(date(2017, 10, 11), 2),
        history_days=15,
        personal_days=15,
        count_days=7,
        train_days=7,
        corpus_days=7,
        ask=ask,
    )


def films(work: Path) -> Case:
    """Films liked in the last fifth of the time, fitted on the tenth before it; seen left out."""
    liked = data.movielens_liked(data.movielens_raw(work)).select(
        pl.col("user_id").alias("u"),
        pl.col("item_id").alias("i"),
        (pl.col("timestamp") * 1_000_000).alias("t"),
    )
    log = Log.of(liked)
    days = np.sort(log.day)
    cuts = [int(days[int(share * (len(days) - 1))]) for share in (0.7, 0.8)]
    ends = {cuts[0]: cuts[1], cuts[1]: int(days[-1]) + 1}
    return Case(
        log=log,
        fitted=(cuts[0],),
        tested=(cuts[1],),
        history_days=10_000,
        personal_days=10_000,
        count_days=10_000,
        train_days=10_000,
        corpus_days=None,
        ask=lambda log, day: all_until(ends[day], log, day),
        exclude_seen=True,
    )


def _days(first: date, number: int) -> tuple[int, ...]:
    start = (first - date(1970, 1, 1)) // timedelta(days=1)
    return tuple(range(start, start + number))


CASES: Mapping[str, Callable[[Path], Case]] = {
    "groceries": groceries,
    "small-shop": partial(groceries, sample=4),
    "news-next-day": partial(news, ask=partial(next_day, most=3000)),
    "news-last-click": partial(news, ask=last_clicks),
    "films": films,
}
