"""A small made-up shop: users of six tastes, items of six kinds, 14 days of views and purchases.

    python -m tests.shop FOLDER [FIRST_DAY]

lays it out as daily partitions with a pipeline file, `FOLDER/shop.toml`.
"""

import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl

USERS, ITEMS, TASTES, DAYS = 240, 120, 6, 14
FIRST = date(2024, 3, 1)

PIPELINE = """
[pipeline]
name = "shop"
time_zone = "Europe/Berlin"
retries = 1
[source]
events = "events/dt={date}/"
items = "items/dt={date}/"
users = "users/dt={date}/"
min_share = 0.1
[columns]
user = "user_id"
item = "item_id"
time = "at"
reward = "weight"
event = "type"
positives = ["buy"]
[window]
history_days = 7
count_days = 7
train_days = 5
[corpus]
display = ["title"]
attributes = ["kind"]
[features.user]
kind = "id"
tower = "query"
[features.history]
kind = "history"
length = 10
types = ["buy", "view"]
[features.when]
kind = "time"
[features.device]
kind = "category"
tower = "query"
[features.city]
kind = "category"
tower = "query"
from = "users"
[features.item]
kind = "id"
tower = "item"
[features.kind]
kind = "category"
tower = "item"
[features.title]
kind = "text"
tower = "item"
[features.price]
kind = "number"
tower = "item"
log = true
[features.sold]
kind = "count"
days = 3
[features.item_age]
kind = "age"
[train]
dimension = 16
layers = [32]
batch_size = 128
epochs = 5
deterministic = true
[evaluation]
ks = [5, 10]
holdout = 0.2
[gate]
metric = "recall@10"
max_drop = 0.8
min_users = 10
[serving]
user_store = true
tensorflow = false
[beam]
shards = 4
"""


def lay_out(folder: Path, first: date = FIRST, days: int = DAYS, seed: int = 0) -> Path:
    """Writes the shop's logs; the pipeline file."""
    draw = np.random.default_rng(seed)
    taste, kind = draw.integers(TASTES, size=USERS), np.arange(ITEMS) % TASTES
    appeal = draw.zipf(1.5, ITEMS).clip(max=30).astype(float)
    items = pl.DataFrame(
        {
            "item_id": [f"i{n:03d}" for n in range(ITEMS)],
            "title": [
                f"{['red', 'blue', 'old'][n % 3]}"
                f" {['hat', 'mug', 'lamp', 'rug', 'pen', 'bag'][kind[n]]}"
                for n in range(ITEMS)
            ],
            "kind": [f"k{k}" for k in kind],
            "price": draw.lognormal(3, 1, ITEMS).round(2),
        }
    )
    users = pl.DataFrame(
        {
            "user_id": [f"u{n:03d}" for n in range(0, USERS, 2)],
            "city": [f"c{taste[n] % 3}" for n in range(0, USERS, 2)],
        }
    )
    _write(items, folder / f"items/dt={first - timedelta(days=1)}")
    _write(users, folder / f"users/dt={first - timedelta(days=1)}")
    for n in range(days):
        _write(
            _day(draw, first + timedelta(days=n), taste, kind, appeal),
            folder / f"events/dt={first + timedelta(days=n)}",
        )
    (folder / "shop.toml").write_text(PIPELINE)
    return folder / "shop.toml"


def _day(draw, day: date, taste, kind, appeal) -> pl.DataFrame:
    active = np.flatnonzero(draw.random(USERS) < 0.7)
    active = np.repeat(active, draw.integers(2, 6, len(active)))
    # Nine times in ten a user takes what they like.
    likes = np.where(
        draw.random(len(active)) < 0.9, taste[active], draw.integers(TASTES, size=len(active))
    )
    weights = (kind[None, :] == likes[:, None]) * appeal
    chosen = (
        weights.cumsum(1) > draw.random(len(active))[:, None] * weights.sum(1, keepdims=True)
    ).argmax(1)
    seconds = draw.integers(2 * 3600, 22 * 3600, len(active))
    return (
        pl.DataFrame(
            {
                "user_id": [f"u{n:03d}" for n in active],
                "item_id": [f"i{n:03d}" for n in chosen],
                "at": seconds,
                "type": draw.choice(["buy", "buy", "view"], len(active)),
                "weight": np.ones(len(active)),
                "stars": np.where(seconds % 4, 1.0 + chosen % 5, np.nan),
                "device": draw.choice(["phone", "desk"], len(active)),
            }
        )
        .with_columns(at=pl.lit(day).cast(pl.Datetime("us")) + pl.duration(seconds="at"))
        .sort("at")
    )


def _write(rows: pl.DataFrame, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(folder / "part-0.parquet")


if __name__ == "__main__":
    print(lay_out(Path(sys.argv[1]), *map(date.fromisoformat, sys.argv[2:3])))
