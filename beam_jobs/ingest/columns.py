"""Raw columns that the pipeline file names: which there are, and how their values are read.

A column is declared once, by `of_tables`; reading, checks and messages loop over the
declarations. Each kind of column has a reader, which turns raw values of some type into those that the
feature job works with, and says which of them make no sense.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast
from zoneinfo import ZoneInfo

import polars as pl

from beam_jobs.ingest import timestamps
from twinspire_core.config.feature_kinds import (
    AgeFeature,
    CategoriesFeature,
    Feature,
    VectorFeature,
)
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.feature_schema import LABEL

RAW = "="
"""Prefix of raw columns, since a feature may have the name of the column that it is read from."""
Kind = Literal[
    "key", "time", "reward", "category", "categories", "number", "vector", "instant", "words", "raw"
]
# By kind of feature; a text is read like a category.
_KINDS: dict[str, Kind] = {"categories": "categories", "vector": "vector", "number": "number"}
_SCALARS = (pl.String, pl.Categorical, pl.Boolean, pl.Date, pl.Null)
# Whole numbers below this one are exact as decimals.
_EXACT = 2**53
# For `Reading.nonsense` if every value makes sense. Shared, because most columns need it.
_SENSIBLE = pl.lit(False)
EMPTY_TYPES: dict[str, Any] = {
    "categories": pl.List(pl.String),
    "vector": pl.List(pl.Float32),
    "number": pl.Float32(),
    "reward": pl.Float64(),
    "time": pl.Int64(),
    "instant": pl.Int64(),
}
"""Types of columns without values, by kind; String for the other kinds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a raw table.

    Attributes:
      name: name in the feature job.
      source: name in the raw table.
      use: key of the pipeline file that names it, for messages.
      required: whether a record without a value is malformed.
      separator: text between the categories in a string.
      size: length of a vector.
      unit: of a time that is a number: `s`, `ms` or `us`.
      zone: of a time without an offset.
    """

    name: str
    source: str
    kind: Kind
    use: str
    required: bool = False
    separator: str | None = None
    size: int | None = None
    unit: str = "s"
    zone: ZoneInfo | None = None


def of_tables(p: Pipeline) -> dict[str, list[Column]]:
    """The columns of each table, by its name."""
    return {"events": _of_events(p), "users": _of_users(p), "items": _of_items(p)}


def _of_events(p: Pipeline) -> list[Column]:
    """Columns of the events: `_user`, `_item`, `_time`; `_reward`, `_label`, `_type` if declared; context
    features, whose values are known before the event.
    """
    c = p.columns
    columns = [
        Column(name="_user", source=c.user, kind="key", use="columns.user", required=True),
        Column(name="_item", source=c.item, kind="key", use="columns.item", required=True),
        _time("_time", c.time, "columns.time", p, required=True),
    ]
    declared: list[tuple[str, str | None, Kind, str]] = [
        ("_reward", c.reward, "reward", "columns.reward"),
        (LABEL, c.label, "number", "columns.label"),
        ("_type", c.event, "category", "columns.event"),
    ]
    columns += [
        Column(name=name, source=source, kind=kind, use=use, required=name == "_reward")
        for name, source, kind, use in declared
        if source
    ]
    return columns + _features(p, "events")


def _of_users(p: Pipeline) -> list[Column]:
    """Columns of a users snapshot: `_user` and the features that come from it."""
    key = p.columns.users_key or p.columns.user
    use = "columns.users_key" if p.columns.users_key else "columns.user"
    return [
        Column(name="_user", source=key, kind="key", use=use, required=True),
        *_features(p, "users"),
    ]


def _of_items(p: Pipeline) -> list[Column]:
    """Columns of an items snapshot: `_item`, features, dates that ages count from, and columns of the
    corpus.
    """
    key = p.columns.items_key or p.columns.item
    use = "columns.items_key" if p.columns.items_key else "columns.item"
    corpus = p.corpus
    return [
        Column(name="_item", source=key, kind="key", use=use, required=True),
        *_features(p, "items"),
        *(
            _time(f"_born_{n}", f.column, f"features.{n}.column", p, kind="instant")
            for n, f in p.of_kind(AgeFeature).items()
            if f.column
        ),
        *(
            Column(name=f"_display_{name}", source=name, kind="words", use="corpus.display")
            for name in corpus.display
        ),
        *(
            Column(name=f"_attribute_{name}", source=name, kind="raw", use="corpus.attributes")
            for name in corpus.attributes
        ),
        *(
            Column(name=f"_filter_{name}", source=name, kind="raw", use="corpus.filter")
            for name in corpus.filter
        ),
    ]


def _features(p: Pipeline, table: str) -> list[Column]:
    return [
        _feature(name, p.features[name], source) for name, source in p.columns_of(table).items()
    ]


def _feature(name: str, feature: Feature, source: str) -> Column:
    return Column(
        name=name,
        source=source,
        kind=_KINDS.get(feature.kind, "category"),
        use=f"features.{name}",
        separator=feature.separator if isinstance(feature, CategoriesFeature) else None,
        size=feature.size if isinstance(feature, VectorFeature) else None,
    )


def _time(
    name: str, source: str, use: str, p: Pipeline, kind: Kind = "time", required: bool = False
) -> Column:
    return Column(
        name=name,
        source=source,
        kind=kind,
        use=use,
        required=required,
        unit=p.columns.time_unit,
        zone=p.zone,
    )


class WrongType(Exception):
    """The type of a column does not fit its use. The message says which types would."""


class Reading(NamedTuple):
    """How a column is read.

    Attributes:
      values: the raw values, converted.
      nonsense: whether a raw value makes no sense; it may refer to the converted values by the column's
        name.
      reason: what is wrong then; empty if every value makes sense.
    """

    values: pl.Expr
    nonsense: pl.Expr = _SENSIBLE
    reason: str = ""


def read_as(column: Column, kind: pl.DataType, *, text: bool) -> Reading:
    """How to read a column of some type.

    Args:
      column: the declaration of the column.
      kind: type of the raw column, which is named `RAW` + `column.source`.
      text: whether the file's format has no types, so that numbers may be text.

    Returns: the reading, with values named `column.name`, and a reason that names the column's use.

    Raises:
      WrongType: no value of that type makes sense.
    """
    raw = pl.col(RAW + column.source)
    # A file may lack all values of a column, and then has no type for it.
    if kind == pl.Null:
        kind = EMPTY_TYPES.get(column.kind, pl.String())
        raw = raw.cast(kind)
    reading = _READERS[column.kind](column, raw, kind, text)
    values = reading.values.alias(column.name)
    if column.required:
        reason = f"{column.use.partition('.')[2]} is missing or {reading.reason}"
        return Reading(values, pl.col(column.name).is_null() | reading.nonsense, reason)
    return Reading(values, reading.nonsense, f"{column.use} is {reading.reason}")


def _key(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> Reading:
    if kind.is_float():
        # pandas makes decimals of integers where a column has nulls: 7.0 is the id 7.
        return Reading(pl.when(_is_whole(raw)).then(as_string(raw, kind)), reason="no whole number")
    if not (kind.is_integer() or kind in (pl.String, pl.Categorical)):
        raise WrongType("a string or an integer")
    return Reading(_filled(raw.cast(pl.String)), reason="empty")


def _category(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> Reading:
    return Reading(_filled(as_string(raw, kind)))


def _is_whole(raw: pl.Expr) -> pl.Expr:
    """Whether decimals are integers that a double holds exactly."""
    return (raw == raw.floor()) & (raw.abs() < _EXACT)


def as_string(raw: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Values as text: whole decimals without a point, and null for what is not finite.

    Raises:
      WrongType: no value of that type stands for one text.
    """
    if kind.is_float():
        # pandas makes decimals of integers where a column has nulls: 7.0 is the category "7".
        without_point = raw.cast(pl.Int64, strict=False).cast(pl.String)
        digits = pl.when(_is_whole(raw)).then(without_point).otherwise(raw.cast(pl.String))
        return pl.when(raw.is_finite()).then(digits)
    # The scalars have pl.Null among them: the elements of lists that are all empty.
    if kind.is_integer() or kind.is_decimal() or kind in _SCALARS:
        return raw.cast(pl.String)
    raise WrongType("a string, an integer or true/false")


