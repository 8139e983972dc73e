"""Times in any of the forms that logs use -> instants: microseconds since 1970, UTC."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

UNITS = ("s", "ms", "us")
_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_LIMIT = 1 << 57  # microseconds: years about 2600 BC to 6500; what is beyond is no time
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = r"^\s*-?\d+(?:\.\d+)?\s*$"
_ISO = (
    r"^\s*(?<date>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?<clock>\d{2}:\d{2})(?::(?<second>\d{2})(?:[.,](?<fraction>\d+))?)?"
    r"\s*(?:(?<utc>[Zz]|UTC)|(?<sign>[+-])(?<zh>\d{2}):?(?<zm>\d{2})?)?)?\s*$"
)


def accepts(kind: pl.DataType) -> bool:
    """Whether a column of this type can hold times."""
    return kind.is_temporal() or kind.is_numeric() or kind in (pl.String, pl.Categorical, pl.Null)


def to_instants(times: pl.Series, unit: str, zone: ZoneInfo) -> pl.Series:
    """Converts a column of times.

    A time without a zone is read in `zone`. Where a clock change makes it happen twice, it is the
    first; where it is skipped, it is read by the offset that held before. A date is the start of
    its day.

    Args:
      times: [N] timestamps, dates, numbers since 1970 in UTC, or text: ISO 8601, or such numbers.
      unit: `s`, `ms` or `us`; of numbers.
      zone: of times that name none.

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
    is_number = text.str.contains(_NUMBER).fill_null(False)
    if not is_number.any():
        return _iso(text, zone)
    # Whole numbers first: as decimals, microseconds would lose their last digits.
    digits = text.str.strip_chars()
    values = _epoch(digits.cast(pl.Int64, strict=False), unit)
    values = values.fill_null(_epoch(digits.cast(pl.Float64, strict=False), unit))
    if is_number.all():
        return values
    return values.zip_with(is_number, _iso(text, zone))


def _epoch(numbers: pl.Series, unit: str) -> pl.Series:
    """Numbers since 1970 as microseconds; null beyond the limit, where they would overflow."""
    factor = _MICROSECONDS[unit]
    value = pl.col("t")
    if numbers.dtype.is_integer():
        whole = value.cast(pl.Int64, strict=False)
        in_range = whole.is_between(-(_LIMIT // factor), _LIMIT // factor)
        instant = pl.when(in_range).then(whole) * factor
    else:
        scaled = value.cast(pl.Float64) * factor
        in_range = scaled.is_finite() & (scaled.abs() < _LIMIT)
        instant = pl.when(in_range).then(scaled).round().cast(pl.Int64)
    return numbers.alias("t").to_frame().select(instant).to_series()


def _iso(text: pl.Series, zone: ZoneInfo) -> pl.Series:
    """ISO 8601 as instants; null where it is something else."""
    parts = text.alias("t").to_frame().select(pl.col("t").str.extract_groups(_ISO).struct.unnest())
    digits = (pl.col("fraction").fill_null("") + "000000").str.slice(0, 6)
    written = pl.concat_str(
        [
            pl.col("date"),
            pl.lit(" "),
            pl.col("clock").fill_null("00:00"),
            pl.lit(":"),
            pl.col("second").fill_null("00"),
            pl.lit("."),
            digits,
        ]
    )
    # Unfit parts (month 13, hour 24) make it null.
    clock = written.str.to_datetime("%Y-%m-%d %H:%M:%S%.6f", time_unit="us", strict=False)
    minutes = pl.col("zh").cast(pl.Int64) * 60 + pl.col("zm").cast(pl.Int64).fill_null(0)
    offset = pl.when(pl.col("sign") == "-").then(-minutes).otherwise(minutes).fill_null(0)
    zoned = pl.col("utc").is_not_null() | pl.col("sign").is_not_null()
    found = parts.select(
        clock=pl.when(pl.col("date").is_not_null()).then(clock),
        zoned=zoned,
        offset=offset * 60_000_000,
    )
    instant = found["clock"].cast(pl.Int64) - found["offset"]
    if found["zoned"].all():
        return instant
    return instant.zip_with(found["zoned"], _local(found["clock"], zone))


def _local(clock: pl.Series, zone: ZoneInfo) -> pl.Series:
    """Wall-clock times of the zone as instants."""
    zoned = clock.dt.replace_time_zone(str(zone), ambiguous="earliest", non_existent="null").cast(
        pl.Int64
    )
    skipped = clock.filter(zoned.is_null() & clock.is_not_null()).unique()
    if skipped.is_empty():
        return zoned
    # Rare: an hour a year. Polars has no rule for these, Python has.
    instants = [(t.replace(tzinfo=zone) - _EPOCH) // timedelta(microseconds=1) for t in skipped]
    by_clock = dict(zip(skipped.cast(pl.Int64), instants, strict=True))
    mended = clock.cast(pl.Int64).replace_strict(by_clock, default=None, return_dtype=pl.Int64)
    return zoned.fill_null(mended)
