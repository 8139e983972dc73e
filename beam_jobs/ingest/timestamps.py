"""Reads times in the forms that logs use, as instants: microseconds since 1970 in UTC.

It also finds out from a column's values in which form they are written.
"""

from datetime import UTC, date, datetime, timedelta
from itertools import product
from typing import NamedTuple
from zoneinfo import ZoneInfo

import polars as pl

UNITS = ("s", "ms", "us")
_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_LIMIT = 1 << 57  # microseconds, about the years 2600 BC to 6500; a number beyond is no time
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = r"^\s*-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\s*$"
_ISO = (
    r"^\s*(?<date>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?<clock>\d{2}:\d{2})(?::(?<second>\d{2})(?:[.,](?<fraction>\d+))?)?"
    r"\s*(?<offset>[Zz]|UTC|[+-]\d{2}:?(?:\d{2})?)?)?\s*$"
)
_CANONICAL = "%Y-%m-%d %H:%M:%S%.6f%#z"
# A format must read at least this share of the values, since logs may have malformed times.
_SHARE = 0.95
_LOOKED_AT = 2_000
_TRIED_FIRST = 3
_OLDEST = datetime(1990, 1, 1, tzinfo=UTC)
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
_WHOLE = ("%Y%m%d%H%M%S", "%d/%b/%Y:%H:%M:%S %z", "%a %b %d %H:%M:%S %Y", "%a %b %d %H:%M:%S %z %Y")
_FORMATS = (*(day + clock for day, clock in product(_DATES, _CLOCKS)), *_WHOLE)


def accepts(kind: pl.DataType) -> bool:
    """Whether a column of this type can hold times."""
    return kind.is_temporal() or kind.is_numeric() or kind in (pl.String, pl.Categorical, pl.Null)


def to_instants(times: pl.Series, unit: str, zone: ZoneInfo) -> pl.Series:
    """Converts a column of times to instants.

    A time without an offset is read in `zone`. Where a clock change makes it happen twice, the first is
    meant; where the change skips it, it is read by the offset from before. A date is the start of its
    day.

    Args:
      times: [N] timestamps, dates, numbers since 1970 in UTC, or text: ISO 8601, or such numbers.
      unit: `s`, `ms` or `us`, for numbers.
      zone: of times without an offset.

    Returns: [N] Int64 microseconds; null where missing, or no time.
    """
    kind = times.dtype
    if kind == pl.Null:
        return times.cast(pl.Int64)
    if kind == pl.Date:
        return _local(times.cast(pl.Datetime("us")), zone)
    if isinstance(kind, pl.Datetime):
        clock = times.dt.cast_time_unit("us")
        return clock.cast(pl.Int64) if kind.time_zone else _local(clock, zone)
    if kind.is_numeric():
        return _epoch(times, unit)
    text = times.cast(pl.String)
    is_number = are_numbers(text)
    if not is_number.any():
        return _iso(text, zone)
    # Whole numbers first: as decimals, microseconds would lose their last digits.
    digits = text.str.strip_chars()
    values = _epoch(digits.cast(pl.Int64, strict=False), unit)
    values = values.fill_null(_epoch(digits.cast(pl.Float64, strict=False), unit))
    return values if is_number.all() else values.zip_with(is_number, _iso(text, zone))


def are_numbers(times: pl.Series) -> pl.Series:
    """[N] whether each time is a number since 1970, which may be written as text."""
    if times.dtype in (pl.String, pl.Categorical):
        return times.cast(pl.String).str.contains(_NUMBER).fill_null(False)
    return times.is_not_null() & times.dtype.is_numeric()


def _epoch(numbers: pl.Series, unit: str) -> pl.Series:
    """Numbers since 1970 as microseconds; null beyond the limit, where they would overflow."""
    factor = _MICROSECONDS[unit]
    kind = pl.Int64 if numbers.dtype.is_integer() else pl.Float64
    exact = numbers.cast(kind, strict=False)
    limit = _LIMIT // factor
    # Compared before they are multiplied: the product of a large number would overflow.
    sane = exact.set(~exact.is_between(-limit, limit), None)
    return (sane * factor).round().cast(pl.Int64)


def _iso(text: pl.Series, zone: ZoneInfo) -> pl.Series:
    """ISO 8601 as instants; null where it is something else."""
    # Exactly six digits: logs write milliseconds, nanoseconds or anything between.
    digits = (pl.col("fraction").fill_null("") + "000000").str.slice(0, 6)
    written = pl.format(
        "{} {}:{}.{}{}",
        "date",
        pl.col("clock").fill_null("00:00"),
        pl.col("second").fill_null("00"),
        digits,
        pl.col("offset").str.replace("UTC|z", "Z").fill_null("Z"),
    )
    parts = text.alias("t").to_frame().select(pl.col("t").str.extract_groups(_ISO).struct.unnest())
    # A part out of its range (month 13, hour 24) makes it null.
    clock = parts.select(written.str.to_datetime(_CANONICAL, time_unit="us", strict=False))
    instant = clock.to_series().dt.replace_time_zone(None)
    zoned = parts["offset"].is_not_null()
    return instant.cast(pl.Int64).zip_with(zoned, _local(instant, zone))


