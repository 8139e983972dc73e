"""Reads CSV as blocks of text columns, and guesses the encoding of a text.

Nothing is converted, since 007 and 1.50 may be ids. Arrow splits the text; what is added here are the
numbers of records, and that one bad record costs itself and not the file.
"""

import codecs
import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import StringIO
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.csv

from twinspire_core.errors import UsageError
from twinspire_core.records.raw_files import Bytes, Unreadable, open_text

_BLOCK = 4 << 20
_LONGEST_HEADER = 1 << 20  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvOptions:
    """What a CSV file does not say about itself.

    Attributes:
      delimiter: one character; None: by the ending, tab for `.tsv` and comma otherwise.
      columns: names, for files without a header line.
    """

    delimiter: str | None = None
    columns: Sequence[str] = ()
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise UsageError(
                f"A CSV delimiter must be one character; found {self.delimiter!r}. Write a tab as"
                " $'\\t'."
            )
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise UsageError(
                "The encoding must be one that Python knows, such as utf-8, cp1252, latin-1 or"
                f" utf-16; found {self.encoding!r}."
            ) from None

    def recoded(self, text: Bytes) -> tuple[Bytes, str]:
        """The text and its encoding. A text whose line ends take several bytes is turned into UTF-8."""
        if codecs.lookup(self.encoding).name.startswith(("utf-16", "utf-32")):
            return cast(Bytes, codecs.EncodedFile(text, "utf-8", self.encoding)), "utf-8"
        return text, self.encoding


def split_names(line: str) -> tuple[str, ...]:
    """Names of columns in a line of CSV; none of an empty line."""
    return tuple(next(csv.reader([line]), ()))


def join_names(names: Iterable[str]) -> str:
    """The line of CSV with these names, without its end."""
    line = StringIO()
    csv.writer(line, lineterminator="").writerow(names)
    return line.getvalue()


def first_line(text: Bytes) -> bytes:
    """The first line, with its end.

    Raises:
      csv.Error: no header is so long.
    """
    line = text.readline(_LONGEST_HEADER)
    if len(line) == _LONGEST_HEADER:
        raise csv.Error(f"its first line is longer than {_LONGEST_HEADER:,} bytes")
    return line


def header(text: Bytes, delimiter: str, encoding: str = "utf-8") -> list[str]:
    """Names of the columns, by the first line; `column_1` for a first one without a name."""
    first = first_line(text).decode(encoding).removeprefix("\ufeff").rstrip("\r\n")
    names = next(csv.reader([first], delimiter=delimiter), [])
    # pandas leaves out the name of the index.
    return [name or f"column_{number}" for number, name in enumerate(names, 1)]


def csv_blocks(
    text: Bytes,
    names: Sequence[str],
    *,
    first: int,
    wanted: Sequence[str] | None = None,
    delimiter: str = ",",
    encoding: str = "utf-8",
    block_bytes: int | None = None,
) -> Iterator[tuple[pa.RecordBatch, np.ndarray] | Unreadable]:
    """Yields records in order, and those that cannot be read: with another number of fields, or bytes
    that are no text.

    Args:
      text: positioned at its first record, after any header.
      names: of all columns, in order.
      first: number of the first record, as people count.
      wanted: columns to take; all by default.
      block_bytes: text of a block; by default, or if it is negative, 4 MiB.

    Yields: columns of strings and the records' numbers, [N] int64; an `Unreadable` comes after the
    block that it stands in.
    """
    bad: list[pa.csv.InvalidRow] = []
    source = _Endable(text)
    columns = list(wanted or names)

    def skip(row: pa.csv.InvalidRow) -> str:
        if not source.ended:
            bad.append(row)
        return "skip"

    # Malformed rows are numbered only if one thread reads.
    read = pa.csv.ReadOptions(
        use_threads=False,
        block_size=_BLOCK if block_bytes is None or block_bytes < 0 else block_bytes,
        column_names=list(names),
        encoding=encoding,
    )
    parse = pa.csv.ParseOptions(
        delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip
    )
    # As bytes, so that one that is no text costs its record, not the day.
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(columns, pa.binary()), include_columns=columns
    )
    try:
        reader = pa.csv.open_csv(source, read, parse, convert)
    except pa.ArrowInvalid as e:
        if "Empty CSV file" in str(e):
            return
        raise
    with _drained(reader, source):
        number = first
        reported = 0
        for batch in reader:
            numbers = _numbers(number, len(batch), {row.number + first - 1 for row in bad})
            if len(numbers):
                number = int(numbers[-1]) + 1
            yield from _decoded(batch, numbers)
            yield from _malformed(bad[reported:], first)
            reported = len(bad)
        # Rows after the last good one, or of a file that has no good one
        yield from _malformed(bad[reported:], first)


def _malformed(rows: Iterable[pa.csv.InvalidRow], first: int) -> Iterator[Unreadable]:
    """Rows with too few or too many fields. Arrow numbers rows from 1, beginning at the record `first`."""
    for row in rows:
        rule = f"not {row.expected_columns} fields"
        yield Unreadable(row.number + first - 1, rule, f"{row.actual_columns} fields", row.text)


