"""Which row of the raw files belongs to which day: what a person asks for, and the calendar day of
each time.

How the values of a column are written, if they are times: a unit of numbers, or a format of
text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from itertools import product
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import polars as pl
import pyarrow as pa

from beam_jobs.ingest.timestamps import UNITS, accepts, to_instants
from beam_jobs.partitioning.log_tables import Format
from twinspire_core.errors import UsageError
from twinspire_core.records.csv_lines import CsvOptions

_SHARE = 0.95
"""Of the values, at least, that a form has to read."""
_LOOKED_AT = 2_000
_TRIED_FIRST = 3
_FIRST_YEAR = datetime(1990, 1, 1, tzinfo=UTC)
_YEARS_AHEAD = 2
_ZONE = ZoneInfo("UTC")
_DATES = (
    *("%d.%m.%Y", "%d.%m.%y", "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y", "%Y/%m/%d"),
    *("%Y.%m.%d", "%Y%m%d", "%Y-%m-%d", "%d-%m-%Y", "%m-%d-%Y", "%d-%b-%Y", "%d %b %Y"),
    *("%b %d, %Y", "%b %d %Y", "%a, %d %b %Y", "%d %B %Y", "%B %d, %Y"),
)
_CLOCKS = (
    *("", " %H:%M:%S", " %H:%M", " %H:%M:%S.%f", " %I:%M:%S %p", " %I:%M %p", " %H:%M:%S %z"),
    *(", %H:%M:%S", ", %H:%M", ", %I:%M:%S %p", ", %I:%M %p", "T%H:%M:%S", "T%H:%M"),
)
_SHORT_YEAR = re.compile(r"\d{1,2}\D\d{1,2}\D\d{2}(\D|$)")
"""What `%y` reads. It would also read the end of a version such as 1.2.0."""
_WHOLE = ("%Y%m%d%H%M%S", "%d/%b/%Y:%H:%M:%S %z", "%a %b %d %H:%M:%S %Y", "%a %b %d %H:%M:%S %z %Y")
_FORMATS = (*(day + clock for day, clock in product(_DATES, _CLOCKS)), *_WHOLE)


class TimeForm(NamedTuple):
    """How times are written.

    Attributes:
      unit: `s`, `ms` or `us`, of numbers since 1970.
      format: of text that is not ISO 8601, in strptime's letters.
    """

    unit: str | None = None
    format: str | None = None


def forms_of(values: pl.Series) -> list[TimeForm]:
    """How the values of a column are written, if they are times of a plausible year.

    Returns: forms that read nearly all values, the likeliest first; several if days and months
      cannot be told apart, none if these are no times. Timestamps and ISO 8601 need neither unit
      nor format.
    """
    kind = values.dtype
    if isinstance(kind, pl.Datetime) or kind == pl.Date:
        return [TimeForm()] if _fits(values.head(_LOOKED_AT), TimeForm()) else []
    if not (kind.is_numeric() or kind in (pl.String, pl.Categorical)):
        return []
    present = values.drop_nulls()
    # From all over: the first rows of a sorted log are of one day.
    present = present.gather_every(max(1, len(present) // _LOOKED_AT))
    if kind.is_float():
        present = present.cast(pl.Int64, strict=False).drop_nulls()
    text = present.cast(pl.String).str.strip_chars()
    plain = [TimeForm()] if not text.str.contains(r"^\d+$").all() else map(TimeForm, UNITS)
    return [form for form in plain if _fits(text, form)] or _of_text(text)


def to_clock(text: pl.Series, form: str) -> pl.Series:
    """Text as timestamps, in UTC if the format has an offset; null where it is of another form.

    Args:
      text: [N] strings.
      form: in the letters of strptime, `%f` after a point included.
    """
    written = form.replace(".%f", "%.f")
    return text.str.strip_chars().str.to_datetime(written, time_unit="us", strict=False)


def _of_text(text: pl.Series) -> list[TimeForm]:
    """Formats that read the text, that of the shortest span first: days taken for months scatter
    a week over the year.
    """
    written = {
        form
        for one in text.head(_TRIED_FIRST)
        for form in _BY_SHAPE.get(_shape(one), ())
        if "%y" not in form or _SHORT_YEAR.match(one)
    }
    forms = [TimeForm(format=form) for form in sorted(written)]
    # %B reads all that %b reads, and comes before it: of forms that read the same, the last stays.
    readings = {_reading(text, form): form for form in forms if _fits(text, form)}
    return [readings[reading] for reading in sorted(readings)][:2]


def _shape(text: str) -> str:
    """The text with one digit for all that stand together, and one letter."""
    digits = re.sub(r"\d+", "9", re.sub(r"[A-Za-z]+", "A", text))
    return re.sub(r"[+-]9$", "+9", digits)


def _by_shape() -> dict[str, list[str]]:
    example = datetime(2024, 3, 25, 14, 51, 36, 250_000, UTC)
    shapes: dict[str, list[str]] = {}
    for form in _FORMATS:
        shapes.setdefault(_shape(example.strftime(form)), []).append(form)
    return shapes


_BY_SHAPE = _by_shape()


def is_sure(values: pl.Series, forms: list[TimeForm]) -> bool:
    """Whether the first of the forms reads the values as days of a far shorter span than the
    second.
    """
    if len(forms) < 2:
        return bool(forms)
    (first, _), (second, _) = (_reading(values.cast(pl.String), form) for form in forms[:2])
    return 2 * (first + timedelta(days=1)) < second


def _reading(text: pl.Series, form: TimeForm) -> tuple[timedelta, datetime]:
    """The span of the times, and the first of them."""
    clock = _clock(text, form).dt.replace_time_zone("UTC")
    least, most = clock.min(), clock.max()
    assert isinstance(least, datetime) and isinstance(most, datetime)
    return most - least, least


def _clock(values: pl.Series, form: TimeForm) -> pl.Series:
    if form.format is not None:
        return to_clock(values.cast(pl.String), form.format)
    instants = to_instants(values, form.unit or "us", _ZONE)
    return instants.cast(pl.Datetime("us", "UTC"))


def _fits(values: pl.Series, form: TimeForm) -> bool:
    """Whether nearly all values, read so, are of years in which logs are written."""
    if values.is_empty():
        return False
    clock = _clock(values, form).dt.replace_time_zone("UTC")
    newest = datetime(date.today().year + _YEARS_AHEAD, 1, 1, tzinfo=UTC)
    return bool(clock.is_between(_FIRST_YEAR, newest).sum() >= _SHARE * len(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How rows are told apart by day.

    Attributes:
      time: column of the time; None with `snapshot`.
      time_unit: `s`, `ms` or `us`, for a time that is a number.
      time_format: of text that is not ISO 8601, in strptime's letters; the days' files hold
        timestamps instead.
      time_zone: IANA name of the zone whose calendar days are meant.
      snapshot: the one day that all rows belong to, for tables of items and users.
      first: rows of earlier days are left out.
      last: rows of later days are left out.
      rename: new column names by old ones.
      format: of the input; `auto` looks at the files' endings.
      csv: what CSV files do not say about themselves.
      text: columns of CSV files that stay text although they hold nothing but numbers.
      done_marker: name of an empty file written into each day's folder after its rows.
    """

    time: str | None = None
    time_unit: str | None = None
    time_format: str | None = None
    time_zone: str = "UTC"
    snapshot: date | None = None
    first: date | None = None
    last: date | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    format: Format = "auto"
    csv: CsvOptions = field(default_factory=CsvOptions)
    text: Sequence[str] = ()
    done_marker: str | None = None

    def __post_init__(self) -> None:
        if (self.time is None) == (self.snapshot is None):
            raise UsageError(
                "Rows go to the day of their time (--time COLUMN), or all to one day (--snapshot"
                " DATE): give one."
            )
        if self.time and self.time in self.rename and self.time not in self.rename.values():
            object.__setattr__(self, "time", self.rename[self.time])
        if self.time_format is not None and ("%" not in self.time_format or self.time_unit):
            raise UsageError(
                "--time-format is in strptime's letters, as '%d.%m.%Y %H:%M:%S', and goes without"
                f" --time-unit; found {self.time_format!r}."
            )
        if self.time_unit is not None and self.time_unit not in UNITS:
            raise UsageError(f"--time-unit is one of {', '.join(UNITS)}, found {self.time_unit!r}.")
        if self.time_zone not in available_timezones():
            near = get_close_matches(self.time_zone, available_timezones(), 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"A time zone is an IANA name, found {self.time_zone!r}.{hint}")
        if self.first and self.last and self.first > self.last:
            raise UsageError(f"--from is not after --to, found {self.first} and {self.last}.")


