"""Raw columns of logs and snapshots -> the feature job's own columns, and which of their values
make no sense.

A column is declared once, in `events`, `items` or `users` below; reading, checking and error texts
loop over these.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast
from zoneinfo import ZoneInfo

import polars as pl

from beam_jobs.ingest import timestamps
from twinspire_core.config.feature_kinds import (
    AgeFeature,
    CategoriesFeature,
    Feature,
    NumberFeature,
    VectorFeature,
)
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.feature_schema import LABEL

RAW = "="
"""Before the name of a raw column, since a feature may be named like the column it is read from."""
Kind = Literal[
    "key", "time", "reward", "category", "categories", "number", "vector", "instant", "words", "raw"
]
_SCALARS = (pl.String, pl.Categorical, pl.Boolean, pl.Date, pl.Null)


class WrongType(Exception):
    """A column's type cannot serve its use. The message says what would."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a raw table.

    Attributes:
      name: in the feature job.
      source: in the raw table.
      kind: what it is read as.
      use: the pipeline file's key that names it, for error texts.
      required: whether every record has a value.
      separator: cuts a string into categories.
      size: length of a vector.
      unit: of a time that is a number.
      zone: of a time that names none.
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


def events(p: Pipeline) -> list[Column]:
    """Columns of the events: `_user`, `_item`, `_time`; `_reward`, `_label`, `_type` if declared;
    context features.
    """
    c = p.columns
    found = [
        Column(name="_user", source=c.user, kind="key", use="columns.user", required=True),
        Column(name="_item", source=c.item, kind="key", use="columns.item", required=True),
        _time("_time", c.time, "columns.time", p, required=True),
    ]
    if c.reward:
        found.append(
            Column(
                name="_reward", source=c.reward, kind="reward", use="columns.reward", required=True
            )
        )
    if c.label:
        found.append(Column(name=LABEL, source=c.label, kind="number", use="columns.label"))
    if c.event:
        found.append(Column(name="_type", source=c.event, kind="category", use="columns.event"))
    return found + _features(p, "events")


def users(p: Pipeline) -> list[Column]:
    """Columns of a users snapshot: `_user` and the features that come from it."""
    key = p.columns.users_key or p.columns.user
    use = "columns.users_key" if p.columns.users_key else "columns.user"
    return [
        Column(name="_user", source=key, kind="key", use=use, required=True),
        *_features(p, "users"),
    ]


def items(p: Pipeline) -> list[Column]:
    """Columns of an items snapshot: `_item`, features, columns of dates that ages count from, and
    the corpus's own.
    """
    key = p.columns.items_key or p.columns.item
    use = "columns.items_key" if p.columns.items_key else "columns.item"
    found = [
        Column(name="_item", source=key, kind="key", use=use, required=True),
        *_features(p, "items"),
    ]
    ages = {name: f.column for name, f in p.of_kind(AgeFeature).items() if f.column}
    found += [
        _time(f"_born_{n}", column, f"features.{n}.column", p, kind="instant")
        for n, column in ages.items()
    ]
    shown: dict[str, tuple[Kind, str, tuple[str, ...]]] = {
        "_display_{}": ("words", "corpus.display", p.corpus.display),
        "_attribute_{}": ("raw", "corpus.attributes", p.corpus.attributes),
        "_filter_{}": ("raw", "corpus.filter", tuple(p.corpus.filter)),
    }
    for name, (kind, use, names) in shown.items():
        found += [
            Column(name=name.format(column), source=column, kind=kind, use=use) for column in names
        ]
    return found


def _features(p: Pipeline, table: str) -> list[Column]:
    return [
        _feature(name, p.features[name], source) for name, source in p.columns_of(table).items()
    ]


def _feature(name: str, feature: Feature, source: str) -> Column:
    use = f"features.{name}"
    match feature:
        case CategoriesFeature(separator=separator):
            return Column(name=name, source=source, kind="categories", use=use, separator=separator)
        case VectorFeature(size=size):
            return Column(name=name, source=source, kind="vector", use=use, size=size)
        case NumberFeature():
            return Column(name=name, source=source, kind="number", use=use)
        case _:  # a category or a text
            return Column(name=name, source=source, kind="category", use=use)


def _time(
    name: str, source: str, use: str, p: Pipeline, kind: Kind = "time", required: bool = False
) -> Column:
    unit = p.columns.time_unit
    return Column(
        name=name, source=source, kind=kind, use=use, required=required, unit=unit, zone=p.zone
    )


def read_as(column: Column, kind: pl.DataType, *, text: bool) -> tuple[pl.Expr, pl.Expr, str]:
    """How to read a column of some type.

    Args:
      column: the declaration.
      kind: type of the raw column, which is named `RAW` + `column.source`.
      text: whether the file's format has no types, so that numbers may be text.

    Returns:
      The values, named `column.name`; whether a value makes no sense, given these; why, in words.

    Raises:
      WrongType: no value of that type makes sense.
    """
    raw, value = pl.col(RAW + column.source), pl.col(column.name)
    if kind == pl.Null:
        values, nonsense, reason = _empty(column), pl.lit(False), "empty"
    else:
        values, nonsense, reason = _READERS[column.kind](column, raw, kind, text)
    if column.required:
        nonsense, reason = (
            value.is_null() | nonsense,
            f"{column.use.partition('.')[2]} is missing or {reason}",
        )
    elif reason:
        reason = f"{column.use} is {reason}"
    return values.alias(column.name), nonsense, reason


