"""Raw files of a table -> blocks of the columns that the pipeline file names, and records that are
set aside. Nothing is judged here but form: `records.py` judges values.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from beam_jobs.ingest.columns import RAW, Column
from beam_jobs.ingest.day_files import SourceFile
from twinspire_core.errors import BadData
from twinspire_core.records.json_lines import JSON_TYPES
from twinspire_core.records.raw_files import Unreadable, format_of, readable
from twinspire_core.records.record_file import JsonObject, RecordFile

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
      part: one of `parts`, or None for all of it.

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
