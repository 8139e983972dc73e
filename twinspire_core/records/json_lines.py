"""JSON Lines -> objects and columns, one line at a time, since a line can hold anything."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from math import isfinite
from typing import Any, NamedTuple

import polars as pl

from twinspire_core.records.raw_files import Bytes, Unreadable, offset_in_file, open_text

_BLOCK = 8 << 20
_LINES_BLOCK = 1 << 20
# Levels of objects within objects that become columns: Polars takes minutes for some hundred.
_DEEPEST = 8
# A double holds all whole numbers up to this one.
_EXACT = 1 << 53
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
    """The objects of some consecutive lines.

    Attributes:
      numbers: of the lines that the records are from.
      unreadable: lines that hold no object; blank lines are left out.
    """

    records: list[dict[str, Any]]
    numbers: list[int]
    unreadable: list[Unreadable]


class NumberedLines(NamedTuple):
    """Some consecutive lines as they are written, without the blank ones.

    Attributes:
      numbers: of the lines, from 1.
      texts: the lines, without their line ends.
      offset: bytes of the file that had been read by then.
    """

    numbers: list[int]
    texts: list[bytes]
    offset: int


def numbered_lines(text: Bytes, most: int) -> Iterator[NumberedLines]:
    """Yields the lines of a file, `most` at a time, at the end perhaps fewer."""
    numbers: list[int] = []
    texts: list[bytes] = []
    for first, lines in _line_blocks(text, _LINES_BLOCK):
        for number, line in enumerate(lines, first):
            if not line.strip():
                continue
            numbers.append(number)
            texts.append(line)
            if len(texts) == most:
                yield NumberedLines(numbers, texts, offset_in_file(text))
                numbers, texts = [], []
    if texts:
        yield NumberedLines(numbers, texts, offset_in_file(text))


def read_objects(text: Bytes, block_bytes: int | None = None) -> Iterator[Objects]:
    """Yields the objects of a file, in blocks of text of that size; all at once if it is 0."""
    whole = Objects([], [], [])
    for first, lines in _line_blocks(text, block_bytes or _BLOCK):
        objects = whole if block_bytes == 0 else Objects([], [], [])
        for number, line in enumerate(lines, first):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as e:  # no JSON, no UTF-8, or nested too deep
                objects.unreadable.append(_no_object(number, str(e), line))
                continue
            if isinstance(record, dict):
                objects.records.append(record)
                objects.numbers.append(number)
            else:
                what = JSON_TYPES.get(type(record), "null")
                objects.unreadable.append(_no_object(number, what, line))
        if objects is not whole:
            yield objects
    if block_bytes == 0:
        yield whole


def _no_object(number: int, why: str, line: bytes) -> Unreadable:
    return Unreadable(number, "not a JSON object", why, line.decode(errors="replace"))


def _line_blocks(text: Bytes, block_bytes: int) -> Iterator[tuple[int, list[bytes]]]:
    """Whole lines of about so many bytes, with the number of the first."""
    first = 1
    while block := text.read(block_bytes):
        # To the end of the line that the block ends in, so that no line is cut in two.
        lines = (block + text.readline()).split(b"\n")
        yield first, lines
        first += len(lines) - 1


def frame(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> pl.DataFrame:
    """Columns of the keys that any of the records has."""
    columns = [name for name in names if any(name in record for record in records)]
    return pl.DataFrame([_series(name, [x.get(name) for x in records]) for name in columns])


def as_text(record: Mapping[str, Any]) -> str:
    """An object as JSON that people can read."""
    return json.dumps(record, ensure_ascii=False)


def first_keys(uri: str) -> list[str]:
    """Keys of the first object of a file; lines without one are skipped."""
    with open_text(uri) as text:
        for line in text:
            with suppress(ValueError, RecursionError):
                record = json.loads(line)
                if isinstance(record, dict):
                    return list(record)
    return []


def _series(name: str, values: list[Any], depth: int = 0) -> pl.Series:
    """A column of one type. It is text where values have several types, a number fits no type exactly,
    or objects are nested too deep.
    """
    kinds = _types_in(values)
    if kinds == {list}:
        return _lists(name, values)
    if kinds == {dict} and depth < _DEEPEST:
        return _objects(name, values, depth)
    kind = _type_of(kinds, values)
    if kind is pl.String:
        values = list(map(_as_cell, values))
    return pl.Series(name, values, kind, strict=False)


def _objects(name: str, values: list[Any], depth: int) -> pl.Series:
    """A column of objects, with all fields that any of them has: Polars takes those of the first alone."""
    keys = dict.fromkeys(key for value in values if value for key in value)
    if not keys:
        return pl.Series(name, [None] * len(values), pl.Null)
    fields = [_series(key, [(value or {}).get(key) for value in values], depth + 1) for key in keys]
    missing = pl.Series([value is None for value in values])
    column = pl.DataFrame(fields).to_struct(name)
    return column.set(missing, None) if missing.any() else column


def _lists(name: str, values: list[Any]) -> pl.Series:
    """A column of lists, whose elements have one type."""
    elements = [element for value in values if value for element in value]
    kinds = _types_in(elements)
    if kinds and kinds <= {dict, list}:
        nested = _nested(name, values)
        if nested is not None:
            return nested
    kind = _type_of(kinds, elements)
    if kind is pl.String:
        values = [value and list(map(_as_cell, value)) for value in values]
    return pl.Series(name, values, pl.List(kind), strict=False)


def _types_in(values: Sequence[Any]) -> set[type]:
    """Types of the values that are not null."""
    return set(map(type, values)) - {type(None)}


def _nested(name: str, values: list[Any]) -> pl.Series | None:
    """The column as Polars nests it; None where it cannot, or Arrow could not hold it."""
    with suppress(TypeError, OverflowError, pl.exceptions.PolarsError):
        column = pl.Series(name, values)
        if "128" not in str(column.dtype):  # integers of 128 bits, which Arrow lacks
            return column
    return None


def _type_of(kinds: set[type], values: Sequence[Any]) -> Any:
    """The Polars type that holds all values of these types as they are; text, if there is none."""
    if not kinds:
        return pl.Null
    if kinds == {bool}:
        return pl.Boolean
    if kinds == {float}:
        return pl.Float64
    if kinds == {int} and all(v is None or -(2**63) <= v < 2**63 for v in values):
        return pl.Int64
    # Whole numbers among decimals become decimals, if these can hold them.
    if kinds == {int, float} and all(type(v) is not int or abs(v) <= _EXACT for v in values):
        return pl.Float64
    return pl.String


def _as_cell(value: Any) -> str | None:
    """A value as text: whole numbers without a decimal point, as the features job reads them."""
    if value is None:
        return None
    if type(value) is str:
        if value.isascii():
            return value
        # JSON can escape half a surrogate pair, which no UTF-8 column can hold.
        return value.encode(errors="replace").decode()
    if type(value) is float:
        if not isfinite(value):
            return None
        if value.is_integer() and abs(value) < _EXACT:
            value = int(value)
    return json.dumps(value)
