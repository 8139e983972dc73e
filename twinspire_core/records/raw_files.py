"""Raw files on a disk or in an object store: their format, their bytes, and what in them cannot be read."""

import csv
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import PurePosixPath
from typing import BinaryIO, Literal, NamedTuple, cast

import pyarrow as pa

from twinspire_core import storage
from twinspire_core.errors import BadData

Kind = Literal["parquet", "jsonl", "csv"]
Bytes = BinaryIO | BufferedReader | gzip.GzipFile
"""A file opened to read bytes."""
ENDINGS: dict[str, Kind] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
}
CONTENT_ERRORS = (pa.ArrowInvalid, EOFError, zlib.error, gzip.BadGzipFile, csv.Error)
"""What reading raises when a file is truncated, or of another format."""
_GZIP_MAGIC = b"\x1f\x8b"
# First bytes of files that are no text. As text they would be rows of nonsense.
_NO_TEXT = {
    b"PK\x03\x04": "an Excel sheet or a ZIP file",
    b"\xd0\xcf\x11\xe0": "an Excel sheet",
    b"PAR1": "a Parquet file",
    b"Obj\x01": "an Avro file",
    b"SQLite format 3": "an SQLite database",
    b"(\xb5/\xfd": "compressed by zstd",
    b"\xfd7zXZ": "compressed by xz",
    b"BZh9": "compressed by bzip2",
    b"%PDF-": "a PDF",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GIF89a": "a picture",
}


def kind_of(name: str) -> Kind | None:
    """The format that a file's ending says, before any `.gz`; None if it says none."""
    return ENDINGS.get(PurePosixPath(name.removesuffix(".gz")).suffix.lower())


def format_of(uri: str, given: str = "auto") -> Kind:
    """The format of a file: as given, or with `auto` by the file's ending, before any `.gz`.

    Raises:
      BadData: the ending says no format.
    """
    kind = kind_of(uri) if given == "auto" else cast(Kind, given)
    if kind is None:
        raise BadData(
            f"With source.format = 'auto' a file must have one of these endings: {', '.join(ENDINGS)},"
            f" also with .gz. Found {uri}. Set source.format, or move the file away (files whose"
            " names begin with _ are skipped)."
        )
    return kind


class Unreadable(NamedTuple):
    """A line or a row that is no record.

    Attributes:
      number: which record it would be, as record_file.py counts them.
      reason: the rule that it breaks.
      why: what is there instead, in words.
      text: the line, or the field that breaks the rule.
    """

    number: int
    reason: str
    why: str
    text: str


@contextmanager
def open_text(uri: str) -> Iterator[Bytes]:
    """The bytes of a text file. Gzip is recognised by its content, whatever the file's name.

    Raises:
      BadData: the file is of a kind that is no text.
    """
    with storage.open_bytes(uri) as raw:
        # By the content: many tools write gzip under a plain name, and some unzip as they copy.
        zipped = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        raw.seek(0)
        text = gzip.GzipFile(fileobj=raw) if zipped else raw
        start = text.read(max(map(len, _NO_TEXT)))
        if kind := next(
            (kind for magic, kind in _NO_TEXT.items() if start.startswith(magic)), None
        ):
            raise BadData(
                f"A CSV or JSON Lines file must be text, or text in gzip; {uri} is {kind}. Export the log"
                " as CSV, or name the file by its format."
            )
        text.seek(0)
        yield text


def offset_in_file(text: Bytes) -> int:
    """Bytes of the file itself, perhaps compressed, that have been read so far."""
    # What was unzipped cannot be compared with the size of the file, as progress is.
    if isinstance(text, gzip.GzipFile):
        return cast(BinaryIO, text.fileobj).tell()
    return text.tell()


@contextmanager
def readable(uri: str, kind: str, setting: str = "source.format") -> Iterator[None]:
    """Turns what readers raise about a file's content into `BadData` that names the file, and the setting
    or option that gives its format.
    """
    try:
        yield
    except (*CONTENT_ERRORS, OSError) as e:
        if isinstance(e, OSError) and e.errno is not None:
            raise  # the system's: no such file, no permission, no network
        reason = str(e).splitlines()[0].rstrip(".") if str(e) else type(e).__name__
        raise BadData(
            f"{uri} cannot be read as {kind}: {reason}. It may be truncated (a copy that did not"
            f" finish), or have another format ({setting}). Deliver the file again, or move it"
            " away."
        ) from e
