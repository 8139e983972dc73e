"""Which row of the raw files belongs to which day: what a person asks for, and the calendar day of each
time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from zoneinfo import ZoneInfo, available_timezones

import polars as pl
import pyarrow as pa

from beam_jobs.ingest.timestamps import (
    UNITS,
    accepts,
    are_numbers,
    forms_of,
    is_sure,
    to_instants,
)
from beam_jobs.partitioning.log_tables import Format
from twinspire_core.errors import UsageError, with_full_stop, zone_hint
from twinspire_core.records.csv_lines import CsvOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How rows are laid out by day.

    Attributes:
      time: column of the time; None with `snapshot`.
      time_unit: `s`, `ms` or `us`, for a time that is a number.
      time_format: of text that is not ISO 8601, in strptime's letters; the files of the days hold
        timestamps instead.
      time_zone: IANA name of the zone whose calendar days count.
      snapshot: the one day that all rows belong to, for tables of items and users.
      first: rows of earlier days are left out.
      last: rows of later days are left out.
      format: of the input; `auto` takes it from the endings of the files.
      csv: how CSV files are written.
      items_of: columns of the items, first their id: instead of the rows, one snapshot of the items as they
        first came, of the day before the first.
      text: columns of CSV files that stay text although they hold only numbers.
      done_marker: name of an empty file that is written into each day's folder after its rows.
    """

    time: str | None = None
    time_unit: str | None = None
    time_format: str | None = None
    time_zone: str = "UTC"
    snapshot: date | None = None
    first: date | None = None
    last: date | None = None
    format: Format = "auto"
    csv: CsvOptions = field(default_factory=CsvOptions)
    items_of: Sequence[str] = ()
    text: Sequence[str] = ()
    done_marker: str | None = None

    def __post_init__(self) -> None:
        if (self.time is None) == (self.snapshot is None):
            raise UsageError(
                "Give either --time COLUMN, to write each row to the day of its time, or --snapshot"
                " DATE, to write all rows to one day."
            )
        if self.items_of and (self.time is None or self.time in self.items_of):
            raise UsageError(
                "--items-of needs --time COLUMN, and names only columns that describe the item, first its id;"
                f" found {','.join(self.items_of)}. Correct the options."
            )
        if "%Z" in (self.time_format or ""):
            raise UsageError(
                "--time-format cannot read the name of a zone (%Z), which several zones may have; found"
                f" {self.time_format!r}. Write the name itself if it is always the same, such as UTC, and"
                " give --time-zone."
            )
        if self.time_format is not None and ("%" not in self.time_format or self.time_unit):
            raise UsageError(
                "--time-format must be a strptime format, such as '%d.%m.%Y %H:%M:%S', and cannot be"
                f" combined with --time-unit; found {self.time_format!r}."
            )
        if self.time_unit is not None and self.time_unit not in UNITS:
            raise UsageError(
                f"--time-unit must be one of {', '.join(UNITS)}; found {self.time_unit!r}."
            )
        if self.time_zone not in available_timezones():
            hint = zone_hint(self.time_zone, available_timezones())
            raise UsageError(
                with_full_stop(f"A time zone must be an IANA name; found {self.time_zone!r}{hint}")
            )
        if self.first and self.last and self.first > self.last:
            raise UsageError(f"--from must not be after --to; found {self.first} and {self.last}.")


OLDEST = date(1990, 1, 1)
"""No log has older rows: a time before it is a wrong one, or has another unit."""
# What a date can hold in any zone, in microseconds.
_YEAR_1 = -62_135_596_800_000_000
_YEAR_9999 = 253_402_214_400_000_000


def calendar_days(times: pa.ChunkedArray, unit: str | None, zone: str) -> pl.Series:
    """The day on which each time falls, as the feature job will see it.

    Args:
      times: [N] timestamps or ISO 8601 strings (instants, or without an offset wall-clock times of
        `zone`), dates, or numbers since 1970 in UTC.
      unit: `s`, `ms` or `us`, for numbers and for text that holds numbers.
      zone: IANA name of the zone whose calendar days count.

    Returns: [N] Date; null where the time is missing or makes no sense.

    Raises:
      UsageError: the column is of another type, or holds numbers and there is no `unit`.
    """
    column = pl.Series("time", times)
    if not accepts(column.dtype) or column.dtype in (pl.Time, pl.Duration):
        raise UsageError(
            "A time must be a timestamp, a date, an ISO 8601 string or a number; this column is"
            f" {times.type}. Name another column."
        )
    if unit is None:
        column = _without_numbers(column)
    instants = to_instants(column, unit or "s", ZoneInfo(zone))
    # Beyond these bounds Python has no date.
    sane = instants.set(~instants.is_between(_YEAR_1, _YEAR_9999), None)
    return sane.cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(zone).dt.date()


def _without_numbers(column: pl.Series) -> pl.Series:
    """The column, if its values are no numbers; a few numbers among text become null."""
    numbers = are_numbers(column)
    if not numbers.any():
        return column
    if numbers.sum() == column.is_not_null().sum():
        advice = form_advice(column) or "add --time-unit s, ms or us, or name another column."
        raise UsageError(f"A time that is a number needs its unit: {advice}")
    return column.cast(pl.String).set(numbers, None)


def form_advice(times: pl.Series) -> str:
    """Advice on the option that reads times as they are written; empty if none does."""
    forms = forms_of(times)
    options = [
        f"--time-unit {form.unit}" if form.unit else f"--time-format '{form.format}'"
        for form in forms
        if form.unit or form.format
    ]
    if not options:
        return ""
    other = "" if is_sure(times, forms) else f" (or {options[1]}, if that number is the month)"
    return f"add {options[0]}{other}."
