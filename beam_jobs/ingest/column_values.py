"""How the values of a raw column are read, by its use and type, and which of them make no sense.

Each kind of column has a function here: of a column, the raw values, their type, and whether the
file's format is text, so that numbers may be written as text.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import polars as pl

from beam_jobs.ingest import timestamps
from beam_jobs.ingest.columns import RAW, Column

_SCALARS = (pl.String, pl.Categorical, pl.Boolean, pl.Date, pl.Null)
_EXACT = 2**53
"""Whole numbers below this one are decimals without loss."""
_SENSIBLE = pl.lit(False)
"""For `Reading.nonsense`: all values make sense."""
EMPTY_TYPES: dict[str, Any] = {
    "categories": pl.List(pl.String),
    "vector": pl.List(pl.Float32),
    "number": pl.Float32,
    "reward": pl.Float64,
    "time": pl.Int64,
    "instant": pl.Int64,
}
"""Types of columns without values, by their kind; of the kinds that are left, String."""


class WrongType(Exception):
    """A column's type cannot serve its use. The message says what would."""


class Reading(NamedTuple):
    """How a column is read.

    Attributes:
      values: what becomes of the raw values.
      nonsense: whether a raw value makes no sense; it may look at the values by the column's name.
      reason: what is wrong then, in words; empty if nothing can be.
    """

    values: pl.Expr
    nonsense: pl.Expr = _SENSIBLE
    reason: str = ""


def read_as(column: Column, kind: pl.DataType, *, text: bool) -> Reading:
    """How to read a column of some type.

    Args:
      kind: type of the raw column, which is named `RAW` + `column.source`.
      text: whether the file's format has no types, so that numbers may be text.

    Returns:
      The reading, with values named `column.name`, and a reason that names the column's use.

    Raises:
      WrongType: no value of that type makes sense.
    """
    raw = pl.col(RAW + column.source)
    if kind == pl.Null:
        reading = Reading(_empty(column), reason="empty")
    else:
        reading = _READERS[column.kind](column, raw, kind, text)
    nonsense = reading.nonsense
    reason = reading.reason
    if column.required:
        nonsense = pl.col(column.name).is_null() | nonsense
        reason = f"{column.use.partition('.')[2]} is missing or {reason}"
    elif reason:
        reason = f"{column.use} is {reason}"
    return Reading(reading.values.alias(column.name), nonsense, reason)


