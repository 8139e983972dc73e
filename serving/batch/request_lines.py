"""A file of requests, as JSON lines, becomes tables of rows, thousands of lines at a time."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from serving.requests.json_values import Refused, distinct, surely_distinct
from serving.requests.query_rows import Requests
from twinspire_core.errors import BadData, with_full_stop
from twinspire_core.records.json_lines import NumberedLines
from twinspire_core.records.raw_files import CONTENT_ERRORS
from twinspire_core.records.record_file import RecordFile

BATCH = 2048  # lines answered at a time
_SHOWN = 200  # characters of a line in a message


def read_requests(
    requests: Requests, source: Path, file: str
) -> Iterator[tuple[NumberedLines, pa.Table]]:
    """Yields lines and the rows of their requests, thousands at a time.

    Args:
      source: local file with a request per line, perhaps gzipped.
      file: the name by which messages call it.

    Raises:
      BadData: a line is no request, or the file cannot be unzipped.
    """
    for lines in _batches(source):
        yield lines, _parse(requests, lines, file)


def _parse(requests: Requests, lines: NumberedLines, file: str) -> pa.Table:
    try:
        objects = [_read(text) for text in lines.texts]
    except ValueError:  # read again, to name the line and the reason
        objects = _read_one_by_one(lines, file)
    with naming_line(lines, file):
        return requests.table(objects)


def _read(text: bytes) -> Any:
    """The value in a line.

    Raises:
      ValueError: it is no JSON, or a key may be given twice.
    """
    value = orjson.loads(text)
    if isinstance(value, dict):
        filters = (entry for entry in value.values() if isinstance(entry, dict))
        members = len(value) + sum(map(len, filters))
        if not surely_distinct(text, members, [value]):
            raise ValueError("a key may be given twice")
    return value


def _read_one_by_one(lines: NumberedLines, file: str) -> list[Any]:
    """The values in lines, by Python's own reader, which is slow but sees keys that are given twice."""
    objects: list[Any] = []
    for number, text in zip(lines.numbers, lines.texts, strict=True):
        try:
            objects.append(json.loads(text, object_pairs_hook=distinct))
        except (ValueError, RecursionError) as e:
            raise _malformed(file, number, f"it is not JSON ({e})", text) from e
        except Refused as e:
            raise _malformed(file, number, str(e), text) from e
    return objects


@contextmanager
def naming_line(lines: NumberedLines, file: str) -> Iterator[None]:
    """Names the file's line in the error when a request is refused."""
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
