"""Raw files -> blocks of their raw columns, with the number of each record. Nothing is judged here
but form.

Records are numbered for people, from 1: Parquet rows, lines of JSON Lines, records of a CSV with
its header as the first (blank lines and line breaks inside quotes do not count).
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.ingest.columns import RAW, Column
from beam_jobs.ingest.day_files import SourceFile
from twinspire_core import storage
from twinspire_core.errors import BadData
from twinspire_core.records.csv_lines import Unreadable, csv_blocks, header
from twinspire_core.records.json_lines import JSON_TYPES, frame, read_objects
from twinspire_core.records.raw_files import format_of, open_text, readable

KEPT_PER_FILE = 10_000
"""Records of one file that are written down; all are counted."""
_VALUE_LENGTH = 300


class Rejected(NamedTuple):
    """A record that breaks a rule.

    Attributes:
      table: `events`, `items` or `users`.
      day: the date in its folder's name.
      file: URI.
      row: number of the record (see record_blocks.py).
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
        return cls(file.table, str(file.day), file.uri, row, reason, value[:_VALUE_LENGTH])


def to_json_lines(records: Iterable[Rejected]) -> bytes:
    """One JSON object a line, in the order of file and row."""
    return "".join(
        json.dumps(r._asdict(), ensure_ascii=False) + "\n" for r in sorted(records)
    ).encode()


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
    """Parts of a file that can be read on their own: row groups of Parquet; None for a file that is
    one part.
    """
    if format_of(file.uri, given) != "parquet":
        return [None]
    with readable(file.uri, "parquet"), storage.open_bytes(file.uri) as raw:
        return list(range(pq.ParquetFile(raw).metadata.num_row_groups)) or [None]


def read(
    given: str, file: SourceFile, part: int | None, columns: Sequence[Column], batch_rows: int
) -> Iterator[Block | Rejected]:
    """Reads a part of a file.

    Raises:
      BadData: the file cannot be read, or lacks a column.
    """
    kind = format_of(file.uri, given)
    reader = {"parquet": _parquet, "jsonl": _json_lines, "csv": _csv}[kind]
    with readable(file.uri, kind):
        yield from reader(file, part, columns, batch_rows)


def missing(file: SourceFile, columns: Sequence[Column], there: Sequence[str]) -> BadData:
    """The error about columns that a file does not have."""
    listed = ", ".join(f"{c.source!r} ({c.use})" for c in columns)
    return BadData(
        f"The pipeline file names columns of {file.table} that {file.uri} does not have: {listed}."
        f" It has: {', '.join(there)}. Name one of these in the pipeline file, or deliver the file"
        " with the column."
    )


def _require(file: SourceFile, columns: Sequence[Column], there: Sequence[str]) -> list[str]:
    absent = [c for c in columns if c.source not in there]
    if absent:
        raise missing(file, absent, there)
    return list(dict.fromkeys(c.source for c in columns))


def _parquet(
    file: SourceFile, part: int | None, columns: Sequence[Column], batch_rows: int
) -> Iterator[Block | Rejected]:
    with storage.open_bytes(file.uri) as raw:
        parquet = pq.ParquetFile(raw)
        names = _require(file, columns, parquet.schema_arrow.names)
        groups = range(parquet.num_row_groups) if part is None else [part]
        first = 1 + sum(
            parquet.metadata.row_group(g).num_rows for g in range(groups[0] if groups else 0)
        )
        for batch in parquet.iter_batches(batch_rows, row_groups=list(groups), columns=names):
            yield Block(_frame(batch), np.arange(first, first + len(batch)), text=False)
            first += len(batch)


def _json_lines(
    file: SourceFile, part: int | None, columns: Sequence[Column], batch_rows: int
) -> Iterator[Block | Rejected]:
    """Blocks of some megabytes.

    A key that no line of a block has gives no column. Values of a type that the column's use does
    not allow reject their line; what else is mixed becomes text.
    """
    names = list(dict.fromkeys(column.source for column in columns))
    with open_text(file.uri) as text:
        for objects in read_objects(text):
            yield from (
                Rejected.of(file, *bad[:2], f"{bad.why}: {bad.text}") for bad in objects.unreadable
            )
            good = []
            for i, (record, number) in enumerate(
                zip(objects.records, objects.numbers, strict=True)
            ):
                reason = _problem(record, columns)
                if reason:
                    yield Rejected.of(file, number, reason, json.dumps(record, ensure_ascii=False))
                else:
                    good.append(i)
            if good:
                rows = frame([objects.records[i] for i in good], names).rename(
                    lambda name: RAW + name
                )
                yield Block(rows, np.array([objects.numbers[i] for i in good], np.int64), text=True)


def _problem(record: Any, columns: Sequence[Column]) -> str | None:
    if not isinstance(record, dict):
        return "not a JSON object"
    for column in columns:
        value = record.get(column.source)
        if value is not None and not _fits(value, column):
            return f"{column.use} is {JSON_TYPES[type(value)]}"
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


def _csv(
    file: SourceFile, part: int | None, columns: Sequence[Column], batch_rows: int
) -> Iterator[Block | Rejected]:
    delimiter = "\t" if file.uri.removesuffix(".gz").lower().endswith(".tsv") else ","
    with open_text(file.uri) as text:
        there = header(text, delimiter)
        if not there:
            return
        names = _require(file, columns, there)
        for found in csv_blocks(text, there, first=2, wanted=names, delimiter=delimiter):
            if isinstance(found, Unreadable):
                yield Rejected.of(file, found.number, found.reason, f"{found.why}: {found.text}")
            else:
                yield Block(_frame(found[0]), found[1], text=True)


def _frame(batch: pa.RecordBatch) -> pl.DataFrame:
    frame = pl.DataFrame(pl.from_arrow(batch))
    return frame.rename({name: RAW + name for name in frame.columns})
