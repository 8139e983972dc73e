"""The peer of `benchmarks.features`: a script that makes the training rows with Polars and NumPy, for this
shop only, on one machine, with the day in memory.

    python -m benchmarks.feature_script LOGS OUT

A row is an event of `DAY` of a user who is not held out. Its columns are those of the stage's
`transformed/`. Item counts cover the two days before. Histories have the events strictly before the event.
Ids are rows of tables: 0 for a missing value, then the vocabulary of the day and the day before, then one
row for all rarer ids (the stage has several).
"""

import hashlib
import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

DAY = date(2024, 3, 10)
BEFORE = DAY - timedelta(days=1)
HISTORY = 50
MIN_EVENTS = 2
"""A user or an item with this many events on the two days has its own row."""
MAX_USER_EVENTS = 10_000
"""Per day; the first events in the logs are kept."""
HOLDOUT = 0.1
MOST_HELD_OUT = 10_000
SCHEMA = pa.schema(
    [
        ("_time", pa.timestamp("us", "UTC")),
        ("_user", pa.string()),
        ("_item", pa.string()),
        ("user", pa.int64()),
        ("recent", pa.list_(pa.int64())),
        ("now_hour", pa.int64()),
        ("now_weekday", pa.int64()),
        ("device", pa.int64()),
        ("item", pa.int64()),
        ("kind", pa.int64()),
        ("price", pa.float32()),
        ("sold", pa.float32()),
    ]
)


