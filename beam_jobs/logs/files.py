"""Reads raw log files of any kind as Arrow tables of bounded size.

Nothing is converted: Parquet keeps its types, JSON Lines gets those of its values, and every column of a CSV is text,
since one table cannot tell whether `7` stands beside a `007`. What is no record is handed over with its place.
"""

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Literal

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from beam_jobs.logs.malformed import Malformed
from beam_jobs.reading.files import ENDINGS, Kind, kind_of
from twinspire.errors import BadData, UsageError

Format = Literal["auto", "parquet", "jsonl", "csv"]

Text = BufferedReader | gzip.GzipFile
BLOCK_BYTES = 16 << 20
BATCH_ROWS = 1 << 17


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvOptions:
    """What a CSV file does not say about itself.

    Attributes:
      delimiter: one character; None goes by the ending, tab for `.tsv` and comma otherwise.
      columns: names, for files without a header line.
      encoding: of the text.
    """

    delimiter: str | None = None
    columns: Sequence[str] = ()
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise UsageError(f"A CSV delimiter is one character, found {self.delimiter!r}. Tab is written as $'\\t'.")


def format_of(path: Path, given: Format = "auto") -> Kind:
    """The file's format: as given, or by its ending, `.gz` aside.

    Raises:
      UsageError: the ending says nothing.
    """
    if given != "auto":
        return given
    kind = kind_of(path.name)
    if kind is None:
        raise UsageError(
            f"A file's ending says what it holds ({', '.join(ENDINGS)}; .gz after it is understood), found "
            f"{path.name}. Say it with --format parquet, jsonl or csv."
        )
    return kind


