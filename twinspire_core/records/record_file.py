"""The one reader of raw records: Parquet, JSON Lines or CSV, in blocks of a bounded size.

Only the form is checked here, and nothing is converted. Parquet keeps its types, JSON Lines get
those of their values, and every column of a CSV is text, since one block cannot tell whether another
has a `007` where it has a `7`.

Records are numbered for people, from 1: rows of Parquet, lines of JSON Lines, and records of a CSV,
where a header is the first record. Blank lines of a CSV, and line breaks inside its quotes, do not
count.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import SEEK_END, BytesIO
from pathlib import PurePosixPath
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from twinspire_core import storage
from twinspire_core.records import csv_lines, json_lines
from twinspire_core.records.csv_lines import CsvOptions, encoding_of
from twinspire_core.records.json_lines import NumberedLines, Prepare
from twinspire_core.records.raw_files import (
    Kind,
    Unreadable,
    format_of,
    kind_of,
    offset_in_file,
    open_text,
    readable,
)

BLOCK_ROWS = 1 << 17
"""Rows of a block of Parquet."""
WHOLE = -1
"""The `block_bytes` that makes a JSON Lines file one block, in which each column has one type."""
_COUNTED_BYTES = 8 << 20
# Of the beginning by which a file's size is estimated: text, and bytes of the file
_SAMPLED_TEXT = 64 << 20
_SAMPLED_BYTES = 1 << 20
_DELIMITERS = (";", "\t", "|", ",")

CheckNames = Callable[[Sequence[str]], None]
"""Checks the names of a file's columns before a record is read; it may raise."""


class RecordBlock(NamedTuple):
    """N consecutive records.

    Attributes:
      numbers: [N] int64, of the records, as people count them.
      offset: bytes of the file that had been read by then.
    """

    rows: pa.Table
    numbers: np.ndarray
    offset: int