def _key(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> Reading:
    if kind.is_float():
        raise WrongType(
            "a string or an integer; decimals are often integers that pandas made room for nulls"
            " in, or stood in a CSV, of which `twinspire partition --text COLUMN` keeps them"
        )
    if not (kind.is_integer() or kind in (pl.String, pl.Categorical)):
        raise WrongType("a string or an integer")
    return Reading(_filled(raw.cast(pl.String)), reason="empty")


def _category(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> Reading:
    return Reading(_filled(as_string(raw, kind)))


def as_string(raw: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Values of a type as the text that they stand for, whole decimals without a point; what is not
    finite is null.

    Raises:
      WrongType: no value of that type stands for one text.
    """
    if kind.is_float():
        is_whole = (raw == raw.floor()) & (raw.abs() < _EXACT)
        without_point = raw.cast(pl.Int64, strict=False).cast(pl.String)
        digits = pl.when(is_whole).then(without_point).otherwise(raw.cast(pl.String))
        return pl.when(raw.is_finite()).then(digits)
    # The scalars have pl.Null among them: the elements of lists that are all empty.
    if kind.is_integer() or kind.is_decimal() or kind in _SCALARS:
        return raw.cast(pl.String)
    raise WrongType("a string, an integer or true/false")


def _filled(values: pl.Expr) -> pl.Expr:
    """The values, null where they are empty."""
    return pl.when(values != "").then(values)


def holds_bytes(kind: pl.DataType) -> bool:
    """Whether the values of a type, or what its lists hold, are bytes: these need not be text."""
    if isinstance(kind, pl.List | pl.Array):
        return holds_bytes(cast(pl.DataType, kind.inner))
    return kind == pl.Binary


def _words(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> Reading:
    _refuse_bytes(kind)
    if isinstance(kind, pl.List | pl.Array):
        return Reading(raw.cast(pl.List(pl.String)).list.join(", "))
    return Reading(_filled(raw.cast(pl.String)))


def _raw(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> Reading:
    _refuse_bytes(kind)
    return Reading(raw)


def _refuse_bytes(kind: pl.DataType) -> None:
    if holds_bytes(kind):
        raise WrongType("text, numbers, true/false or lists of these; bytes need not be text")


def _number(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> Reading:
    number = _as_number(raw, kind, text)
    # NaN and infinities are missing values; other text is a mistake.
    nonsense = number.is_null() & raw.is_not_null()
    if kind == pl.String:
        nonsense &= raw.str.strip_chars() != ""
    values = pl.when(number.is_finite()).then(number).cast(pl.Float32)
    return Reading(values, nonsense, "not a number")


def _reward(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> Reading:
    value = pl.col(column.name)
    sensible = value.is_finite() & (value >= 0)
    number = _as_number(raw, kind, text)
    return Reading(number, ~sensible.fill_null(False), "not a number of 0 or more")


def _as_number(raw: pl.Expr, kind: pl.DataType, text: bool) -> pl.Expr:
    if kind == pl.String and text:
        return raw.str.strip_chars().cast(pl.Float64, strict=False)
    if kind.is_numeric() or kind == pl.Boolean:
        return raw.cast(pl.Float64)
    raise WrongType("a number")


def _categories(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> Reading:
    if isinstance(kind, pl.List | pl.Array):
        inner = cast(pl.DataType, kind.inner)
        values = raw.cast(pl.List(inner)).list.eval(as_string(pl.element(), inner))
    elif kind in (pl.String, pl.Categorical) and column.separator:
        parts = raw.cast(pl.String).str.split(column.separator)
        values = parts.list.eval(pl.element().str.strip_chars())
    elif kind == pl.String:
        raise WrongType(f"a list; to cut strings, set {column.use}.separator")
    else:
        raise WrongType("a list of strings or integers")
    values = values.list.eval(pl.element().filter(pl.element() != ""))
    return Reading(values.fill_null(pl.lit([], pl.List(pl.String))))


def _vector(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> Reading:
    # Elements are text where they are numbers that no type holds beside each other, and null where
    # all lists are empty.
    inner = cast(pl.DataType, kind.inner) if isinstance(kind, pl.List | pl.Array) else pl.Boolean()
    if not (inner.is_numeric() or inner == pl.Null or (inner == pl.String and text)):
        hint = " (CSV cannot hold one)" if text else ""
        raise WrongType(f"a list of {column.size} numbers{hint}")
    vectors = pl.List(pl.Float32)
    values = raw.cast(vectors, strict=False).fill_null(pl.lit([], vectors))
    length = pl.col(column.name).list.len()
    nonsense = (length != 0) & (length != column.size)
    return Reading(values, nonsense, f"not {column.size} numbers")


def _instant(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> Reading:
    if not timestamps.accepts(kind):
        raise WrongType("a timestamp, a date, an ISO 8601 string or a number")
    assert column.zone is not None
    zone = column.zone
    unit = column.unit
    values = raw.map_batches(lambda s: timestamps.to_instants(s, unit, zone), return_dtype=pl.Int64)
    nonsense = pl.col(column.name).is_null() & raw.is_not_null()
    if kind == pl.String:
        nonsense &= raw.cast(pl.String) != ""
    return Reading(values, nonsense, "not a time")


def _empty(column: Column) -> pl.Expr:
    """Values of a column that is null throughout."""
    kind = EMPTY_TYPES.get(column.kind, pl.String)
    if column.kind in ("categories", "vector"):
        return pl.lit([], kind)
    return pl.lit(None, kind)


_READERS: dict[str, Callable[[Column, pl.Expr, pl.DataType, bool], Reading]] = {
    "key": _key,
    "time": _instant,
    "instant": _instant,
    "reward": _reward,
    "category": _category,
    "categories": _categories,
    "number": _number,
    "vector": _vector,
    "words": _words,
    "raw": _raw,
}