def read(
    path: Path,
    malformed: Callable[[Malformed], None],
    format: Format = "auto",
    options: CsvOptions | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Iterator[pa.Table]:
    """Yields the file's records in order, in tables of some 100,000 rows or 16 MiB of text.

    Args:
      path: a local file; text formats may be gzipped, whatever their name.
      malformed: called for every line that is no record; it may raise.
      format: see `format_of`.
      options: for CSV.
      progress: called with the share of the file read so far, in [0, 1].

    Raises:
      BadData: the file is missing, empty, truncated, or not of its format.
    """
    kind = format_of(path, format)
    try:
        size = path.stat().st_size
        with path.open("rb") as raw:
            if not (size and _text(raw).peek(1)):
                raise BadData(f"A {kind} file holds records; {path} is empty. Write it again, or leave it out.")
            for table in _tables(raw, kind, path, malformed, options or CsvOptions()):
                progress(min(1.0, raw.tell() / size))
                yield table
    except (pa.ArrowInvalid, EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as e:
        raise BadData(
            f"{path} cannot be read as {kind}: {str(e).splitlines()[0]}. It may be truncated (a copy that did not "
            "finish?) or of another format: write it again, or say what it is with --format."
        ) from e
    except OSError as e:
        raise BadData(f"{path} cannot be read: {e.strerror or e}. Check the path, and that the file is whole.") from e


def _tables(
    raw: BufferedReader, kind: str, path: Path, malformed: Callable[[Malformed], None], options: CsvOptions
) -> Iterator[pa.Table]:
    if kind == "parquet":
        return _parquet(raw)
    text = _text(raw)
    return _json_lines(text, path, malformed) if kind == "jsonl" else _csv(text, path, malformed, options)


def _text(raw: BufferedReader) -> Text:
    raw.seek(0)
    return gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw


def _parquet(raw: BinaryIO) -> Iterator[pa.Table]:
    with pq.ParquetFile(raw) as file:
        if file.metadata.num_rows == 0:
            yield file.schema_arrow.remove_metadata().empty_table()
        for batch in file.iter_batches(BATCH_ROWS):
            yield pa.Table.from_batches([batch]).replace_schema_metadata(None)


def _json_lines(file: Text, path: Path, malformed: Callable[[Malformed], None]) -> Iterator[pa.Table]:
    line = 1
    while block := file.read(BLOCK_BYTES):
        block += file.readline()
        try:
            yield _objects(block)
        except pl.exceptions.PolarsError as e:
            # Which lines are to blame is asked only now: most blocks are good, and Python reads them slowly.
            lines = enumerate(block.split(b"\n"), line)
            good = [text for number, text in lines if _is_object(text, f"line {number}", path, malformed)]
            yield from _good_objects(good, path, e)
        line += block.count(b"\n")


def _objects(block: bytes) -> pa.Table:
    return pl.read_ndjson(block, infer_schema_length=None).to_arrow(compat_level=pl.CompatLevel.oldest())


def _good_objects(lines: list[bytes], path: Path, error: Exception) -> Iterator[pa.Table]:
    if not lines:
        return
    try:
        yield _objects(b"\n".join(lines))
    except pl.exceptions.PolarsError as e:
        raise BadData(
            f"A column holds values of one type, but in {path}: {str(e).splitlines()[0]}. "
            "Write that column with one type, or leave it out."
        ) from error


def _is_object(line: bytes, place: str, path: Path, malformed: Callable[[Malformed], None]) -> bool:
    if not line.strip():
        return False
    try:
        if isinstance(json.loads(line), dict):
            return True
        reason = "a record is a JSON object"
    except ValueError as e:  # also bytes that are no text
        reason = f"not JSON: {e}"
    malformed(Malformed(str(path), place, reason, line[:500].decode(errors="replace")))
    return False


def _csv(text: Text, path: Path, malformed: Callable[[Malformed], None], options: CsvOptions) -> Iterator[pa.Table]:
    delimiter = options.delimiter or ("\t" if ".tsv" in path.suffixes[-2:] else ",")
    names = list(options.columns) or _header(text, path, delimiter, options.encoding)

    def set_aside(row: pa.csv.InvalidRow) -> str:
        if source.ended:
            return "skip"
        reason = f"{row.actual_columns} fields where {row.expected_columns} are expected"
        number = row.number + (0 if options.columns else 1)
        malformed(Malformed(str(path), f"row {number}", reason, row.text[:500]))
        return "skip"

    if not text.peek(1):  # a header and no rows
        yield pa.schema([(name, pa.string()) for name in names]).empty_table()
        return
    source = _Endable(text)
    reader = pa.csv.open_csv(
        source,
        # One thread, as only then are malformed rows numbered.
        read_options=pa.csv.ReadOptions(
            use_threads=False, block_size=BLOCK_BYTES, column_names=names, encoding=options.encoding
        ),
        parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=set_aside),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
        ),
    )
    with _drained(reader, source):
        for batch in reader:
            yield pa.Table.from_batches([batch])


class _Endable:
    """A file that can be brought to its end early."""

    closed = False

    def __init__(self, file: Text) -> None:
        self._file, self.ended = file, False

    def read(self, size: int = -1) -> bytes:
        return b"" if self.ended else self._file.read(size)


@contextmanager
def _drained(reader: pa.csv.CSVStreamingReader, source: _Endable) -> Iterator[None]:
    """Leaves no thread of the reader behind: one that still reads from Python when the process ends aborts it."""
    try:
        yield
    finally:
        source.ended = True
        with suppress(pa.ArrowInvalid), reader:  # cut off anywhere, the text may end inside quotes
            for _ in reader:
                pass


def _header(text: Text, path: Path, delimiter: str, encoding: str) -> list[str]:
    first = text.readline().decode(encoding).removeprefix("\ufeff").rstrip("\r\n")
    names = next(csv.reader([first], delimiter=delimiter), [])
    if not all(names) or len(set(names)) < len(names):
        raise BadData(
            f"The first line of a CSV names its columns, each once; in {path} it is {first[:200]!r}. "
            "For a file without a header line give the names: --columns user,item,time."
        )
    return names