@dataclass(frozen=True, slots=True)
class RecordFile:
    """A raw file of records on a disk or in an object store; text may be gzipped, whatever its name."""

    uri: str
    kind: Kind
    csv: CsvOptions = field(default_factory=CsvOptions)

    @classmethod
    def of(cls, uri: str, given: str) -> Self:
        """A file whose format is as given, or with `auto` as its ending says.

        Raises:
          BadData: the ending says no format.
        """
        return cls(uri, format_of(uri, given))

    def parts(self) -> list[int | None]:
        """Parts that can be read on their own: row groups of Parquet; None for a file of one part.

        Raises:
          BadData: the file cannot be read.
        """
        if self.kind != "parquet":
            return [None]
        with readable(self.uri, self.kind), storage.open_bytes(self.uri) as raw:
            # A file without rows has no group, and its columns are still to be checked.
            return list(range(pq.ParquetFile(raw).metadata.num_row_groups)) or [None]

    def count(self) -> int:
        """Number of records without reading them: by the footer of Parquet, by the line ends of text.

        The header of a CSV is left out. A line break inside quotes counts as a line end.

        Raises:
          BadData: the file cannot be read.
        """
        if self.kind == "parquet":
            with readable(self.uri, self.kind), storage.open_bytes(self.uri) as raw:
                return int(pq.ParquetFile(raw).metadata.num_rows)
        lines = 0
        last_byte = b""
        with readable(self.uri, self.kind), open_text(self.uri) as text:
            while block := text.read(_COUNTED_BYTES):
                lines += block.count(b"\n")
                last_byte = block[-1:]
        # The last line may have no end.
        lines += last_byte not in (b"", b"\n")
        # An empty CSV has no header that could be left out.
        return max(0, lines - (self.kind == "csv"))

    def estimated(self) -> tuple[int, int]:
        """Numbers of records and of bytes of all text, unzipped, as the file's beginning suggests.

        Raises:
          BadData: the file cannot be read.
        """
        if self.kind == "parquet":
            with readable(self.uri, self.kind), storage.open_bytes(self.uri) as raw:
                footer = pq.ParquetFile(raw).metadata
                groups = map(footer.row_group, range(footer.num_row_groups))
                return int(footer.num_rows), sum(group.total_byte_size for group in groups)
        lines = size = read = 0
        with readable(self.uri, self.kind), open_text(self.uri) as text:
            while size < _SAMPLED_TEXT and read < _SAMPLED_BYTES:
                if not (block := text.read(_COUNTED_BYTES)):
                    return lines, size
                lines += block.count(b"\n")
                size += len(block)
                read = offset_in_file(text)
        with storage.open_bytes(self.uri) as raw:
            whole = raw.seek(0, SEEK_END) / read
        return int(lines * whole), int(size * whole)

    def is_empty(self) -> bool:
        """Whether a text file holds nothing, also unzipped; False for Parquet."""
        if self.kind == "parquet":
            return False
        with open_text(self.uri) as text:
            return not text.read(1)

    def lines(self, most: int) -> Iterator[NumberedLines]:
        """Yields the lines of JSON Lines as they are written, up to `most` at a time."""
        with open_text(self.uri) as text:
            yield from json_lines.numbered_lines(text, most)

    def blocks(
        self,
        wanted: Sequence[str] | None = None,
        *,
        part: int | None = None,
        check_names: CheckNames | None = None,
        prepare: Prepare | None = None,
        empty_is_null: bool = False,
        block_rows: int = BLOCK_ROWS,
        block_bytes: int | None = None,
    ) -> Iterator[RecordBlock | Unreadable]:
        """Yields the records in order, and the lines and rows that are no records.

        An `Unreadable` of JSON Lines comes before the block that it stands in, one of a CSV after
        it. A file with columns and without records gives one empty block.

        Args:
          wanted: names of the columns to take; all by default. A block of JSON Lines has those of
            them that any of its records has.
          part: one of `parts`; all by default.
          check_names: called for Parquet and CSV, which declare their columns.
          prepare: called with each object of JSON Lines.
          empty_is_null: whether an empty field of a CSV is null instead of "".
          block_rows: the most rows of a block of Parquet.
          block_bytes: text of a block, roughly; by default some megabytes.

        Raises:
          Exception: what `check_names` raises, or one of `raw_files.CONTENT_ERRORS`.
        """
        if self.kind == "parquet":
            return self._parquet(wanted, part, check_names, block_rows)
        if self.kind == "jsonl":
            return self._json_lines(wanted, prepare, block_bytes)
        return self._csv(wanted, check_names, empty_is_null, block_bytes)

    def _parquet(
        self,
        wanted: Sequence[str] | None,
        part: int | None,
        check_names: CheckNames | None,
        block_rows: int,
    ) -> Iterator[RecordBlock]:
        with storage.open_bytes(self.uri) as raw, pq.ParquetFile(raw) as file:
            if check_names:
                check_names(file.schema_arrow.names)
            groups = list(range(file.num_row_groups))
            number = 1
            if part is not None:
                groups = [part]
                # Records of a part have the numbers that they have in the whole file.
                number += sum(file.metadata.row_group(group).num_rows for group in range(part))
            if file.metadata.num_rows == 0:
                names = file.schema_arrow.names if wanted is None else wanted
                yield _no_rows(pa.schema([file.schema_arrow.field(name) for name in names]))
            for batch in file.iter_batches(block_rows, row_groups=groups, columns=wanted):
                # Metadata, such as an index of pandas, would make equal schemas of two files differ.
                rows = pa.Table.from_batches([batch]).replace_schema_metadata(None)
                yield RecordBlock(rows, np.arange(number, number + len(rows)), raw.tell())
                number += len(rows)

    def _json_lines(
        self, wanted: Sequence[str] | None, prepare: Prepare | None, block_bytes: int | None
    ) -> Iterator[RecordBlock | Unreadable]:
        with open_text(self.uri) as text:
            for objects in json_lines.read_objects(text, block_bytes, prepare):
                yield from objects.unreadable
                names = wanted
                if names is None:  # all keys, in order of first appearance
                    names = list(dict.fromkeys(key for x in objects.records for key in x))
                if objects.records and names:
                    rows = json_lines.columns_of(objects.records, names)
                    numbers = np.array(objects.numbers, np.int64)
                    yield RecordBlock(rows, numbers, offset_in_file(text))

    def _csv(
        self,
        wanted: Sequence[str] | None,
        check_names: CheckNames | None,
        empty_is_null: bool,
        block_bytes: int | None,
    ) -> Iterator[RecordBlock | Unreadable]:
        delimiter = self.csv.delimiter or delimiter_of(self.uri)
        with open_text(self.uri) as raw:
            text, encoding = self.csv.recoded(raw)
            names = list(self.csv.columns)
            first = 1
            if not names:
                names = csv_lines.header(text, delimiter, encoding)
                first = 2
            if check_names:
                check_names(names)
            if not names:
                return
            is_empty = True
            for block in csv_lines.csv_blocks(
                text,
                names,
                first=first,
                wanted=wanted,
                delimiter=delimiter,
                encoding=encoding,
                block_bytes=block_bytes,
            ):
                is_empty = False
                if isinstance(block, Unreadable):
                    yield block
                    continue
                batch, numbers = block
                columns = batch.columns
                if empty_is_null:
                    null = pa.scalar(None, pa.string())
                    columns = [pc.if_else(pc.equal(column, ""), null, column) for column in columns]
                rows = pa.Table.from_arrays(columns, names=batch.schema.names)
                yield RecordBlock(rows, numbers, offset_in_file(raw))
            # Only for a file without records: unreadable ones say nothing of the columns.
            if is_empty:
                columns = names if wanted is None else wanted
                yield _no_rows(pa.schema([(name, pa.string()) for name in columns]))


def delimiter_of(uri: str) -> str:
    """The usual delimiter of a CSV with this name: a tab for `.tsv`, also with another ending after it."""
    last_endings = PurePosixPath(uri).suffixes[-2:]
    return "\t" if ".tsv" in map(str.lower, last_endings) else ","


def sniff(uri: str, delimiter: str | None = None, encoding: str | None = None) -> CsvOptions:
    """How a CSV file is written, guessed from its text.

    Args:
      uri: of the file; of another format there is nothing to say.
      delimiter: one character, where it is known; else that which makes the most columns of the
        first line.
      encoding: of the text, where it is known; else it is guessed.
    """
    if kind_of(uri) != "csv":
        return CsvOptions()
    with readable(uri, "csv"):
        encoding = encoding or encoding_of(uri)
        if delimiter is None:
            with open_text(uri) as raw:
                text, read_as = CsvOptions(encoding=encoding).recoded(raw)
                first = csv_lines.first_line(text)
            usual = delimiter_of(uri)
            columns = {
                character: len(csv_lines.header(BytesIO(first), character, read_as))
                for character in (usual, *_DELIMITERS)
            }
            # Of equal numbers of columns the first one wins, which is the usual delimiter.
            best = max(columns, key=lambda character: columns[character])
            delimiter = None if best == usual else best
    return CsvOptions(delimiter=delimiter, encoding=encoding)


def _no_rows(schema: pa.Schema) -> RecordBlock:
    return RecordBlock(schema.remove_metadata().empty_table(), np.zeros(0, np.int64), 0)
