"""A made day of a large shop, to see what a day of millions of events costs in memory: nobody ever
took any of it.

Users and items have UUIDs. A few users take hundreds of items, most take a few: activity is
log-normal. Each user leans to one of the items' groups, within which a few items are taken often. A
day before it, as large, gives users a past: an example's history holds 34 items on average, and
half of them are full with 50.
"""

import uuid
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DAY = date(2024, 3, 10)
EVENTS = 10_000_000
USERS = 1_000_000
ITEMS = 500_000
"""Of the whole world; a scale makes it smaller."""
_ACTIVITY = 1.5
"""Standard deviation of the logarithm of users' events."""
_LOYAL = 0.6
"""Share of events in the user's own group."""
_ROWS = 1 << 18
"""Rows of a row group."""


def make_logs(folder: Path, events: int, users: int, items: int, seed: int) -> None:
    """Writes `events/dt=D/` of two days and `items/dt=D/` of the first.

    Args:
      folder: where.
      events: of the day `DAY`.
      users: who may come.
      items: in the catalogue.
      seed: of all draws.
    """
    rng = np.random.default_rng(seed)
    groups = max(1, items // 500)
    user_ids = _ids(users, rng)
    item_ids = _ids(items, rng)
    activity = rng.lognormal(0, _ACTIVITY, users)
    bounds = np.cumsum(activity / activity.sum())
    home = rng.integers(0, groups, users)
    for day in (DAY - timedelta(days=1), DAY):
        place = _place(folder, "events", day)
        start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1_000_000)
        time = np.sort(rng.integers(start, start + 86_400_000_000, events))
        with pq.ParquetWriter(place, _EVENTS, compression="zstd") as writer:
            for first in range(0, events, _ROWS):
                some = time[first : first + _ROWS]
                who = np.minimum(np.searchsorted(bounds, rng.random(len(some))), users - 1)
                group = np.where(
                    rng.random(len(some)) < _LOYAL, home[who], rng.integers(0, groups, len(some))
                )
                # The rank in a group: a few are taken often, all now and then. Item i is of group i
                # mod groups.
                rank = (items // groups * rng.random(len(some)) ** 3).astype(np.int64)
                columns = [
                    user_ids.take(pa.array(who)),
                    item_ids.take(pa.array(group + groups * rank)),
                    pa.array(some).cast(pa.timestamp("us", "UTC")),
                    pa.array(_DEVICES).take(pa.array(rng.integers(0, len(_DEVICES), len(some)))),
                ]
                writer.write_table(pa.table(columns, schema=_EVENTS), _ROWS)
    table = {
        "item": item_ids,
        "kind": pa.array([f"kind {n % groups}" for n in range(items)]),
        "price": rng.lognormal(3, 1, items).astype(np.float32),
    }
    pq.write_table(
        pa.table(table), _place(folder, "items", DAY - timedelta(days=1)), compression="zstd"
    )


_DEVICES = ["phone", "tablet", "desktop"]
_EVENTS = pa.schema(
    [
        ("user", pa.string()),
        ("item", pa.string()),
        ("time", pa.timestamp("us", "UTC")),
        ("device", pa.string()),
    ]
)


def _ids(number: int, rng: np.random.Generator) -> pa.Array:
    drawn = rng.bytes(16 * number)
    return pa.array(
        [str(uuid.UUID(bytes=drawn[16 * n : 16 * n + 16], version=4)) for n in range(number)]
    )


def _place(folder: Path, table: str, day: date) -> Path:
    place = folder / table / f"dt={day}" / "part-0.parquet"
    place.parent.mkdir(parents=True, exist_ok=True)
    return place