_Read = tuple[pl.Expr, pl.Expr, str]


def _key(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> _Read:
    if kind.is_float():
        raise WrongType(
            "a string or an integer; decimals are often integers that pandas made room for nulls"
            " in, or stood in a CSV, of which `twinspire partition --text COLUMN` keeps them"
        )
    if not (kind.is_integer() or kind in (pl.String, pl.Categorical)):
        raise WrongType("a string or an integer")
    return _filled(raw.cast(pl.String)), pl.lit(False), "empty"


def _category(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> _Read:
    return _filled(as_string(raw, kind)), pl.lit(False), ""


def as_string(raw: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """Values of a type as the text that they stand for, whole decimals without a point; what is not
    finite is null.

    Raises:
      WrongType: no value of that type stands for one text.
    """
    if kind.is_float():
        whole = (raw == raw.floor()) & (raw.abs() < 2**53)
        digits = (
            pl.when(whole)
            .then(raw.cast(pl.Int64, strict=False).cast(pl.String))
            .otherwise(raw.cast(pl.String))
        )
        return pl.when(raw.is_finite()).then(digits)
    # Pl.Null: of lists that are all empty
    if kind.is_integer() or kind.is_decimal() or kind in _SCALARS:
        return raw.cast(pl.String)
    raise WrongType("a string, an integer or true/false")


def _filled(values: pl.Expr) -> pl.Expr:
    return pl.when(values != "").then(values)


def _words(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> _Read:
    if isinstance(kind, pl.List | pl.Array):
        return raw.cast(pl.List(pl.String)).list.join(", "), pl.lit(False), ""
    return _filled(raw.cast(pl.String)), pl.lit(False), ""


def _raw(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> _Read:
    return raw, pl.lit(False), ""


def _number(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> _Read:
    number = _as_number(raw, kind, text)
    # NaN and infinities are missing values; other text is a mistake.
    nonsense = (
        number.is_null()
        & raw.is_not_null()
        & (raw.str.strip_chars() != "" if kind == pl.String else True)
    )
    return pl.when(number.is_finite()).then(number).cast(pl.Float32), nonsense, "not a number"


def _reward(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> _Read:
    number = _as_number(raw, kind, text)
    value = pl.col(column.name)
    return number, ~(value.is_finite() & (value >= 0)).fill_null(False), "not a number of 0 or more"


def _as_number(raw: pl.Expr, kind: pl.DataType, text: bool) -> pl.Expr:
    if kind == pl.String and text:
        return raw.str.strip_chars().cast(pl.Float64, strict=False)
    if kind.is_numeric() or kind == pl.Boolean:
        return raw.cast(pl.Float64)
    raise WrongType("a number")


def _categories(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> _Read:
    if isinstance(kind, pl.List | pl.Array):
        inner = cast(pl.DataType, kind.inner)
        values = raw.cast(pl.List(inner)).list.eval(as_string(pl.element(), inner))
    elif kind in (pl.String, pl.Categorical) and column.separator:
        values = (
            raw.cast(pl.String)
            .str.split(column.separator)
            .list.eval(pl.element().str.strip_chars())
        )
    elif kind == pl.String:
        raise WrongType(f"a list; to cut strings, set {column.use}.separator")
    else:
        raise WrongType("a list of strings or integers")
    values = values.list.eval(pl.element().filter(pl.element() != ""))
    return values.fill_null(pl.lit([], pl.List(pl.String))), pl.lit(False), ""


def _vector(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> _Read:
    # Text are numbers that no type holds beside each other; null, those of lists that are all
    # empty.
    inner = cast(pl.DataType, kind.inner) if isinstance(kind, pl.List | pl.Array) else pl.Boolean()
    if not (inner.is_numeric() or inner == pl.Null or (inner == pl.String and text)):
        raise WrongType(
            f"a list of {column.size} numbers" + (" (CSV cannot hold one)" if text else "")
        )
    values = raw.cast(pl.List(pl.Float32), strict=False).fill_null(pl.lit([], pl.List(pl.Float32)))
    length = pl.col(column.name).list.len()
    return values, (length != 0) & (length != column.size), f"not {column.size} numbers"


def _instant(column: Column, raw: pl.Expr, kind: pl.DataType, text: bool) -> _Read:
    if not timestamps.accepts(kind):
        raise WrongType("a timestamp, a date, an ISO 8601 string or a number")
    assert column.zone is not None
    zone, unit = column.zone, column.unit
    values = raw.map_batches(lambda s: timestamps.to_instants(s, unit, zone), return_dtype=pl.Int64)
    missing = (raw.cast(pl.String) == "") if kind == pl.String else pl.lit(False)
    return values, pl.col(column.name).is_null() & raw.is_not_null() & ~missing, "not a time"


def _empty(column: Column) -> pl.Expr:
    """Values of a column that is null throughout."""
    kinds: dict[str, Any] = {
        "categories": pl.List(pl.String),
        "vector": pl.List(pl.Float32),
        "number": pl.Float32,
    }
    kinds |= {"reward": pl.Float64, "time": pl.Int64, "instant": pl.Int64}
    kind = kinds.get(column.kind, pl.String)
    return pl.lit([] if column.kind in ("categories", "vector") else None, kind)


_READERS: dict[str, Callable[[Column, pl.Expr, pl.DataType, bool], _Read]] = {
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
