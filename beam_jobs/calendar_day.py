"""The calendar day, in a time zone, of a column of times in any of the forms that logs use."""

import polars as pl
import pyarrow as pa

from twinspire.errors import UsageError

UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
"""Microseconds in one unit of an integer time."""

_ISO = (
    r"^\s*(?<date>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?<hour>\d{2}):(?<minute>\d{2})(?::(?<second>\d{2})(?:[.,]\d+)?)?"
    r"\s*(?:(?<utc>[Zz]|UTC)|(?<sign>[+-])(?<zh>\d{2}):?(?<zm>\d{2})?)?)?\s*$"
)
_YEAR_1, _YEAR_9999 = -62_135_596_800, 253_402_214_400  # seconds since 1970 that a date can hold, zones aside


def calendar_days(times: pa.ChunkedArray, unit: str | None, zone: str) -> pl.Series:
    """The day on which each time falls.

    Args:
      times: [N] timestamps (an instant with a zone, wall-clock time of `zone` without), dates, ISO 8601 strings (the
        same, by whether they end in Z or an offset), or numbers since 1970 in UTC.
      unit: `s`, `ms` or `us`, for numbers and for text that holds numbers.
      zone: IANA name.

    Returns: [N] Date; null where the time is missing or makes no sense.

    Raises:
      UsageError: the column is of another type, or a number without `unit`.
    """
    kind = times.type
    if pa.types.is_dictionary(kind):
        times, kind = times.cast(kind.value_type), kind.value_type
    column = pl.Series("time", times)
    if pa.types.is_date(kind):
        return column.cast(pl.Date)
    if pa.types.is_timestamp(kind):
        return (column.dt.convert_time_zone(zone) if kind.tz else column).dt.date()
    if pa.types.is_null(kind):
        return pl.Series("time", [None] * len(column), pl.Date)
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if text and unit is None:
        return _iso_days(column, zone)
    if not (text or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise UsageError(
            f"A time is a timestamp, a date, an ISO 8601 string or a number; this column is {kind}. Name another one."
        )
    if unit is None:
        raise UsageError(f"A time that is a number needs its unit: --time-unit {_guess(column)}?")
    return _epoch_days(column, unit, zone)


def _epoch_days(column: pl.Series, unit: str, zone: str) -> pl.Series:
    # Floats hold microseconds of our century to the microsecond; the day needs whole seconds only.
    number = column if column.dtype.is_integer() else column.cast(pl.Float64, strict=False)
    per_second = 1_000_000 // UNITS[unit]
    value = pl.col("time")
    sane = value.is_between(_YEAR_1 * per_second, _YEAR_9999 * per_second)
    seconds = pl.when(sane).then(value) // per_second
    instant = (seconds.cast(pl.Int64) * 1_000_000).cast(pl.Datetime("us", "UTC"))
    return number.to_frame("time").select(instant.dt.convert_time_zone(zone).dt.date()).to_series()


def _guess(column: pl.Series) -> str:
    largest = column.cast(pl.Float64).abs().fill_null(0).to_numpy().max(initial=0)
    return "s" if largest < 1e11 else "ms" if largest < 1e14 else "us"


def _iso_days(column: pl.Series, zone: str) -> pl.Series:
    part = pl.col("time").str.extract_groups(_ISO).struct.unnest()
    parts = pl.DataFrame(column.cast(pl.String).alias("time")).select(part)
    number = {name: pl.col(name).cast(pl.Int64).fill_null(0) for name in ("hour", "minute", "second", "zh", "zm")}
    sane = (number["hour"] < 24) & (number["minute"] < 60) & (number["second"] <= 60)
    day = pl.col("date").str.to_date("%Y-%m-%d", strict=False)
    second = number["second"].clip(0, 59)  # a leap second is still its own day's
    clock = day.cast(pl.Datetime("us")) + pl.duration(hours=number["hour"], minutes=number["minute"], seconds=second)
    offset = pl.duration(hours=number["zh"], minutes=number["zm"])
    instant = pl.when(pl.col("sign") == "-").then(clock + offset).otherwise(clock - offset)
    local = instant.dt.replace_time_zone("UTC").dt.convert_time_zone(zone).dt.date()
    zoned = pl.col("utc").is_not_null() | pl.col("sign").is_not_null()
    return parts.select(pl.when(sane).then(pl.when(zoned).then(local).otherwise(day)).alias("time")).to_series()