def _filled(values: pl.Expr) -> pl.Expr:
    """The values, null where they are empty."""
    return pl.when(values != "").then(values)


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
        raise WrongType(
            "text, numbers, true/false or lists of these, because bytes may not be text"
        )


def holds_bytes(kind: pl.DataType) -> bool:
    """Whether the values of a type, or the elements of its lists, are bytes, which need not be text."""
    if isinstance(kind, pl.List | pl.Array):
        return holds_bytes(cast(pl.DataType, kind.inner))
    return kind == pl.Binary


def _number(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> Reading:
    number = _as_number(raw, kind, text)
    # NaN and infinities are missing values; text that is no number is a mistake.
    nonsense = number.is_null() & raw.is_not_null()
    if kind == pl.String:
        nonsense &= raw.str.strip_chars() != ""
    values = pl.when(number.is_finite()).then(number).cast(pl.Float32)
    return Reading(values, nonsense, "not a number")


def _reward(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> Reading:
    value = pl.col(column.name)
    sensible = value.is_finite() & (value >= 0)
    return Reading(
        _as_number(raw, kind, text), ~sensible.fill_null(False), "not a number of 0 or more"
    )


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
    # Elements are text where no type holds all of their numbers, and null where all lists are empty.
    inner = cast(pl.DataType, kind.inner) if isinstance(kind, pl.List | pl.Array) else pl.Boolean()
    if not (inner.is_numeric() or inner == pl.Null or (inner == pl.String and text)):
        hint = " (CSV cannot hold one)" if text else ""
        raise WrongType(f"a list of {column.size} numbers{hint}")
    vectors = pl.List(pl.Float32)
    # Not strict: what is no number becomes null inside the vector, and its length stays.
    values = raw.cast(vectors, strict=False).fill_null(pl.lit([], vectors))
    length = pl.col(column.name).list.len()
    nonsense = (length != 0) & (length != column.size)
    return Reading(values, nonsense, f"not {column.size} numbers")


def _instant(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> Reading:
    if not timestamps.accepts(kind):
        raise WrongType("a timestamp, a date, an ISO 8601 string or a number")
    assert column.zone is not None
    zone = column.zone
    values = raw.map_batches(
        lambda s: timestamps.to_instants(s, column.unit, zone), return_dtype=pl.Int64
    )
    nonsense = pl.col(column.name).is_null() & raw.is_not_null()
    if kind == pl.String:
        nonsense &= raw.cast(pl.String) != ""
    return Reading(values, nonsense, "not a time")


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
