"""Raw files of a table -> blocks of the columns that the pipeline file names, and records that are
set aside. Nothing is judged here but form: `records.py` judges values.

Raw columns of logs and snapshots that the pipeline file names, and the feature job's names for
them.

A column is declared once, in `events`, `items` or `users` below; reading, checking and error texts
loop over these.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from beam_jobs.ingest.day_files import SourceFile
from twinspire_core.config.feature_kinds import (
    AgeFeature,
    CategoriesFeature,
    Feature,
    NumberFeature,
    VectorFeature,
)
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.feature_schema import LABEL
from twinspire_core.errors import BadData
from twinspire_core.records.csv_lines import Unreadable, format_of, readable
from twinspire_core.records.json_lines import JSON_TYPES
from twinspire_core.records.record_file import JsonObject, RecordFile

RAW = "="
"""Before the name of a raw column, since a feature may be named like the column it is read from."""
Kind = Literal[
    "key", "time", "reward", "category", "categories", "number", "vector", "instant", "words", "raw"
]


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
    # Context features: the values of an event that are known before it.
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
    for source in p.corpus.display:
        display = f"_display_{source}"
        found.append(Column(name=display, source=source, kind="words", use="corpus.display"))
    for source in p.corpus.attributes:
        attribute = f"_attribute_{source}"
        found.append(Column(name=attribute, source=source, kind="raw", use="corpus.attributes"))
    for source in p.corpus.filter:
        found.append(
            Column(name=f"_filter_{source}", source=source, kind="raw", use="corpus.filter")
        )
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


KEPT_PER_FILE = 10_000
"""Records of one file that are written down; all are counted."""
VALUE_LENGTH = 300
"""Characters of what was found in a rejected record that are written down."""

BLOCK_ROWS = 20_000
"""Rows of a block of Parquet."""


class Rejected(NamedTuple):
    """A record that breaks a rule.

    Attributes:
      table: `events`, `items` or `users`.
      day: the date in its folder's name.
      file: URI.
      row: number of the record (see twinspire_core/records/record_file.py).
      reason: the rule.
      value: what was found instead.
    """

    table: str
    day: str
    file: str
    row: int
    reason: str
    value: str

    @classmethod
    def of(cls, file: SourceFile, row: int, reason: str, value: str) -> "Rejected":
        """A record of `file`."""
        return cls(file.table, str(file.day), file.uri, row, reason, value[:VALUE_LENGTH])


def to_json_lines(records: Iterable[Rejected]) -> bytes:
    """One JSON object a line, in the order of file and row."""
    lines = [json.dumps(record._asdict(), ensure_ascii=False) + "\n" for record in sorted(records)]
    return "".join(lines).encode()


class Block(NamedTuple):
    """Some consecutive records.

    Attributes:
      rows: raw columns, named `RAW` + their name; JSON Lines may lack some.
      numbers: [N] int64.
      text: whether numbers may be written as text.
    """

    rows: pl.DataFrame
    numbers: np.ndarray
    text: bool


def parts(given: str, file: SourceFile) -> list[int | None]:
    """Parts of a file that can be read on their own, see `RecordFile.parts`."""
    kind = format_of(file.uri, given)
    with readable(file.uri, kind):
        return RecordFile(file.uri, kind).parts()


def read(
    given: str, file: SourceFile, part: int | None, columns: Sequence[Column]
) -> Iterator[Block | Rejected]:
    """Reads a part of a file.

    A key that no line of a block of JSON Lines has gives no column. Values of a type that the
    column's use does not allow reject their line; what else is mixed becomes text.

    Args:
      given: `source.format`.
      file: the file.
      part: one of `parts`, or None for all of it.
      columns: what to read.

    Raises:
      BadData: the file cannot be read, or lacks a column.
    """
    kind = format_of(file.uri, given)

    def check_names(names: Sequence[str]) -> None:
        if kind == "csv" and not names:
            return  # a file of no bytes has no columns, and no records either
        absent = [column for column in columns if column.source not in names]
        if absent:
            raise missing(file, absent, names)

    # JSON values are checked one by one, before they become columns: in a column of mixed types the
    # odd one would turn all others into text.
    blocks = RecordFile(file.uri, kind).blocks(
        list(dict.fromkeys(column.source for column in columns)),
        part=part,
        check_names=check_names,
        prepare=partial(_fitting, columns),
        block_rows=BLOCK_ROWS,
    )
    with readable(file.uri, kind):
        for found in blocks:
            if isinstance(found, Unreadable):
                value = f"{found.why}: {found.text}" if found.why else found.text
                yield Rejected.of(file, found.number, found.reason, value)
            elif len(found.numbers):
                frame = pl.DataFrame(pl.from_arrow(found.rows))
                frame = frame.rename({name: RAW + name for name in frame.columns})
                yield Block(frame, found.numbers, text=kind != "parquet")


def missing(file: SourceFile, columns: Sequence[Column], there: Sequence[str]) -> BadData:
    """The error about columns that a file does not have."""
    listed = ", ".join(f"{c.source!r} ({c.use})" for c in columns)
    return BadData(
        f"The pipeline file names columns of {file.table} that {file.uri} does not have: {listed}."
        f" It has: {', '.join(there)}. Name one of these in the pipeline file, or deliver the file"
        " with the column."
    )


def _fitting(columns: Sequence[Column], record: JsonObject) -> JsonObject | str:
    """The record; or, in words, which column has a value of a type that its use does not allow."""
    for column in columns:
        value = record.get(column.source)
        if value is not None and not _fits(value, column):
            return f"{column.use} is {JSON_TYPES[type(value)]}"
    return record


def _fits(value: Any, column: Column) -> bool:
    # Types themselves, not isinstance: to Python, true is an int.
    kind = type(value)
    if column.kind == "key":
        return kind in (str, int)
    if column.kind == "categories" and column.separator:
        return kind is str
    if column.kind == "categories":
        return kind is list and all(type(x) in (str, int, type(None)) for x in value)
    if column.kind == "vector":
        return kind is list and all(type(x) in (int, float) for x in value)
    if column.kind in ("words", "raw") and kind is list:
        return all(type(x) in (str, int, float, bool) for x in value)
    return kind in (str, int, float, bool)