def _numbers(first: int, size: int, gone: set[int]) -> np.ndarray:
    """The next `size` numbers from `first` on that are not in `gone`."""
    numbers = np.arange(first, first + size + len(gone))
    return numbers[~np.isin(numbers, list(gone))][:size] if gone else numbers


def _decoded(
    batch: pa.RecordBatch, numbers: np.ndarray
) -> Iterator[tuple[pa.RecordBatch, np.ndarray] | Unreadable]:
    """Yields the rows whose bytes are no UTF-8 one by one, then all others as text."""
    good = np.ones(len(batch), bool)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            # Fast for the usual file, in which every column is UTF-8.
            column.cast(pa.string())
        except pa.ArrowInvalid:
            for i in range(len(batch)):
                if good[i] and not decodes(column[i].as_py() or b"", "utf-8"):
                    good[i] = False
                    yield Unreadable(int(numbers[i]), "not UTF-8", name, repr(column[i].as_py()))
    decodable = batch.filter(pa.array(good))
    columns = [c.cast(pa.string()) for c in decodable.columns]
    yield pa.RecordBatch.from_arrays(columns, names=decodable.schema.names), numbers[good]


class _Endable:
    """A file that can be brought to its end early."""

    # Arrow asks for it, and then reads only.
    closed = False

    def __init__(self, file: Bytes) -> None:
        self._file = file
        self.ended = False

    def read(self, size: int = -1) -> bytes:
        return b"" if self.ended else self._file.read(size)


@contextmanager
def _drained(reader: pa.csv.CSVStreamingReader, source: _Endable) -> Iterator[None]:
    """Leaves no thread of the reader behind: a thread that still reads when the process ends makes it
    abort.
    """
    try:
        yield
    finally:
        source.ended = True
        with suppress(pa.ArrowInvalid), reader:  # cut off anywhere, the text may end inside quotes
            for _ in reader:
                pass


_GUESSED_BYTES = 8 << 20  # text that one guess looks at
_MOST = 0.9  # share of bytes above 127 that are Cyrillic letters in a Cyrillic text


def encoding_of(uri: str) -> str:
    """The likeliest encoding of a file: UTF-8, or the encoding of the first part that is not UTF-8."""
    with open_text(uri) as text:
        rest = b""
        while block := text.read(_GUESSED_BYTES):
            whole, end, rest_of_line = (rest + block).rpartition(b"\n")
            likely = guess_encoding(whole + end or rest_of_line)
            if likely != "utf-8":
                return likely
            # A line that is cut in the middle could be cut in the middle of a character.
            rest = rest_of_line if end else b""
    return guess_encoding(rest)


def first_bytes(uri: str) -> bytes:
    """The first whole lines of a file, unzipped."""
    with open_text(uri) as text:
        sample = text.read(_GUESSED_BYTES)
    whole, end, _ = sample.rpartition(b"\n")
    return whole + end if end else sample


def guess_encoding(sample: bytes) -> str:
    """The likeliest encoding of a sample of whole lines: UTF-8 if all but stray bytes fit, else by which
    bytes stand next to which.
    """
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    # ASCII in UTF-16: every second byte is 0.
    if sample[1:200:2].count(0) > len(sample[1:200:2]) // 2:
        return "utf-16-le"
    text = sample.decode("utf-8", errors="replace")
    # Some stray bytes are let through, such as half a letter at the end of a field that was cut: their
    # records are set aside later.
    stray = text.count("\ufffd")
    if stray == 0 or 2 * stray < len(re.findall(r"[^\x00-\x7f]", text)):
        return "utf-8"
    runs = re.findall(rb"[\x80-\xff]+", sample)
    high = Counter(b"".join(runs))
    # In Shift JIS, the first bytes of hiragana and katakana, which hardly any Japanese text lacks.
    kana = high[0x82] + high[0x83]
    if 5 * kana > high.total() and decodes(sample, "shift_jis"):
        return "shift_jis"
    # Accented letters stand next to ASCII letters; letters of other scripts do not.
    mixed = re.findall(rb"[A-Za-z][\x80-\xff]+|[\x80-\xff]+[A-Za-z]", sample)
    if 2 * len(mixed) > len(runs):
        return _western(sample)
    # cp1251 has all Russian letters from here on, except ё.
    cyrillic = sum(count for byte, count in high.items() if byte >= 0xC0)
    if cyrillic > _MOST * high.total() and decodes(sample, "cp1251"):
        return "cp1251"
    # Last, as nearly any two bytes are a Chinese character.
    return "gb18030" if decodes(sample, "gb18030") else _western(sample)


def decodes(sample: bytes, encoding: str) -> bool:
    """Whether the bytes are text of the encoding."""
    try:
        sample.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _western(sample: bytes) -> str:
    """Western or Central European: many cp1252 signs inside words are cp1250 letters."""
    if not decodes(sample, "cp1252"):
        return "cp1250" if decodes(sample, "cp1250") else "latin-1"
    # These stand next to letters in any text.
    text = re.sub("[“”„‘’–—…€]", " ", sample.decode("cp1252"))
    signs = re.findall(r"(?<=[^\W\d_])[^\w\x00-\x7f]|[^\w\x00-\x7f](?=[^\W\d_])", text)
    letters = re.findall(r"[^\W\x00-\x7f]", text)
    return "cp1250" if 4 * len(signs) > len(letters) and decodes(sample, "cp1250") else "cp1252"
