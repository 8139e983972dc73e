"""A file of requests, as JSON lines, becomes tables of rows, thousands of lines at a time.

Arrow's JSON reader takes a batch of lines in one go. It reads what it is told to expect and nothing
else; what is not plain, mistakes and rare ways of writing things alike, is left to
`Requests.table`, which looks at each line and says what is wrong with it. Where `PlainLines` gives
a table, that one would give the same.
"""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from serving.requests.duplicate_keys import distinct
from serving.requests.query_rows import Requests
from serving.requests.request_model import ALLOW, DENY, Refused
from serving.requests.value_types import ValueType
from twinspire_core.errors import BadData
from twinspire_core.messages import with_full_stop
from twinspire_core.records.json_lines import NumberedLines
from twinspire_core.records.raw_files import CONTENT_ERRORS
from twinspire_core.records.record_file import RecordFile

BATCH = 2048  # lines answered at a time
_SHOWN = 200  # characters of a line in a message

# A number is read as a double first: only then can be seen that it fits.
_WIDE = {pa.float32(): pa.float64(), pa.list_(pa.float32()): pa.list_(pa.float64())}


class PlainLines:
    """Reads lines of requests.

    Args:
      requests: what they may hold.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._fields = [
            field for field in requests.model.fields.values() if field.column not in (ALLOW, DENY)
        ]
        self._types = {field.name: field.type for field in requests.layout}
        wide = {name: _WIDE.get(kind, kind) for name, kind in self._types.items()}
        self._schema = pa.schema([(field.key, wide[field.column]) for field in self._fields])

    def table(self, lines: Sequence[bytes]) -> pa.Table | None:
        """[N] rows of `Requests.layout`; None if a line needs a closer look.

        Args:
          lines: one JSON object each.
        """
        # An object ends where its line does, so none can begin in one line and end in another.
        if not all(line.startswith(b"{") and line.rstrip().endswith(b"}") for line in lines):
            return None
        content = b"".join(line.removesuffix(b"\n") + b"\n" for line in lines)
        try:
            content.decode()  # Arrow would not notice what is no UTF-8
            by_key = self._read(content)
        except (pa.ArrowInvalid, UnicodeDecodeError):
            return None
        # A line with two objects in it would be two rows, and shift those after it.
        if len(by_key) != len(lines):
            return None
        try:
            columns = self._columns(by_key)
        except pa.ArrowInvalid:
            return None
        return None if columns is None else self._requests.share(columns, len(lines))

    def _read(self, content: bytes) -> pa.Table:
        parse = pyarrow.json.ParseOptions(
            explicit_schema=self._schema, unexpected_field_behavior="error"
        )
        read = pyarrow.json.ReadOptions(use_threads=False, block_size=max(len(content), 1))
        return pyarrow.json.read_json(io.BytesIO(content), read, parse)

    def _columns(self, by_key: pa.Table) -> dict[str, pa.Array] | None:
        """Columns by name; None if two keys say the same, or a value is out of its range."""
        columns: dict[str, pa.Array] = {}
        for field in self._fields:
            values = by_key[field.key].combine_chunks()
            if not _fits(field.value, values):
                return None
            other = columns.get(field.column)
            if other is not None:
                if pc.any(pc.and_(values.is_valid(), other.is_valid())).as_py():
                    return None
                values = pc.coalesce(other, values)
            columns[field.column] = values
        return {name: values.cast(self._types[name]) for name, values in columns.items()}


def _fits(value: ValueType, values: pa.Array) -> bool:
    """Whether all values of a column are as `ValueType.check` would let them pass."""
    if pa.types.is_list(values.type):
        lengths = pc.list_value_length(values).drop_null().to_numpy()
        if value.size is not None and (lengths != value.size).any():
            return False
        values = values.flatten()
        if values.null_count:
            return False
    if value.smallest is None or value.largest is None:
        return True
    numbers = values.drop_null().to_numpy()
    # Not the other way round: NaN is in no range.
    return bool(((numbers >= value.smallest) & (numbers <= value.largest)).all())


def read_requests(
    requests: Requests, source: Path, file: str
) -> Iterator[tuple[NumberedLines, pa.Table]]:
    """Lines, and the rows of their requests, thousands at a time.

    Args:
      requests: what they may hold.
      source: the file.
      file: its name, for messages.

    Raises:
      BadData: a line is no request, or the file cannot be unzipped.
    """
    plain = PlainLines(requests)
    for lines in _batches(source):
        table = plain.table(lines.texts)
        if table is None:
            table = _parse_one_by_one(requests, lines, file)
        yield lines, table


def _parse_one_by_one(requests: Requests, lines: NumberedLines, file: str) -> pa.Table:
    objects: list[Any] = []
    for number, text in zip(lines.numbers, lines.texts, strict=True):
        try:
            objects.append(json.loads(text, object_pairs_hook=distinct))
        except (ValueError, RecursionError) as e:
            raise _malformed(file, number, f"it is not JSON ({e})", text) from e
        except Refused as e:
            raise _malformed(file, number, str(e), text) from e
    with naming_line(lines, file):
        return requests.table(objects)


@contextmanager
def naming_line(lines: NumberedLines, file: str) -> Iterator[None]:
    """Names the line of a request that is refused."""
    try:
        yield
    except Refused as e:
        raise _malformed(file, lines.numbers[e.row], str(e), lines.texts[e.row]) from e


def _malformed(file: str, number: int, reason: str, text: bytes) -> BadData:
    shown = text.decode(errors="replace").strip()
    if len(shown) > _SHOWN:
        shown = shown[:_SHOWN] + "…"
    return BadData(
        f"Every line of the queries is one JSON object, as in serving requests; line {number} of"
        f" {file}: {with_full_stop(reason)}\n  {shown}\nNothing was written. Mend the line and run"
        " again."
    )


def _batches(source: Path) -> Iterator[NumberedLines]:
    try:
        yield from RecordFile(str(source), "jsonl").lines(BATCH)
    except CONTENT_ERRORS as e:
        raise BadData(
            f"{source} cannot be unzipped: {e}. It was cut off or altered, probably: copy it again."
        ) from e
