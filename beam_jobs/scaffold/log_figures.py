"""What a log's users do: counted over all of it, block by block, and looked at more closely for a
sample of its users. What a drafted pipeline file says of window, history and training follows from
that (beam_jobs/scaffold/draft_rules.py).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pyarrow as pa

from beam_jobs.ingest.timestamps import to_instants
from beam_jobs.partitioning.log_tables import format_of
from twinspire_core.config.tables.data import ColumnsConfig
from twinspire_core.errors import UsageError
from twinspire_core.records.raw_files import Unreadable, readable
from twinspire_core.records.record_file import RecordFile
from twinspire_core.terminal import console, doing

_MOST_ROWS = 2_000_000
_NEW_DAYS = 7
_LATEST = 4_102_444_800_000_000
"""2100: a later time is in another unit than the sample's."""
_EVENT = {"user": pl.UInt64, "item": pl.UInt64, "at": pl.Int64, "day": pl.Date}


class _NoColumn(Exception):
    """A file lacks a column of the events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFigures:
    """A log as a whole. Shares and medians are those of the sampled users.

    Attributes:
      events: with a user, an item and a time.
      daily: events of each day from the first to the last, by those of the sampled users.
      items: distinct.
      daily_users: mean over all days.
      days_between: median number of days from a day of a user to the next one; None if nobody comes
        again.
      earlier: median number of events that the user of an event had before it.
      repeats: share of what users take on a day that they took on an earlier day.
      at_once: share of events with another one of the same user and moment.
      new_days: days for which an item counts as new.
      turnover: share of events in the second half of the days whose item is new.
    """

    events: int
    daily: Sequence[int]
    items: int
    daily_users: float
    days_between: float | None
    earlier: int
    repeats: float
    at_once: float
    new_days: int
    turnover: float

    @property
    def days(self) -> int:
        """From the first day to the last."""
        return len(self.daily)


def figures_of(files: Sequence[Path], columns: ColumnsConfig, zone: str) -> LogFigures:
    """Reads all files, and shows at a terminal how far that is.

    Files without one of the columns are left out, and one of them is named.

    Args:
      zone: IANA name of the zone whose calendar days count.

    Raises:
      UsageError: no event has a user, an item and a time.
    """
    taken = pl.DataFrame(schema=_EVENT)
    firsts = taken.select("item", "day")
    events = 0
    one_in = 1  # users are kept, so that the rows fit
    left_out: list[str] = []
    with doing("reading the log") as report:
        for n, file in enumerate(files, 1):
            try:
                for rows in _blocks(file, columns, zone):
                    events += len(rows)
                    report(f"reading the log: file {n:,} of {len(files):,}, {events:,} events")
                    both = pl.concat([firsts, rows.select("item", "day")])
                    firsts = both.group_by("item").agg(pl.col("day").min())
                    taken = taken.vstack(rows.filter(pl.col("user") % one_in == 0))
                    while len(taken) > _MOST_ROWS:
                        fewer = taken.filter(pl.col("user") % (2 * one_in) == 0)
                        if fewer.is_empty():  # few users, with very many events each
                            break
                        taken, one_in = fewer, 2 * one_in
            except _NoColumn as e:
                left_out.append(f"{file} has no {e}")
    if left_out:
        console.print(
            f"The draft leaves out {len(left_out)} of {len(files)} files: {left_out[0]}.",
            soft_wrap=True,
        )
    if taken.is_empty():
        raise UsageError(
            f"A log has events with a user, an item and a time; {files[0].parent} has none. Name other"
            " columns with --user, --item and --time."
        )
    return _measure(taken, firsts, events, one_in)


def _measure(taken: pl.DataFrame, firsts: pl.DataFrame, events: int, one_in: int) -> LogFigures:
    """The figures.

    Args:
      taken: events of the sampled users.
      firsts: the first day of each item.
      one_in: of so many users one was sampled.
    """
    first: date = firsts["day"].min()  # type: ignore[assignment]
    since = (pl.col("day") - first).dt.total_days()
    daily = np.bincount(taken.select(since).to_series().to_numpy()) * events // len(taken)
    taken = taken.unique().sort("user", "at", "item")
    visits = taken.select("user", "day").unique().sort("user", "day")
    between = visits.select(pl.col("day").diff().over("user").dt.total_days())["day"].drop_nulls()
    by_day = taken.select("user", "item", "day").unique()
    days = len(daily)
    new_days = min(_NEW_DAYS, max(1, days // 4))
    age = (pl.col("day") - pl.col("first")).dt.total_days()
    late = taken.join(firsts.rename({"day": "first"}), on="item").filter(since >= days // 2)
    return LogFigures(
        events=events,
        daily=daily.tolist(),
        items=len(firsts),
        daily_users=len(visits) * one_in / days,
        days_between=between.median(),  # type: ignore[arg-type]
        earlier=int(taken.select(pl.int_range(pl.len()).over("user").median()).item()),
        repeats=1 - by_day.select("user", "item").n_unique() / len(by_day),
        at_once=_mean(taken, pl.len().over("user", "at") > 1),
        new_days=new_days,
        turnover=_mean(late, age < new_days),
    )


def _mean(rows: pl.DataFrame, condition: pl.Expr) -> float:
    return float(rows.select(condition.mean().fill_null(0.0)).item())


def _blocks(file: Path, columns: ColumnsConfig, zone: str) -> Iterator[pl.DataFrame]:
    """Hashes of user and item, time and day of each event that has all of them."""
    kind = format_of(file)
    wanted = [columns.user, columns.item, columns.time]

    def check(names: Sequence[str]) -> None:
        for name in wanted:
            if name not in names:
                raise _NoColumn(repr(name))

    clock = pl.from_epoch("at", "us").dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    with readable(str(file), kind):
        for block in RecordFile(str(file), kind).blocks(wanted, check_names=check):
            if isinstance(block, Unreadable):
                continue
            # JSON Lines declare no columns
            check([one.name for one in block.rows.schema if not pa.types.is_null(one.type)])
            rows = pl.DataFrame(block.rows)
            ids = {"user": columns.user, "item": columns.item}
            hashed = (pl.col(c).cast(pl.String).hash(seed=0).alias(id) for id, c in ids.items())
            at = to_instants(rows[columns.time], columns.time_unit, ZoneInfo(zone)).alias("at")
            found = rows.select(*hashed, at).filter(pl.col("at").is_between(-_LATEST, _LATEST))
            yield found.with_columns(day=clock.dt.date()).drop_nulls()
