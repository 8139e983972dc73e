"""How long a log is, how often its users come and what they take again: the windows of a drafted
pipeline file follow from that.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl
import pyarrow as pa

from beam_jobs.partitioning.calendar_days import calendar_days
from beam_jobs.partitioning.log_tables import format_of
from twinspire_core.config.tables.data import WindowConfig
from twinspire_core.records.csv_lines import Unreadable
from twinspire_core.records.raw_files import readable
from twinspire_core.records.record_file import RecordFile
from twinspire_core.terminal import console

_MOST_BYTES = 1 << 30
_MOST_ROWS = 2_000_000
_FEWEST_RETURNS = 30
_VISITS = 12
"""That a history should hold; the 60 days of groceries hold about as many."""
_LONGER = (60, 90)
_LATE_SHARE = 0.02
_FEW_EVENTS = 500_000
_LONGEST = 365
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


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


@dataclass(frozen=True, slots=True)
class LogRhythm:
    """A log as a whole.

    Attributes:
      days: from its first day to its last.
      daily_events: mean of the days that were read, all of them or the newest.
      days_between: median number of days from a visit of a user to the next; None if too few come
        again.
      since_taken: [N] for each item that a user took on a day, the days since they took it before;
        null for the first time.
    """

    days: int
    daily_events: float
    days_between: float | None
    since_taken: pl.Series

    def taken_again(self, after: int) -> float:
        """Share of what users take that they took before, but more than so many days ago."""
        return float((self.since_taken > after).sum() / max(1, len(self.since_taken)))


def rhythm_of(root: Path, files: Sequence[Path], columns: LogColumns) -> LogRhythm | None:
    """Reads the newest files, a gigabyte at most; None for a log without days.

    Files without one of the columns are left out, and the newest of them is named.

    Args:
      root: the log's folder, or its file.
      files: its files. Days of the others are known by their folders.
      columns: of the events.
    """
    folders = {file: _folder_day(root, file) for file in files}
    newest = sorted(files, key=lambda file: (folders[file] or date.min, file), reverse=True)
    taken = pl.DataFrame(schema={"user": pl.UInt64, "item": pl.UInt64, "day": pl.Date})
    events = size = 0
    one_in = 1  # users are kept, so that the rows fit
    left_out: list[str] = []
    for file in newest:
        if size > _MOST_BYTES:
            break
        size += file.stat().st_size
        try:
            for rows in _blocks(file, columns, folders[file]):
                events += len(rows)
                taken = taken.vstack(rows.filter(pl.col("user") % one_in == 0).unique())
                while len(taken) > _MOST_ROWS:
                    one_in *= 2
                    taken = taken.filter(pl.col("user") % one_in == 0).unique()
        except _NoColumn as e:
            left_out.append(f"{file} has no {e}")
    if left_out:
        console.print(
            f"[window] leaves out {len(left_out)} of {len(newest)} files: {left_out[0]}.",
            soft_wrap=True,
        )
    taken = taken.unique().sort("day")
    if taken.is_empty():
        return None
    first_read, last = taken["day"][0], taken["day"][-1]
    first = min([first_read, *(day for day in folders.values() if day)])
    return LogRhythm(
        days=(last - first).days + 1,
        daily_events=events / ((last - first_read).days + 1),
        days_between=_between(taken),
        since_taken=taken.select(_since("user", "item"))["day"],
    )


def _folder_day(root: Path, file: Path) -> date | None:
    match = _DAY.search(str(file.relative_to(root).parent)) if file != root else None
    with suppress(ValueError):  # 2024-13-45 is no day
        return date.fromisoformat(match[0]) if match else None
    return None


def _blocks(file: Path, columns: LogColumns, day: date | None) -> Iterator[pl.DataFrame]:
    """Hashes of user and item, and the day, of each event that has all three."""
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
            days = pl.repeat(day, len(rows), dtype=pl.Date, eager=True)
            if day is None:
                days = calendar_days(block.rows[columns.time], columns.unit, columns.zone)
            ids = (pl.col(c).cast(pl.String) for c in (columns.user, columns.item))
            user, item = rows.select(id.hash(seed=0) for id in ids).get_columns()
            yield pl.DataFrame({"user": user, "item": item, "day": days}).drop_nulls()


def _since(*keys: str) -> pl.Expr:
    return pl.col("day").diff().over(keys).dt.total_days()


def _between(taken: pl.DataFrame) -> float | None:
    visits = taken.select("user", "day").unique().sort("day")
    days = visits.select(_since("user"))["day"].drop_nulls()
    return float(days.median()) if len(days) >= _FEWEST_RETURNS else None  # type: ignore[arg-type]


def window_lines(rhythm: LogRhythm) -> list[str]:
    """`[window]` of a draft: the keys whose value is not the default, each with its figure."""
    default = WindowConfig()
    history = default.history_days
    lines = []
    between = rhythm.days_between
    if between is not None and between * _VISITS > history:
        longer = next((days for days in _LONGER if days >= between * _VISITS), _LONGER[-1])
        history = max(history, min(longer, rhythm.days))
    if history > default.history_days:
        visit = f"users come back after {between:g} days (median)"
        lines.append(
            f"history_days = {history}  # {visit}: some {history / (between or 1):.0f} visits"
        )
    monthly = rhythm.daily_events * default.train_days
    if monthly < _FEW_EVENTS and rhythm.days > default.train_days:
        days = min(_LONGER[0], rhythm.days)
        lines.append(f"train_days = {days}  # {default.train_days} days have {monthly:,.0f} events")
    again = rhythm.taken_again(history)
    personal = min(_LONGEST, rhythm.days)
    if again >= _LATE_SHARE and personal > history:
        lines.append(
            f"personal_days = {personal}  # {again:.0%} of what users take repeats what they took more"
            f" than {history} days before; the log has {rhythm.days} days"
        )
    return ["", "[window]", *lines] if lines else []