_NUMBER = r"^\s*-?\d+(\.\d+)?\s*$"
_OLDEST = date(1990, 1, 1)
_OLDEST_SECONDS = 631_152_000
# What a date can hold, zones aside, in microseconds
_YEAR_1 = -62_135_596_800_000_000
_YEAR_9999 = 253_402_214_400_000_000


def calendar_days(times: pa.ChunkedArray, unit: str | None, zone: str) -> pl.Series:
    """The day on which each time falls, as the feature job will see it.

    Args:
      times: [N] timestamps (an instant with a zone, wall-clock time of `zone` without), dates, ISO
        8601 strings (the same, by whether they end in Z or an offset), or numbers since 1970 in
        UTC.
      unit: `s`, `ms` or `us`, for numbers and for text that holds numbers.
      zone: IANA name.

    Returns: [N] Date; null where the time is missing or makes no sense.

    Raises:
      UsageError: the column is of another type, or holds numbers and there is no `unit`.
    """
    column = pl.Series("time", times)
    if not accepts(column.dtype) or column.dtype in (pl.Time, pl.Duration):
        raise UsageError(
            "A time is a timestamp, a date, an ISO 8601 string or a number; this column is"
            f" {times.type}. Name another one."
        )
    if unit is None:
        column = _without_numbers(column)
    instants = to_instants(column, unit or "s", ZoneInfo(zone))
    # Python's dates end there, and a day becomes one.
    sane = instants.set(~instants.is_between(_YEAR_1, _YEAR_9999), None)
    return sane.cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(zone).dt.date()


