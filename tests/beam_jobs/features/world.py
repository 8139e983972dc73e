"""A small random shop with everything awkward in it: users without features, equal times, copies,
events of no use, items outside the catalogue, a clock change, days without logs, snapshots of
several days.

Raw rows are kept as Python dicts next to the files, so that slow.py can work from them.
"""

import random
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl

from twinspire_core.config.pipeline import Pipeline, load
from twinspire_core.contracts.attempts import StageContext

FIRST, DAY = date(2017, 10, 28), date(2017, 11, 8)  # New York's 5 November has 25 hours
GAP = date(2017, 11, 2)

PIPELINE = """
[pipeline]
name = "shop"
time_zone = "{zone}"
[source]
events = "{root}events/dt={{date}}/"
items = "{root}items/dt={{date}}/"
users = "{root}users/dt={{date}}/"
{source}
[columns]
user = "who"
item = "what"
time = "at"
time_unit = "ms"
reward = "weight"
reward_clip = [0.5, 2.0]
event = "kind"
positives = [{positives}]
weights = {{ gift = 2.5 }}
label = "liked"
items_key = "sku"
users_key = "id"
[window]
history_days = 4
count_days = 5
train_days = {train_days}
{window}
[sources]
{sources}
[serving]
user_store = true
[corpus]
{days}
unlisted = {unlisted}
filter = {{ on_sale = [true], aisle = [1, 2] }}
display = ["title", "aisle"]
attributes = ["aisle", "tags"]
[evaluation]
holdout = 0.4
[beam]
shards = {shards}
[features]
me = {{ kind = "id", tower = "query" }}
last = {{ kind = "history", length = 3, types = ["buy", "view"] }}
now = {{ kind = "time" }}
device = {{ kind = "category", tower = "query" }}
basket = {{ kind = "number", tower = "query", column = "{basket}" }}
labels = {{ kind = "categories", tower = "query", separator = "|" }}
city = {{ kind = "category", tower = "query", from = "users" }}
height = {{ kind = "number", tower = "query", from = "users" }}
product = {{ kind = "id", tower = "item" }}
brand = {{ kind = "category", tower = "item" }}
words = {{ kind = "text", tower = "item", column = "title" }}
tags = {{ kind = "categories", tower = "item" }}
look = {{ kind = "vector", tower = "item", size = 2 }}
price = {{ kind = "number", tower = "item" }}
sold_1 = {{ kind = "count", days = 1 }}
sold_4 = {{ kind = "count", days = 4 }}
seen_for = {{ kind = "age" }}
listed_for = {{ kind = "age", column = "listed" }}
"""


@dataclass
class World:
    """A folder with logs, and the same as Python rows by day."""

    folder: Path
    zone: ZoneInfo
    events: dict[date, list[dict]] = field(default_factory=dict)
    items: dict[date, list[dict]] = field(default_factory=dict)
    users: dict[date, list[dict]] = field(default_factory=dict)
    settings: dict = field(default_factory=dict)
    most: int = 10_000  # users held out of a day

    @property
    def pipeline(self) -> Pipeline:
        values = dict.fromkeys(("root", "source", "window"), "")
        values |= {
            "days": "days = 6",
            "zone": self.zone,
            "unlisted": "false",
            "train_days": "3",
            "shards": "3",
        }
        values |= {"sources": 'use = ["two_tower"]', "positives": '"buy", "gift"'}
        path = self.folder / "shop.toml"
        path.write_text(PIPELINE.format(**(values | {"basket": "total"} | self.settings)))
        return load(path)

    def context(
        self, out: Path, mode="incremental", options=(), day=DAY, *, replays=False
    ) -> StageContext:
        p = self.pipeline
        p = p.model_copy(update={"beam": p.beam.model_copy(update={"options": tuple(options)})})
        return StageContext(pipeline=p, day=day, mode=mode, out=str(out), replays=replays)


def day_of(instant: datetime, zone: ZoneInfo) -> date:
    return instant.astimezone(zone).date()


