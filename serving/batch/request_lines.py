"""A file of requests, as JSON lines, becomes tables of rows, thousands of lines at a time.

Arrow's JSON reader takes a batch of lines in one go. It reads what it is told to expect and nothing
else; what is not plain, mistakes and rare ways of writing things alike, is left to
`Requests.table`, which looks at each line and says what is wrong with it. Where `PlainLines` gives a
table, that one would give the same.
"""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from serving.requests.query_rows import ALLOW, DENY, TIME, Refused, Requests, distinct
from serving.requests.request_values import LARGEST, most
from twinspire_core.errors import BadData
from twinspire_core.messages import with_full_stop
from twinspire_core.records.json_lines import NumberedLines
from twinspire_core.records.raw_files import CONTENT_ERRORS
from twinspire_core.records.record_file import RecordFile

BATCH = 2048  # lines answered at a time
# Until it is known that they fit
_WIDE = {pa.float32(): pa.float64(), pa.list_(pa.float32()): pa.list_(pa.float64())}


class PlainLines:
    """Reads lines of requests.

    Args:
      requests: what they may hold.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        kinds = {field.name: _WIDE.get(field.type, field.type) for field in requests.layout}
        self._keys = {
            key: column.name
            for key, column in requests.keys.items()
            if column.name not in (ALLOW, DENY)
        }
        self._schema = pa.schema([(key, kinds[name]) for key, name in self._keys.items()])

    def table(self, lines: Sequence[bytes]) -> pa.Table | None:
        """[N] rows of `Requests.layout`; None if a line needs a closer look.

        Args:
          lines: one JSON object each.
        """
        # An object ends where its line does, so none can begin in one line and end in another.
        if not all(line.startswith(b"{") and line.rstrip().endswith(b"}") for line in lines):
            return None
        content = b"".join(line if line.endswith(b"\n") else line + b"\n" for line in lines)
        try:
            content.decode()  # Arrow would not notice
            found = self._read(content)
            columns = self._columns(found) if len(found) == len(lines) else None
        except (pa.ArrowInvalid, UnicodeDecodeError):
            return None
        return self._requests.share(columns, len(lines)) if columns is not None else None

    def _read(self, content: bytes) -> pa.Table:
        parse = pyarrow.json.ParseOptions(
            explicit_schema=self._schema, unexpected_field_behavior="error"
        )
        read = pyarrow.json.ReadOptions(use_threads=False, block_size=max(len(content), 1))
        return pyarrow.json.read_json(io.BytesIO(content), read, parse)

    def _columns(self, found: pa.Table) -> dict[str, pa.Array] | None:
        """Columns by name; None if two keys say the same, or a value is out of its range."""
        columns = dict[str, pa.Array]()
        for key, name in self._keys.items():
            values = found[key].combine_chunks()
            if name in columns and len(values) - values.null_count:
                if pc.any(pc.and_(values.is_valid(), columns[name].is_valid())).as_py():
                    return None
                values = pc.coalesce(columns[name], values)
            elif name in columns:
                continue
            columns[name] = values
        kinds = {field.name: field.type for field in self._requests.layout}
        if not all(self._fits(name, values) for name, values in columns.items()):
            return None
        return {name: values.cast(kinds[name]) for name, values in columns.items()}

    def _fits(self, name: str, values: pa.Array) -> bool:
        if pa.types.is_list(values.type):
            size = self._requests.sizes.get(name)
            lengths = pc.list_value_length(values).drop_null().to_numpy()
            if size is not None and (lengths != size).any():
                return False
            values = values.flatten()
            if values.null_count:
                return False
        known = values.drop_null()
        if values.type == TIME:
            return bool(((known.to_numpy() >= 0) & (known.to_numpy() <= most(name))).all())
        if pa.types.is_floating(values.type):
            return bool((np.abs(known.to_numpy()) <= LARGEST).all())  # nor is NaN
        return True


def read_requests(
    requests: Requests, source: Path, file: str
) -> Iterator[tuple[NumberedLines, pa.Table]]:
    """Lines, and the requests that they are, thousands at a time."""
    plain = PlainLines(requests)
    for lines in _batches(source):
        table = plain.table(lines.texts)
        yield lines, table if table is not None else _looked_at(requests, lines, file)


def _looked_at(requests: Requests, lines: NumberedLines, file: str) -> pa.Table:
    """Checks the lines one by one; see `Requests.table`."""
    objects = []
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
    shown = shown if len(shown) <= 200 else shown[:200] + "…"
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
