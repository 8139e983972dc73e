"""A made-up shop whose versions are published by the commands, and requests to them."""

import json
import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

ROOT = Path(__file__).resolve().parents[2]
DAY = date(2024, 3, 2)
DAYS = 7
HISTORY = 20
EVENTS_PER_ITEM = 10
ITEMS_PER_USER = 20
DEVICES = 5
COUNTRIES = 40
KINDS = 300
ATTRIBUTES = {"kind": KINDS, "brand": 2, "department": 32, "type": 2400}
"""By name, how many values; as many as those of the groceries."""
DRIFT = 2.0
"""Standard deviation of the logarithm by which an item's share changes from day to day: what is popular
by one half-life differs from what is by another.
"""

PIPELINE = """
[pipeline]
name = "{name}"
time_zone = "UTC"
work_root = "{name}/stages"
[source]
events = "events/dt={{date}}/"
items = "items/dt={{date}}/"
min_share = 0
[columns]
user = "user"
item = "item"
time = "at"
[vocabulary]
min_events = 1
[sources]
use = ["two_tower", "history", "popular", "co_occurrence", "neighbours"]
[window]
history_days = 7
count_days = 7
personal_days = 7
train_days = 2
[corpus]
attributes = ["kind", "brand", "department", "type"]
[serving]
user_store = true
[features.user]
kind = "id"
tower = "query"
[features.recent]
kind = "history"
length = 20
[features.device]
kind = "category"
tower = "query"
[features.country]
kind = "category"
tower = "query"
[features.when]
kind = "time"
[features.item]
kind = "id"
tower = "item"
[features.kind]
kind = "category"
tower = "item"
[train]
batch_size = 1024
epochs = 1
history = {{ pooling = "{pooling}" }}
[gate]
max_drop = 1
[registry]
root = "{name}/registry"
"""


def lay_out(folder: Path, items: int, seed: int = 0) -> None:
    """A week of events by Zipf's law, and the items, as daily partitions. A user took 200."""
    rng = np.random.default_rng(seed)
    users = max(1, items // ITEMS_PER_USER)
    events = EVENTS_PER_ITEM * items // DAYS
    names = np.array([f"i{n:06d}" for n in range(items)])
    chance = 1 / np.arange(1, items + 1) ** 0.8
    for number in range(DAYS):
        day = DAY - timedelta(days=DAYS - 1 - number)
        start = pl.Series([day]).cast(pl.Datetime)[0]
        who = rng.integers(0, users, events)
        of_day = chance * rng.lognormal(0, DRIFT, items)
        rows = pl.DataFrame(
            {
                "user": [f"u{n}" for n in who],
                "item": names[rng.choice(items, events, p=of_day / of_day.sum())],
                "at": [
                    start + timedelta(seconds=int(s))
                    for s in np.sort(rng.integers(0, 86_400, events))
                ],
                "device": [f"d{n}" for n in who % DEVICES],
                "country": [f"c{n}" for n in who % COUNTRIES],
            }
        )
        values = {
            name: [f"{name[0]}{n}" for n in rng.integers(0, number, items)]
            for name, number in ATTRIBUTES.items()
        }
        catalogue = pl.DataFrame({"item": names, **values})
        for table, kind in ((rows, "events"), (catalogue, "items")):
            home = folder / kind / f"dt={day}"
            home.mkdir(parents=True, exist_ok=True)
            table.write_parquet(home / "part.parquet")


def published(folder: Path, pooling: str, items: int) -> Path:
    """The pipeline file of a published version with so many items; made if it is not there."""
    home = folder / f"{items}-items"
    pipeline = home / f"{pooling}.toml"
    if not (home / pooling / "ready").exists():
        if not (home / "events").exists():
            lay_out(home, items)
        pipeline.write_text(PIPELINE.format(name=pooling, pooling=pooling))
        print(f"Publishing a version of {items:,} items, histories by {pooling}", flush=True)
        run = [sys.executable, "-m", "twinspire", "run", str(pipeline), "--date", str(DAY)]
        done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{' '.join(run)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        (home / pooling / "ready").touch()
    return pipeline


def bodies(items: int, k: int, source: str | None, count: int = 2000, seed: int = 1) -> list[bytes]:
    """Bodies of requests: half of users whom the version knows, half of 20 items."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        history = [f"i{n:06d}" for n in rng.integers(0, items, HISTORY)]
        user = f"u{rng.integers(max(1, items // ITEMS_PER_USER))}"
        query = {
            **({"user": user} if number % 2 else {"history": history}),
            "device": f"d{rng.integers(DEVICES)}",
            "country": f"c{rng.integers(COUNTRIES)}",
            "when_hour": int(rng.integers(24)),
            "when_weekday": int(rng.integers(7)),
        }
        found.append(json_bytes({"query": query, "k": k} | ({"source": source} if source else {})))
    return found


def json_bytes(body: dict[str, Any]) -> bytes:
    """A body as it is sent."""
    return json.dumps(body).encode()


def scratch() -> Path:
    """Where versions are kept between runs."""
    return Path(os.environ.get("TWINSPIRE_BENCHMARKS", ROOT / "work")) / "serving"
