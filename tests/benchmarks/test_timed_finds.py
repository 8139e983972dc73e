"""Clicks whose time the log tells, by hand."""

from datetime import date
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import polars as pl

from benchmarks import timed_finds

SECOND = 1_000_000
DAY = 86_400 * SECOND
MIDNIGHT = 1_700_006_400 * SECOND  # 2023-11-15, UTC


def test_clicks_of_the_week_before_with_a_time_of_their_own_are_counted():
    clicks = [
        ("u", "a", MIDNIGHT - 7 * DAY),
        ("v", "a", MIDNIGHT - 7 * DAY - 1),  # a microsecond too old
        ("w", "a", MIDNIGHT - 60 * SECOND),
        ("w", "b", MIDNIGHT - 30 * SECOND),  # made up
        ("x", "c", MIDNIGHT - 30 * SECOND),
    ]
    ready = SimpleNamespace(
        pipeline=SimpleNamespace(zone=ZoneInfo("UTC")),
        split=SimpleNamespace(last=date(2023, 11, 14)),
        log=lambda: pl.DataFrame(clicks, schema=["_user", "_item", "_time"], orient="row"),
        corpus=lambda: pl.DataFrame({"_item": ["c", "b", "a", "d"]}),
    )
    assert timed_finds.timed_clicks(ready).tolist() == [1, 0, 2, 0]