def _local(clock: pl.Series, zone: ZoneInfo) -> pl.Series:
    """Wall-clock times of the zone as instants."""
    zoned = clock.dt.replace_time_zone(str(zone), ambiguous="earliest", non_existent="null").cast(
        pl.Int64
    )
    skipped = clock.filter(zoned.is_null() & clock.is_not_null()).unique()
    if skipped.is_empty():
        return zoned
    # Rare, an hour a year: Polars cannot read skipped times, Python can.
    instants = [(t.replace(tzinfo=zone) - _EPOCH) // timedelta(microseconds=1) for t in skipped]
    by_clock = dict(zip(skipped.cast(pl.Int64), instants, strict=True))
    mended = clock.cast(pl.Int64).replace_strict(by_clock, default=None, return_dtype=pl.Int64)
    return zoned.fill_null(mended)


class TimeForm(NamedTuple):
    """How times are written. Timestamps and ISO 8601 have neither unit nor format.

    Attributes:
      unit: `s`, `ms` or `us`, of numbers since 1970.
      format: of other text, in strptime's letters.
    """

    unit: str | None = None
    format: str | None = None


def forms_of(values: pl.Series) -> list[TimeForm]:
    """How the values of a column are written, if they are times of plausible years.

    Returns: forms that read nearly all values, the likeliest first; several if days and months cannot
      be told apart, none if the values are no times.
    """
    kind = values.dtype
    if isinstance(kind, pl.Datetime) or kind == pl.Date:
        return [TimeForm()] if _fits(values.head(_LOOKED_AT), TimeForm()) else []
    if not (kind.is_numeric() or kind in (pl.String, pl.Categorical)):
        return []
    present = values.drop_nulls()
    # Taken from all over the column: the first rows of a sorted log are of one day.
    present = present.gather_every(max(1, len(present) // _LOOKED_AT))
    if kind.is_float():
        present = present.cast(pl.Int64, strict=False).drop_nulls()
    text = present.cast(pl.String).str.strip_chars()
    plain = map(TimeForm, UNITS) if are_numbers(text).all() else [TimeForm()]
    return [form for form in plain if _fits(text, form)] or _of_text(text)


def is_sure(values: pl.Series, forms: list[TimeForm]) -> bool:
    """Whether the first form reads the values as days of a far shorter span than the second."""
    if len(forms) < 2:
        return bool(forms)
    (first, _), (second, _) = (_reading(values.cast(pl.String), form) for form in forms[:2])
    return 2 * (first + timedelta(days=1)) < second


def _of_text(text: pl.Series) -> list[TimeForm]:
    """Formats that read the text, the one that gives the shortest span first: read with days and months
    exchanged, a week is scattered over the year.
    """
    examples = text.head(_TRIED_FIRST)
    candidates = (form for form in _FORMATS if any(_parses(value, form) for value in examples))
    forms = [TimeForm(format=form) for form in sorted(candidates)]
    # %B reads all that %b reads, and comes before it: of forms that read the same times, the last stays.
    readings = {_reading(text, form): form for form in forms if _fits(text, form)}
    return [readings[reading] for reading in sorted(readings)][:2]


def _parses(text: str, form: str) -> bool:
    """Whether Python reads the text in this format. It is stricter than Polars, which reads a version such
    as 1.2.0 by `%d.%m.%y`.
    """
    try:
        datetime.strptime(text, form)
    except ValueError:
        return False
    return True


def _reading(text: pl.Series, form: TimeForm) -> tuple[timedelta, datetime]:
    """The span of the times, and the first of them."""
    clock = in_form(text, form)
    least, most = clock.min(), clock.max()
    assert isinstance(least, datetime) and isinstance(most, datetime)
    return most - least, least


def _fits(values: pl.Series, form: TimeForm) -> bool:
    """Whether nearly all values, read so, are of years in which logs are written."""
    if values.is_empty():
        return False
    clock = in_form(values, form)
    newest = datetime(date.today().year + _YEARS_AHEAD, 1, 1, tzinfo=UTC)
    return bool(clock.is_between(_OLDEST, newest).sum() >= _SHARE * len(values))


def in_form(values: pl.Series, form: TimeForm, zone: ZoneInfo = _ZONE) -> pl.Series:
    """[N] UTC timestamps of times that are written in a form; null where they are not.

    Args:
      values: [N] text, timestamps, or numbers such as 20240325.
      form: how they are written.
      zone: of times without an offset.
    """
    if form.format is not None:
        values = to_clock(values.cast(pl.String), form.format)
    return to_instants(values, form.unit or "us", zone).cast(pl.Datetime("us", "UTC"))


def to_clock(text: pl.Series, form: str) -> pl.Series:
    """[N] strings as timestamps, in UTC if the format has an offset; null where they are of another form.
    The form is in strptime's letters, with `%f` after a point.
    """
    return text.str.strip_chars().str.to_datetime(
        form.replace(".%f", "%.f"), time_unit="us", strict=False
    )
