"""A synthetic day of a large shop, to measure the cost of a day with millions of events.

Users and items have UUIDs. Activity is log-normal: a few users take hundreds of items, most take a few. Each
user prefers one group of items, and in each group a few items are popular. The day before is as large, so
that users have histories: 34 items on average, and half of the histories have the maximum of 50.
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
"""Size of the whole world; a scale reduces it."""
_ACTIVITY = 1.5
"""Standard deviation of the logarithm of users' events."""
_LOYAL = 0.6
"""Share of events in the user's own group."""
_ROWS = 1 << 18
"""Rows of a row group."""


def make_logs(folder: Path, events: int, users: int, items: int, seed: int) -> None:
    """Writes `events/dt=D/` of two days and `items/dt=D/` of the first.

    Args:
      events: number of events of each day.
      users: number of users who may be active.
      items: number of items in the catalogue.
    """
    rng = np.random.default_rng(seed)
    groups = max(1, items // 500)
    user_ids = _ids(users, rng)
    item_ids = _ids(items, rng)
    activity = rng.lognormal(0, _ACTIVITY, users)
    bounds = np.cumsum(activity / activity.sum())
    home = rng.integers(0, groups, users)
    for day in (DAY - timedelta(days=1), DAY):
        path = _place(folder, "events", day)
        start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1_000_000)
        time = np.sort(rng.integers(start, start + 86_400_000_000, events))
        with pq.ParquetWriter(path, _EVENTS, compression="zstd") as writer:
            for first in range(0, events, _ROWS):
                times = time[first : first + _ROWS]
                user = np.minimum(np.searchsorted(bounds, rng.random(len(times))), users - 1)
                group = np.where(
                    rng.random(len(times)) < _LOYAL, home[user], rng.integers(0, groups, len(times))
                )
                # The rank in a group: low ranks are taken more often. Item i is in group i mod groups.
                rank = (items // groups * rng.random(len(times)) ** 3).astype(np.int64)
                columns = [
                    user_ids.take(pa.array(user)),
                    item_ids.take(pa.array(group + groups * rank)),
                    pa.array(times).cast(pa.timestamp("us", "UTC")),
                    pa.array(_DEVICES).take(pa.array(rng.integers(0, len(_DEVICES), len(times)))),
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
    path = folder / table / f"dt={day}" / "part-0.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
