"""Reads raw log files of any kind as Arrow tables of bounded size, and keeps account of what is no
record.
"""

import codecs
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TextIO

import pyarrow as pa

from twinspire_core.errors import BadData, UsageError
from twinspire_core.records.csv_lines import CsvOptions, decodes, encoding_of, first_bytes
from twinspire_core.records.raw_files import CONTENT_ERRORS, ENDINGS, Kind, Unreadable, kind_of
from twinspire_core.records.record_file import CheckNames, RecordFile, delimiter_of

Format = Literal["auto", "parquet", "jsonl", "csv"]

BLOCK_BYTES = 16 << 20
BATCH_ROWS = 1 << 17
_TEXT_LENGTH = 500
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
        self._file = file
        self._keep_going = keep_going
        self._shown: list[Malformed] = []
        self.count = 0
        self.lines = 0  # those that never became a row
        self.advice = ""  # what would read them

    def take(self, record: Malformed, is_row: bool = False) -> None:
        """Counts a record, and keeps it for the file or the error."""
        self.count += 1
        # Rows without a day are counted as rows where they are read.
        self.lines += not is_row
        if record.reason.startswith("not UTF-8") and not self.advice:
            self.advice = encoding_advice(record.file)
        if self._keep_going:
            self._file.write(json.dumps(asdict(record)) + "\n")
        if len(self._shown) < SHOWN:
            self._shown.append(record)

    def close(self, most: int) -> None:
        """Ends the reading.

        Args:
          most: so many records may be set aside.

        Raises:
          BadData: there were more.
        """
        self._file.close()
        if self.count > most:
            places = "\n".join(
                f"  - {r.file}, {r.place}: {r.reason}\n    {r.text[:160]}" for r in self._shown
            )
            left = self.count - len(self._shown)
            more = f"\n  and {left:,} more" if left else ""
            remedy = (
                f"Only {most:,} may be set aside: mend the others, or say how the file is written"
                if self._keep_going
                else "Mend them, or set them aside with --rejected FILE"
            )
            advice = f"{self.advice} " if self.advice else ""
            raise BadData(
                f"Every record needs a day, but {self.count:,} cannot be read or have no"
                f" time:\n{places}{more}\n{advice}{remedy}. Nothing was written."
            )


def encoding_advice(file: str) -> str:
    """Which encoding a CSV file that is not UTF-8 has, in words; nothing if it is but for stray bytes."""
    likely = encoding_of(file)
    return "" if likely == "utf-8" else f"{file} looks like {likely}: say --encoding {likely}."


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
      progress: called with the share of the file read so far, in [0, 1].

    Raises:
      BadData: the file is missing, empty, truncated, or not of its format.
    """
    kind = format_of(path, format)
    options = options or CsvOptions()
    if kind == "csv":
        _refuse_utf8_as_other(path, options)
    file = RecordFile(str(path), kind, options)
    try:
        size = path.stat().st_size
        if size == 0 or file.is_empty():
            raise BadData(
                f"A {kind} file holds records; {path} is empty. Write it again, or leave it out."
            )
        blocks = file.blocks(
            check_names=_header_check(path, kind, options),
            empty_is_null=True,
            block_rows=BATCH_ROWS,
            block_bytes=BLOCK_BYTES,
        )
        for found in blocks:
            if isinstance(found, Unreadable):
                malformed(_malformed(path, kind, found))
            else:
                progress(min(1.0, found.offset / size))
                yield found.rows
    except UnicodeDecodeError as e:
        raise BadData(
            f"{path} is not {options.encoding}: {str(e).partition(': ')[0]}."
            f" {encoding_advice(str(path))}".rstrip()
        ) from e
    # In this order: what a damaged gzip raises is an OSError too.
    except CONTENT_ERRORS as e:
        raise BadData(
            f"{path} cannot be read as {kind}: {str(e).splitlines()[0].rstrip('.')}. It may be truncated (a"
            " copy that did not finish?) or of another format: write it again, or say what it is"
            " with --format."
        ) from e
    except OSError as e:
        raise BadData(
            f"{path} cannot be read: {e.strerror or e}. Check the path, and that the file is whole."
        ) from e


def _refuse_utf8_as_other(path: Path, options: CsvOptions) -> None:
    """Finds the one wrong encoding that raises nothing, and writes Ã¼ for ü."""
    if codecs.lookup(options.encoding).name == "utf-8" or not path.is_file():
        return
    sample = first_bytes(str(path))
    if not sample.isascii() and decodes(sample, "utf-8"):
        raise UsageError(f"{path} is UTF-8, not {options.encoding}: leave --encoding out.")


def _malformed(path: Path, kind: Kind, found: Unreadable) -> Malformed:
    place = "line" if kind == "jsonl" else "row"
    return Malformed(
        str(path),
        f"{place} {found.number}",
        f"{found.reason}: {found.why}",
        found.text[:_TEXT_LENGTH],
    )


def _header_check(path: Path, kind: Kind, options: CsvOptions) -> CheckNames | None:
    """What looks at the header of a CSV file, if the file has to have one."""
    if kind != "csv" or options.columns:
        return None
    delimiter = options.delimiter or delimiter_of(str(path))

    def check(names: Sequence[str]) -> None:
        if not names or not all(names) or len(set(names)) < len(names):
            raise BadData(
                f"The first line of a CSV names its columns, each once; in {path} it is"
                f" {delimiter.join(names)[:200]!r}. For a file without a header line give the"
                " names: --columns user,item,time."
            )

    return check