def make(folder: Path, seed: int, zone="America/New_York", most=10_000, **settings) -> World:
    """Draws a world and writes it as Parquet, two files a day."""
    draw, world = random.Random(seed), World(folder, ZoneInfo(zone), settings=settings, most=most)
    instant = datetime.combine(FIRST, datetime.min.time(), world.zone).astimezone(UTC)
    while day_of(instant, world.zone) <= DAY:
        day = day_of(instant, world.zone)
        if day != GAP:
            rows = world.events.setdefault(day, [])
            rows += [_event(draw, instant) for _ in range(draw.randint(0, 5))]
            if rows and draw.random() < 0.3:
                rows.append(dict(rows[-1], weight=draw.choice([0.0, 1.0, 9.0]), liked=2.0))
        instant += timedelta(minutes=30)
    for n, day in enumerate((FIRST, date(2017, 11, 5), date(2017, 11, 7))):
        world.items[day] = [_item(draw, i) for i in [*range(14 + n), 3, 5] if draw.random() < 0.9]
        world.users[day] = [_user(draw, i) for i in [*range(40), 1, 2, 3, 4] if draw.random() < 0.6]
    write(world, "parquet")
    return world


def _event(draw, instant) -> dict:
    row = {
        "who": min(60, int(draw.paretovariate(0.6))),  # a few come all the time, most hardly ever
        "what": int(draw.paretovariate(0.5)) % 20,
        "at": int(instant.timestamp() * 1000) + draw.choice([0, 0, 1, 1_799_999]),
        "weight": draw.choice([0.0, 1.0, 1.5, 9.0]),
        "kind": draw.choice(["buy", "buy", "view", "gift", "scroll", None]),
        "device": draw.choice(["phone", "desk", "", None]),
        "total": draw.choice([None, float("nan"), 1.25, -3.0]),
        "labels": draw.choice(["a|b", "", None, "c", "b| c|"]),
    }
    return row | {"liked": random.Random(str(row)).choice([None, float("nan"), 4.5, -1.0])}


def _item(draw, i) -> dict:
    return {
        "sku": i,
        "brand": draw.choice(["x", "y", None]),
        "title": f"thing {draw.randint(0, 99)}",
        "aisle": draw.choice([1, 2, 2, 3]),
        "on_sale": draw.random() < 0.8,
        "tags": draw.choice([["t1", "t2"], [], None, ["t3", None]]),
        "look": draw.choice([None, [0.5, -1.0], [2.0, 3.0]]),
        "price": draw.choice([None, 9.99, 100.0]),
        "listed": draw.choice([None, date(2017, 10, 1), date(2017, 11, 7), date(2017, 11, 20)]),
    }


def _user(draw, i) -> dict:
    city, height = draw.choice(["Rome", None, "Oslo"]), draw.choice([None, 1.8])
    return {"id": i, "city": city, "height": height}


_TYPES = {
    "events": dict.fromkeys(("who", "what", "at"), pl.Int64)
    | dict.fromkeys(("weight", "total", "liked"), pl.Float64)
    | dict.fromkeys(("kind", "device", "labels"), pl.String),
    "items": dict.fromkeys(("sku", "aisle"), pl.Int64)
    | dict.fromkeys(("brand", "title"), pl.String)
    | {"tags": pl.List(pl.String), "look": pl.List(pl.Float64), "price": pl.Float64}
    | {"on_sale": pl.Boolean, "listed": pl.Date},
    "users": {"id": pl.Int64, "city": pl.String, "height": pl.Float64},
}


def write(world: World, format: str) -> None:
    """Writes the events in some format, snapshots as Parquet."""
    for table in ("events", "items", "users"):
        for day, rows in getattr(world, table).items():
            place = world.folder / table / f"dt={day}"
            place.mkdir(parents=True, exist_ok=True)
            for old in place.iterdir():
                old.unlink()
            half = len(rows) // 2
            for n, part in enumerate((rows[:half], rows[half:])):
                frame = pl.DataFrame(part, _TYPES[table])
                _save(frame, place / f"part-{n}", format if table == "events" else "parquet")


def _save(frame: pl.DataFrame, path: Path, format: str) -> None:
    import gzip

    if format == "parquet":
        frame.write_parquet(path.with_suffix(".parquet"), row_group_size=31)
    elif format == "csv":
        frame.write_csv(path.with_suffix(".csv"))
    else:
        with gzip.open(path.with_suffix(".jsonl.gz"), "wb") as file:
            file.write(frame.write_ndjson().encode())