def draw(user: str) -> int:
    """A hash below 2**64. The users with the smallest hashes are held out, at most the share `HOLDOUT`."""
    digest = hashlib.blake2b(f"{DAY}|{user}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def events_file(folder: Path, day: object) -> str:
    """File of a day's events."""
    return str(folder / "events" / f"dt={day}" / "part-0.parquet")


def items_file(folder: Path) -> str:
    """File of the items snapshot."""
    return str(folder / "items" / f"dt={BEFORE}" / "part-0.parquet")


def read_events(folder: Path) -> pl.DataFrame:
    """Events of both days: `user`, `item`, `time`, `device`, `today`; sorted by user, time and item,
    without duplicates.
    """
    days = []
    for day in (BEFORE, DAY):
        events = pl.read_parquet(events_file(folder, day))
        counts = events.group_by("user").len()
        crawlers = counts.filter(pl.col("len") > MAX_USER_EVENTS)["user"]
        if len(crawlers):
            index = pl.int_range(pl.len()).over("user")
            within = ~pl.col("user").is_in(crawlers.implode()) | (index < MAX_USER_EVENTS)
            events = events.filter(within)
        days.append(events.with_columns(today=pl.lit(day == DAY)))
    events = pl.concat(days)
    # Numbers in the order of the ids, because sorting numbers is faster than sorting ids.
    for column in ("user", "item"):
        ids = events.select(pl.col(column).unique().sort()).with_row_index(f"{column}_code")
        events = events.join(ids, on=column, how="left", maintain_order="left")
    keys = ["user_code", "time", "item_code"]
    events = events.sort(*keys, maintain_order=True)
    is_copy = pl.all_horizontal(pl.col(key) == pl.col(key).shift() for key in keys)
    return events.filter(~is_copy.fill_null(False))


def vocabulary(events: pl.DataFrame, column: str, least: int) -> pl.DataFrame:
    """Rows of a table by value: `column`, `row`. Frequent values come first. Equally frequent values are in
    descending order of bytes.
    """
    counts = events.group_by(column).len("n").sort("n", column, descending=True)
    kept = pl.col("n") >= least
    return counts.select(
        column,
        row=pl.when(kept).then(pl.int_range(1, pl.len() + 1)).otherwise(kept.sum() + 1),
    )


def scaled(x: np.ndarray, analysed: np.ndarray) -> np.ndarray:
    """The logarithm of x, standardised by its mean and deviation in the analysed rows."""
    logs = np.log1p(analysed.astype(np.float64))
    return ((np.log1p(x.astype(np.float64)) - logs.mean()) / (logs.std() or 1.0)).astype(np.float32)


def item_features(folder: Path, events: pl.DataFrame) -> pl.DataFrame:
    """Item features of the rows: `item`, `item_row`, `kind`, `price`, `sold`."""
    catalogue = pl.read_parquet(items_file(folder))
    sold = events.filter(~pl.col("today")).group_by("item").len("sold_before")
    events_by_item = events.group_by("item").agg(pl.len().alias("n"), pl.col("today").sum())
    items = events_by_item.join(catalogue, on="item", how="left").join(sold, on="item", how="left")
    items = items.with_columns(pl.col("sold_before").fill_null(0))
    item_of_event = np.repeat(np.arange(len(items)), items["n"].to_numpy())
    kinds = vocabulary(items[item_of_event], "kind", 1).rename({"row": "kind_row"})
    # An event of the day before has no earlier events to count.
    item_of_today = np.repeat(np.arange(len(items)), items["today"].to_numpy())
    counts = np.zeros(len(item_of_event))
    counts[: len(item_of_today)] = items["sold_before"].to_numpy()[item_of_today]
    price = items["price"].to_numpy()
    ids = vocabulary(events, "item", MIN_EVENTS).rename({"row": "item_row"})
    return (
        items.with_columns(
            price=scaled(price, price[item_of_event]),
            sold=scaled(items["sold_before"].to_numpy(), counts),
        )
        .join(kinds, on="kind", how="left")
        .join(ids, on="item", how="left")
        .select("item", "item_row", pl.col("kind_row").alias("kind"), "price", "sold")
    )


def held_out(users: pl.Series) -> set[str]:
    """The day's users who are left out of training."""
    draws = sorted((draw(user), user) for user in users)
    most = int(HOLDOUT * 2**64)
    return {user for draw, user in draws[:MOST_HELD_OUT] if draw < most}


def write_rows(folder: Path, out: Path) -> None:
    """Writes the rows, one file per hour, sorted by time, user and item."""
    events = read_events(folder)
    features = item_features(folder, events)
    users = vocabulary(events, "user", MIN_EVENTS).rename({"row": "user_row"})
    devices = vocabulary(events, "device", 1).rename({"row": "device_row"})
    events = (
        events.join(features, on="item", how="left", maintain_order="left")
        .join(users, on="user", how="left", maintain_order="left")
        .join(devices, on="device", how="left", maintain_order="left")
    )
    user = events["user_code"].to_numpy()
    time = events["time"].dt.epoch("us").to_numpy()
    items = events["item_row"].cast(pl.Int64).to_numpy()
    index = np.arange(len(events))
    new_user = np.diff(user, prepend=-1) != 0
    # Events at the same time do not see each other: a history ends before their time.
    new_moment = new_user | (np.diff(time, prepend=-1) != 0)
    high = np.maximum.accumulate(np.where(new_moment, index, 0))
    low = np.maximum(np.maximum.accumulate(np.where(new_user, index, 0)), high - HISTORY)
    events = events.with_columns(low=pl.Series(low), high=pl.Series(high)).filter("today")
    away = held_out(events["user"].unique())
    events = events.filter(~pl.col("user").is_in(list(away)))
    events = events.sort("time", "user_code", "item_code")
    out.mkdir(parents=True)
    for (hour,), rows in events.group_by(pl.col("time").dt.hour(), maintain_order=True):
        lengths = (rows["high"] - rows["low"]).to_numpy()
        ends = np.cumsum(lengths)
        entries = np.arange(ends[-1]) + np.repeat(
            rows["low"].to_numpy() - (ends - lengths), lengths
        )
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        recent = pa.ListArray.from_arrays(offsets, items[entries])
        table = rows.select(
            pl.col("time").alias("_time"),
            pl.col("user").alias("_user"),
            pl.col("item").alias("_item"),
            pl.col("user_row").alias("user"),
            (pl.col("time").dt.hour() + 1).alias("now_hour"),
            pl.lit(DAY.weekday() + 1).alias("now_weekday"),
            pl.col("device_row").alias("device"),
            pl.col("item_row").alias("item"),
            "kind",
            "price",
            "sold",
        ).to_arrow()
        table = table.append_column("recent", recent).select(SCHEMA.names)
        pq.write_table(table.cast(SCHEMA), out / f"{hour:02d}.parquet", 1 << 16, compression="zstd")


def main() -> None:
    """Writes the rows for a folder of logs."""
    write_rows(Path(sys.argv[1]), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
