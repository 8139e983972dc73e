"""JSON Lines -> blocks of raw columns, one line at a time: a line can hold anything."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
import polars as pl

from beam_jobs.reading.columns import RAW, Column
from beam_jobs.reading.files import open_text
from beam_jobs.reading.rejected import Rejected
from beam_jobs.reading.source import SourceFile

_BLOCK = 8 << 20
_NAMES = {str: "a string", int: "an integer", float: "a decimal", bool: "true/false", list: "a list", dict: "an object"}


def json_blocks(
    file: SourceFile, text: BinaryIO, columns: Sequence[Column]
) -> Iterator[Rejected | tuple[pl.DataFrame, np.ndarray]]:
    """Yields records in order, in blocks of some megabytes: raw columns and line numbers.

    A key that no line of a block has gives no column. Values of a type that the column's use does not allow reject
    their line; what else is mixed becomes text.
    """
    line = 1
    while block := text.read(_BLOCK):
        lines = (block + text.readline()).split(b"\n")
        records, numbers = [], []
        for number, written in enumerate(lines, line):
            if not written.strip():
                continue
            try:
                record = json.loads(written)
            except ValueError as e:  # no JSON, or no UTF-8
                yield Rejected.of(file, number, "not a JSON object", f"{e}: {written.decode(errors='replace')}")
                continue
            reason = _problem(record, columns)
            if reason:
                yield Rejected.of(file, number, reason, written.decode(errors="replace"))
                continue
            records.append(record)
            numbers.append(number)
        line += len(lines) - 1
        if records:
            yield _frame(records, columns), np.array(numbers, np.int64)


def first_keys(uri: str) -> list[str]:
    """Keys of the first record of a file."""
    with open_text(uri) as text:
        for line in text:
            with suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    return list(record)
    return []


def _problem(record: Any, columns: Sequence[Column]) -> str | None:
    if not isinstance(record, dict):
        return "not a JSON object"
    for column in columns:
        value = record.get(column.source)
        if value is not None and not _fits(value, column):
            return f"{column.use} is {_NAMES[type(value)]}"
    return None


def _fits(value: Any, column: Column) -> bool:
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


def _frame(records: list[dict], columns: Sequence[Column]) -> pl.DataFrame:
    names = [name for name in dict.fromkeys(c.source for c in columns) if any(name in record for record in records)]
    return pl.DataFrame([_series(name, [record.get(name) for record in records]) for name in names])


def _series(name: str, values: list) -> pl.Series:
    kinds = set(map(type, values)) - {type(None)}
    name = RAW + name
    if kinds == {list}:
        return _lists(name, values)
    if kinds == {int, float}:
        return pl.Series(name, values, pl.Float64, strict=False)
    if kinds == {bool}:
        return pl.Series(name, values, pl.Boolean)
    if kinds == {float}:
        return pl.Series(name, values, pl.Float64)
    if kinds == {int} and all(v is None or -(2**63) <= v < 2**63 for v in values):
        return pl.Series(name, values, pl.Int64)
    text = [v if v is None else _clean(v) if type(v) is str else json.dumps(v) for v in values]
    return pl.Series(name, text, pl.String if kinds else pl.Null)


def _clean(text: str) -> str:
    """JSON can escape halves of characters, which no UTF-8 column can hold."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _lists(name: str, values: list) -> pl.Series:
    kinds = {type(x) for value in values if value for x in value}
    if kinds <= {int, float}:
        return pl.Series(name, values, pl.List(pl.Float64), strict=False)
    text = [value and [x if x is None else _clean(str(x)) for x in value] for value in values]
    return pl.Series(name, text, pl.List(pl.String))
