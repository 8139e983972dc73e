"""Reads raw log files of any kind as Arrow tables of bounded size.

Nothing is converted: Parquet keeps its types, JSON Lines gets those of its values, and every column
of a CSV is text, since one table cannot tell whether `7` stands beside a `007`. Text is read as the
feature job reads it. What is no record is handed over with its place.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Literal, TextIO

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from twinspire_core.errors import BadData, UsageError
from twinspire_core.records.csv_lines import Unreadable, csv_blocks, header
from twinspire_core.records.json_lines import frame, read_objects
from twinspire_core.records.raw_files import ENDINGS, Kind, kind_of

SHOWN = 5
"""Records quoted in an error."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """A line that is no record.

    Attributes:
      file: the file it stands in.
      place: where in the file, for people: `line 7`.
      reason: what is wrong with it.
      text: the line itself, cut to 500 characters.
    """

    file: str
    place: str
    reason: str
    text: str


class Aside:
    """Records that belong to no day: written down, or an error at the end of reading."""

    def __init__(self, file: TextIO, keep_going: bool) -> None:
        self._file, self._keep_going = file, keep_going
        self._shown: list[Malformed] = []
        self.count = 0
        self.lines = 0  # those that never became a row

    def take(self, record: Malformed, is_row: bool = False) -> None:
        """Counts a record, and keeps it for the file or the error."""
        self.count += 1
        self.lines += not is_row
        if self._keep_going:
            self._file.write(json.dumps(asdict(record)) + "\n")
        elif len(self._shown) < SHOWN:
            self._shown.append(record)

    def close(self) -> None:
        """Ends the reading.

        Raises:
          BadData: there were such records, and they are not to be set aside.
        """
        self._file.close()
        if self._shown:
            places = "\n".join(
                f"  - {r.file}, {r.place}: {r.reason}\n    {r.text[:160]}" for r in self._shown
            )
            more = (
                f"\n  and {self.count - len(self._shown)} more"
                if self.count > len(self._shown)
                else ""
            )
            raise BadData(
                f"Every record needs a day, but {self.count} cannot be read or have no"
                f" time:\n{places}{more}\nMend them, or set them aside with --rejected FILE."
                " Nothing was written."
            )


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
            raise UsageError(
                f"A CSV delimiter is one character, found {self.delimiter!r}. Tab is written as"
                " $'\\t'."
            )


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
            f"A file's ending says what it holds ({', '.join(ENDINGS)}; .gz after it is"
            f" understood), found {path.name}. Say it with --format parquet, jsonl or csv."
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
                raise BadData(
                    f"A {kind} file holds records; {path} is empty. Write it again, or leave it"
                    " out."
                )
            for table in _tables(raw, kind, path, malformed, options or CsvOptions()):
                progress(min(1.0, raw.tell() / size))
                yield table
    except (pa.ArrowInvalid, EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as e:
        raise BadData(
            f"{path} cannot be read as {kind}: {str(e).splitlines()[0]}. It may be truncated (a"
            " copy that did not finish?) or of another format: write it again, or say what it is"
            " with --format."
        ) from e
    except OSError as e:
        raise BadData(
            f"{path} cannot be read: {e.strerror or e}. Check the path, and that the file is whole."
        ) from e


def _tables(
    raw: BufferedReader,
    kind: str,
    path: Path,
    malformed: Callable[[Malformed], None],
    options: CsvOptions,
) -> Iterator[pa.Table]:
    if kind == "parquet":
        return _parquet(raw)
    text = _text(raw)
    return (
        _json_lines(text, path, malformed)
        if kind == "jsonl"
        else _csv(text, path, malformed, options)
    )


def _text(raw: BufferedReader) -> Text:
    raw.seek(0)
    return gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw


def _parquet(raw: BinaryIO) -> Iterator[pa.Table]:
    with pq.ParquetFile(raw) as file:
        if file.metadata.num_rows == 0:
            yield file.schema_arrow.remove_metadata().empty_table()
        for batch in file.iter_batches(BATCH_ROWS):
            yield pa.Table.from_batches([batch]).replace_schema_metadata(None)


def _json_lines(
    text: Text, path: Path, malformed: Callable[[Malformed], None]
) -> Iterator[pa.Table]:
    for objects in read_objects(text, BLOCK_BYTES):
        for line in objects.unreadable:
            malformed(_malformed(path, "line", line))
        names = list(dict.fromkeys(name for record in objects.records for name in record))
        if names:
            yield frame(objects.records, names).to_arrow(compat_level=pl.CompatLevel.oldest())


def _csv(
    text: Text, path: Path, malformed: Callable[[Malformed], None], options: CsvOptions
) -> Iterator[pa.Table]:
    delimiter = options.delimiter or ("\t" if ".tsv" in path.suffixes[-2:] else ",")
    names = list(options.columns) or _header(text, path, delimiter, options.encoding)
    if not text.peek(1):  # a header and no rows
        yield pa.schema([(name, pa.string()) for name in names]).empty_table()
        return
    first, encoding = 1 if options.columns else 2, options.encoding
    for found in csv_blocks(
        text, names, first=first, delimiter=delimiter, encoding=encoding, block_bytes=BLOCK_BYTES
    ):
        if isinstance(found, Unreadable):
            malformed(_malformed(path, "row", found))
        else:
            yield pa.table([_present(column) for column in found[0].columns], names=names)


def _malformed(path: Path, what: str, found: Unreadable) -> Malformed:
    return Malformed(
        str(path), f"{what} {found.number}", f"{found.reason}: {found.why}", found.text[:500]
    )


def _present(column: pa.Array) -> pa.Array:
    """The column with null for what is empty."""
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)


def _header(text: Text, path: Path, delimiter: str, encoding: str) -> list[str]:
    names = header(text, delimiter, encoding)
    if not names or not all(names) or len(set(names)) < len(names):
        raise BadData(
            f"The first line of a CSV names its columns, each once; in {path} it is"
            f" {delimiter.join(names)[:200]!r}. For a file without a header line give the names:"
            " --columns user,item,time."
        )
    return names
