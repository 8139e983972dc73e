"""JSON Lines -> objects and columns, one line at a time: a line can hold anything. Nothing is
judged but form.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from math import isfinite
from typing import Any, NamedTuple

import polars as pl

from twinspire_core.records.csv_lines import Unreadable
from twinspire_core.records.raw_files import Bytes, open_text

_BLOCK = 8 << 20
_EXACT = 1 << 53
"""Whole numbers up to this one are decimals without loss."""
JSON_TYPES = {
    str: "a string",
    int: "an integer",
    float: "a decimal",
    bool: "true/false",
    list: "a list",
    dict: "an object",
}
"""What values of JSON are called in messages; `None` is null."""


class Objects(NamedTuple):
    """Some consecutive lines.

    Attributes:
      records: the objects.
      numbers: of their lines.
      unreadable: lines that hold none; blank ones do not count.
    """

    records: list[dict[str, Any]]
    numbers: list[int]
    unreadable: list[Unreadable]


def read_objects(text: Bytes, block_bytes: int = _BLOCK) -> Iterator[Objects]:
    """Yields the objects of a file, in blocks."""
    line = 1
    while block := text.read(block_bytes):
        lines = (block + text.readline()).split(b"\n")
        found = Objects([], [], [])
        for number, written in enumerate(lines, line):
            if not written.strip():
                continue
            try:
                record = json.loads(written)
                why = "" if isinstance(record, dict) else f"{JSON_TYPES.get(type(record), 'null')}"
            except ValueError as e:  # no JSON, or no UTF-8
                why = str(e)
            if why:
                found.unreadable.append(
                    Unreadable(number, "not a JSON object", why, written.decode(errors="replace"))
                )
            else:
                found.records.append(record)
                found.numbers.append(number)
        line += len(lines) - 1
        yield found


def frame(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> pl.DataFrame:
    """Columns of the keys that any of the records has."""
    there = [name for name in names if any(name in record for record in records)]
    return pl.DataFrame([_series(name, [record.get(name) for record in records]) for name in there])


def first_keys(uri: str) -> list[str]:
    """Keys of the first record of a file."""
    with open_text(uri) as text:
        for line in text:
            with suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    return list(record)
    return []


def _series(name: str, values: list) -> pl.Series:
    """A column of one type; of text, where values are of several, or of a number that no type holds
    exactly.
    """
    kinds = set(map(type, values)) - {type(None)}
    if kinds == {list}:
        return _lists(name, values)
    if kinds == {dict} and (found := _nested(name, values)) is not None:
        return found
    kind = _type_of(kinds, values)
    written = values if kind is not pl.String else list(map(_written, values))
    return pl.Series(name, written, kind, strict=False)


def _lists(name: str, values: list) -> pl.Series:
    inside = [x for value in values if value for x in value]
    kinds = set(map(type, inside)) - {type(None)}
    if kinds and kinds <= {dict, list} and (found := _nested(name, values)) is not None:
        return found
    kind = _type_of(kinds, inside)
    if kind is pl.String:
        values = [value and list(map(_written, value)) for value in values]
    return pl.Series(name, values, pl.List(kind), strict=False)


def _nested(name: str, values: list) -> pl.Series | None:
    with suppress(TypeError, OverflowError, pl.exceptions.PolarsError):
        found = pl.Series(name, values)
        return found if "128" not in str(found.dtype) else None  # a number that Arrow cannot hold
    return None


def _type_of(kinds: set[type], values: Sequence) -> Any:
    """The Polars type that holds all values of these types as they are; text, if there is none."""
    if not kinds:
        return pl.Null
    if kinds == {int} and all(v is None or -(2**63) <= v < 2**63 for v in values):
        return pl.Int64
    if kinds == {float} or (
        kinds == {int, float} and all(type(v) is not int or abs(v) <= _EXACT for v in values)
    ):
        return pl.Float64
    return pl.Boolean if kinds == {bool} else pl.String


def _written(value: Any) -> str | None:
    """A value as text: whole numbers without a decimal point, as `columns.py` reads categories."""
    if type(value) is str:
        # JSON can escape halves of characters, which no UTF-8 column can hold.
        return value if value.isascii() else value.encode(errors="replace").decode()
    if type(value) is float:
        if not isfinite(value):
            return None
        value = int(value) if value.is_integer() and abs(value) < _EXACT else value
    return value if value is None else json.dumps(value)
