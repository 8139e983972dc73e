"""What the training rows of `benchmarks.features` are, for those who make them without Twinspire.

A row is an event of `large_world.DAY`, of a user who is not held out. Its columns are those of the
stage's `transformed/`: the item's counts are of the two days before, histories hold what came
strictly before the event, and ids are rows of tables: 0 for a missing value, then the vocabulary of
the day and the day before, then one row for all that is rarer, of which the stage has several.
"""

import hashlib
from datetime import timedelta
from pathlib import Path

import pyarrow as pa

from benchmarks import large_world

DAY = large_world.DAY
BEFORE = DAY - timedelta(days=1)
HISTORY = 50
MIN_EVENTS = 2
"""Events of the two days that give a user or an item a row of its own."""
MAX_USER_EVENTS = 10_000
"""Of a day; the first in the logs stay."""
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
    """A number below 2**64; of those below the share `HOLDOUT`, the smallest are held out."""
    digest = hashlib.blake2b(f"{DAY}|{user}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def events_file(folder: Path, day: object) -> str:
    """The log of a day."""
    return str(folder / "events" / f"dt={day}" / "part-0.parquet")


def items_file(folder: Path) -> str:
    """The catalogue."""
    return str(folder / "items" / f"dt={BEFORE}" / "part-0.parquet")
