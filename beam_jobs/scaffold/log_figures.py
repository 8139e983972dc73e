"""What a log's users do: counted over all of it, block by block, and looked at more closely for a
sample of its users. What a drafted pipeline file says of window, history and training follows from
that (beam_jobs/scaffold/draft_rules.py).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa

from beam_jobs.ingest.timestamps import to_instants
from beam_jobs.partitioning.log_tables import format_of
from twinspire_core.records.csv_lines import Unreadable
from twinspire_core.records.raw_files import readable
from twinspire_core.records.record_file import RecordFile
from twinspire_core.terminal import console

_MOST_ROWS = 2_000_000
_NEW_DAYS = 7
_FEWEST_RETURNS = 30
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_LATEST = 4_102_444_800_000_000
"""2100: a later time is in another unit than the sample's."""
_EVENT = {"user": pl.UInt64, "item": pl.UInt64, "at": pl.Int64, "day": pl.Date}


class _NoColumn(Exception):
    """A file lacks a column of the events."""


@dataclass(frozen=True, slots=True)
class LogColumns:
    """Columns of the events, and what their times need.

    Attributes:
      unit: of times that are numbers.
      zone: IANA name.
    """

    user: str
    item: str
    time: str
    unit: str | None
    zone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFigures:
    """A log as a whole. Shares and medians are those of the sampled users.

    Attributes:
      days: from its first day to its last.
      events: with a user, an item and a time.
      items: distinct.
      daily_users: mean over all days.
      days_between: median number of days from a day of a user to the next one; None if too few come
        again.
      earlier: median number of events that the user of an event had before it.
      repeats: share of what users take on a day that they took on an earlier day.
      at_once: share of events with another one of the same user and moment.
      new_days: days for which an item counts as new.
      turnover: share of events in the second half of the days whose item is new.
    """

    days: int
    events: int
    items: int
    daily_users: float
    days_between: float | None
    earlier: int
    repeats: float
    at_once: float
    new_days: int
    turnover: float


def figures_of(
    root: Path,
    files: Sequence[Path],
    columns: LogColumns,
    report: Callable[[str], None] = lambda text: None,
) -> LogFigures | None:
    """Reads all files; None for a log without events.

    Files without one of the columns are left out, and one of them is named.

    Args:
      root: the log's folder, or its file.
      files: its files. Days of those in daily folders are the folders'.
      columns: of the events.
      report: called with what has been read so far, in words.
    """
    taken = pl.DataFrame(schema=_EVENT)
    firsts = taken.select("item", "day")
    events = 0
    one_in = 1  # users are kept, so that the rows fit
    left_out: list[str] = []
    for n, file in enumerate(files):
        report(f"reading the log: {n:,} of {len(files):,} files, {events:,} events")
        try:
            for rows in _blocks(file, columns, _folder_day(root, file)):
                events += len(rows)
                both = pl.concat([firsts, rows.select("item", "day")])
                firsts = both.group_by("item").agg(pl.col("day").min())
                taken = taken.vstack(rows.filter(pl.col("user") % one_in == 0))
                while len(taken) > _MOST_ROWS:
                    one_in *= 2
                    taken = taken.filter(pl.col("user") % one_in == 0)
        except _NoColumn as e:
            left_out.append(f"{file} has no {e}")
    if left_out:
        console.print(
            f"The draft leaves out {len(left_out)} of {len(files)} files: {left_out[0]}.",
            soft_wrap=True,
        )
    return _measure(taken, firsts, events, one_in) if len(taken) else None


def _measure(taken: pl.DataFrame, firsts: pl.DataFrame, events: int, one_in: int) -> LogFigures:
    """The figures.

    Args:
      taken: events of the sampled users.
      firsts: the first day of each item.
      events: of all users.
      one_in: of so many users one was sampled.
    """
    taken = taken.unique().sort("user", "at", "item")
    visits = taken.select("user", "day").unique().sort("user", "day")
    between = visits.select(pl.col("day").diff().over("user").dt.total_days())["day"].drop_nulls()
    by_day = taken.select("user", "item", "day").unique()
    first: date = firsts["day"].min()  # type: ignore[assignment]
    last: date = taken["day"].max()  # type: ignore[assignment]
    days = (last - first).days + 1
    new_days = min(_NEW_DAYS, max(1, days // 4))
    age = (pl.col("day") - pl.col("first")).dt.total_days()
    late = taken.join(firsts.rename({"day": "first"}), on="item").filter(
        (pl.col("day") - first).dt.total_days() >= days // 2
    )
    return LogFigures(
        days=days,
        events=events,
        items=len(firsts),
        daily_users=len(visits) * one_in / days,
        days_between=_median(between) if len(between) >= _FEWEST_RETURNS else None,
        earlier=int(_median(taken.select(pl.int_range(pl.len()).over("user"))["literal"])),
        repeats=1 - by_day.select("user", "item").n_unique() / len(by_day),
        at_once=_mean(taken, pl.len().over("user", "at") > 1),
        new_days=new_days,
        turnover=_mean(late, age < new_days),
    )


def _median(values: pl.Series) -> float:
    return float(values.median())  # type: ignore[arg-type]


def _mean(rows: pl.DataFrame, condition: pl.Expr) -> float:
    return float(rows.select(condition.mean().fill_null(0.0)).item())


def _folder_day(root: Path, file: Path) -> date | None:
    match = _DAY.search(str(file.relative_to(root).parent)) if file != root else None
    with suppress(ValueError):  # 2024-13-45 is no day
        return date.fromisoformat(match[0]) if match else None
    return None


def _blocks(file: Path, columns: LogColumns, day: date | None) -> Iterator[pl.DataFrame]:
    """Hashes of user and item, time and day of each event that has all of them."""
    kind = format_of(file)
    wanted = [columns.user, columns.item, columns.time]

    def check(names: Sequence[str]) -> None:
        for name in wanted:
            if name not in names:
                raise _NoColumn(repr(name))

    with readable(str(file), kind):
        for block in RecordFile(str(file), kind).blocks(wanted, check_names=check):
            if isinstance(block, Unreadable):
                continue
            # JSON Lines declare no columns
            check([one.name for one in block.rows.schema if not pa.types.is_null(one.type)])
            rows = pl.DataFrame(block.rows)
            ids = (pl.col(c).cast(pl.String) for c in (columns.user, columns.item))
            user, item = rows.select(id.hash(seed=0) for id in ids).get_columns()
            zone = ZoneInfo(columns.zone)
            at = to_instants(rows[columns.time], columns.unit or "s", zone)
            found = pl.DataFrame({"user": user, "item": item, "at": at}).filter(
                pl.col("at").is_between(-_LATEST, _LATEST)
            )
            clock = pl.col("at").cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(columns.zone)
            of_day = clock.dt.date() if day is None else pl.lit(day)
            yield found.with_columns(day=of_day).drop_nulls()
