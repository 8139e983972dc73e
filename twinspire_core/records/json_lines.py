"""Reads JSON Lines: objects line by line, and columns of one type each.

Each line is parsed alone, as it can hold anything: Arrow's own reader of JSON stops at the first line that
does not fit the others.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from twinspire_core.records.raw_files import Bytes, Unreadable, offset_in_file, open_text
from twinspire_core.search.ragged import arrow_lists

JsonObject = dict[str, Any]
Prepare = Callable[[JsonObject], JsonObject | str]
"""Turns an object of JSON Lines into what becomes a row, or says why it cannot be one."""
_BLOCK = 8 << 20
_LONGEST_LINE = 64 << 20  # bytes
_LINES_BLOCK = 1 << 20
# Levels of objects and lists within one another that become columns: Polars, which reads them next, takes
# minutes for some hundred.
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
      unreadable: lines that hold no object, or one that was refused; blank lines are left out.
    """

    records: list[JsonObject]
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
    lines = (
        (number, line)
        for first, block in _line_blocks(text, _LINES_BLOCK)
        for number, line in enumerate(block, first)
        if line.strip()
    )
    while some := list(islice(lines, most)):
        numbers, texts = map(list, zip(*some, strict=True))
        yield NumberedLines(numbers, texts, offset_in_file(text))


def read_objects(
    text: Bytes, block_bytes: int | None = None, prepare: Prepare | None = None
) -> Iterator[Objects]:
    """Yields the objects of a file, in blocks of text of that size; all at once if it is -1."""
    for first, lines in _line_blocks(text, block_bytes or _BLOCK):
        objects = Objects([], [], [])
        for number, line in enumerate(lines, first):
            if not line.strip():
                continue
            record = _parsed(line)
            if isinstance(record, str):
                bad = Unreadable(number, "not a JSON object", record, line.decode(errors="replace"))
                objects.unreadable.append(bad)
                continue
            prepared = prepare(record) if prepare else record
            if isinstance(prepared, str):
                objects.unreadable.append(Unreadable(number, prepared, "", as_text(record)))
                continue
            objects.records.append(prepared)
            objects.numbers.append(number)
        yield objects


def _parsed(line: bytes) -> JsonObject | str:
    """The object of a line, or what is there instead."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as e:  # no JSON, no UTF-8, or nested too deep
        return str(e)
    return record if isinstance(record, dict) else JSON_TYPES.get(type(record), "null")


def _line_blocks(text: Bytes, block_bytes: int) -> Iterator[tuple[int, list[bytes]]]:
    """Yields whole lines, about `block_bytes` at a time, with the number of the first."""
    first = 1
    while block := text.read(block_bytes):
        # To the end of the line that the block ends in, so that no line is cut in two.
        rest = text.readline(_LONGEST_LINE)
        if len(rest) == _LONGEST_LINE:
            raise pa.ArrowInvalid(f"a line is longer than {_LONGEST_LINE:,} bytes")
        lines = (block + rest).split(b"\n")
        yield first, lines
        first += len(lines) - 1


def columns_of(records: Sequence[JsonObject], names: Sequence[str]) -> pa.Table:
    """Columns of the keys that any of the records has."""
    present = [name for name in names if any(name in record for record in records)]
    return pa.table({name: _column([record.get(name) for record in records]) for name in present})


def as_text(record: JsonObject) -> str:
    """An object as JSON that people can read."""
    return json.dumps(record, ensure_ascii=False)


def first_keys(uri: str) -> list[str]:
    """Keys of the first object of a file; lines without one are skipped."""
    with open_text(uri) as text:
        blocks = (objects.records for objects in read_objects(text))
        return next((list(records[0]) for records in blocks if records), [])


def _column(values: list[Any], depth: int = 0) -> pa.Array:
    """A column of one type. It is text where values have several types, a number fits no type exactly,
    or objects are nested too deep.
    """
    kinds = set(map(type, values)) - {type(None)}
    if kinds in ({dict}, {list}) and depth < _DEEPEST:
        missing = pa.array([value is None for value in values], pa.bool_())
        if kinds == {list}:
            elements = [element for value in values for element in value or ()]
            lengths = np.array([len(value or ()) for value in values])
            return arrow_lists(lengths, _column(elements, depth + 1), missing)
        keys = list(dict.fromkeys(key for value in values for key in value or ()))
        fields = [_column([(value or {}).get(key) for value in values], depth + 1) for key in keys]
        if keys:
            return pa.StructArray.from_arrays(fields, names=keys, mask=missing)
        return pa.nulls(len(values))
    # Arrow makes 1.0 of true among decimals; of whole numbers it makes decimals only where they stay
    # what they are.
    if not kinds & {dict, list} and not kinds >= {bool, float}:
        with suppress(pa.ArrowException, OverflowError, UnicodeError):
            return pa.array(values)
    return pa.array(map(_as_cell, values), pa.string())


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