def _without_numbers(column: pl.Series) -> pl.Series:
    """The column as it is, if it holds no numbers; text that holds a few is malformed there."""
    if column.dtype.is_numeric():
        numbers = column.is_not_null()
    elif column.dtype in (pl.String, pl.Categorical):
        column = column.cast(pl.String)
        numbers = column.str.contains(_NUMBER).fill_null(False)
    else:
        return column
    if not numbers.any():
        return column
    if numbers.sum() == column.is_not_null().sum():
        advice = form_advice(column) or f"--time-unit {_guess(column)}?"
        raise UsageError(f"A time that is a number needs its unit: {advice}")
    return column.set(numbers, None)


def form_advice(times: pl.Series) -> str:
    """The option that reads times as they are written, in words; nothing if none does."""
    forms = forms_of(times)
    options = [
        f"--time-unit {form.unit}" if form.unit else f"--time-format '{form.format}'"
        for form in forms
        if form.unit or form.format
    ]
    if not options:
        return ""
    other = "" if is_sure(times, forms) else f" (or {options[1]}, if that number is the month)"
    return f"say {options[0]}{other}."


def with_timestamps(times: pa.ChunkedArray, form: str, zone: str) -> pl.Series:
    """[N] UTC timestamps of times that are written in a format; null where they are not.

    Args:
      times: [N] text, or numbers such as 20240325.
      form: see `Layout`.
      zone: IANA name, of times whose format has no offset.
    """
    clock = to_clock(pl.Series("time", times).cast(pl.String), form)
    instants = to_instants(clock, "us", ZoneInfo(zone))
    return instants.cast(pl.Datetime("us", "UTC"))


def _guess(column: pl.Series) -> str:
    """The unit in which numbers since 1970 are of our time: 1e11 seconds are the year 5138."""
    largest = column.cast(pl.Float64).abs().fill_null(0).to_numpy().max(initial=0)
    if largest < 1e11:
        return "s"
    if largest < 1e14:
        return "ms"
    return "us"


def unit_warning(times: pa.ChunkedArray, unit: str | None, days: pl.Series) -> str | None:
    """What is odd about days that were read from numbers: none of the logs anyone keeps are that
    old.

    Args:
      times: [N] as given to `calendar_days`.
      unit: the same.
      days: [N] what it gave.
    """
    early = days.filter(days < _OLDEST)
    if unit is None or early.is_empty():
        return None
    column = pl.Series("time", times).cast(pl.String)
    is_early = (days < _OLDEST).fill_null(False)
    is_number = column.str.contains(_NUMBER).fill_null(False)
    numbers = column.filter(is_early & is_number)
    if numbers.is_empty():
        return None
    likely = _guess(numbers)
    recent_in_seconds = bool((numbers.cast(pl.Float64) > _OLDEST_SECONDS).any())
    if likely != unit and recent_in_seconds:
        advice = f"It is probably in {likely}: --time-unit {likely}."
    else:
        advice = "Check the column and its unit."
    first = early.to_list()[early.arg_min() or 0]
    return (
        f"{len(numbers):,} rows fall on days before {_OLDEST}, the first on {first}, when their"
        f" time is read in {unit}. {advice}"
    )
