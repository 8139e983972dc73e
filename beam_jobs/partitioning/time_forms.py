"""How the values of a column are written, if they are times: a unit of numbers, or a format of
text.
"""

import re
from datetime import UTC, date, datetime, timedelta
from itertools import product
from typing import NamedTuple
from zoneinfo import ZoneInfo

import polars as pl

from beam_jobs.ingest.timestamps import UNITS, to_instants

_SHARE = 0.95
"""Of the values, at least, that a form has to read."""
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
    return bool(clock.is_between(_OLDEST, newest).sum() >= _SHARE * len(values))
