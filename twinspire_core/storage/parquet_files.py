"""Parquet files of the stages, listed and read on a disk and in an object store.

Raw logs, which may be damaged or of other formats, are read by twinspire_core/records.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from twinspire_core import storage
from twinspire_core.storage.store import map_each


def list_parquet(folder: str) -> list[str]:
    """The Parquet files below a folder, sorted by path; none if there is no such folder."""
    return [file.uri for file in storage.list_files(folder) if file.path.endswith(".parquet")]


@contextmanager
def open_parquet(uri: str) -> Iterator[pq.ParquetFile]:
    """A file opened to read parts of it: only the footer, and the rows that are asked for."""
    with storage.open_bytes(uri) as source, pq.ParquetFile(source) as file:
        yield file


def read_file(uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of a file, with all columns or those that are named."""
    with storage.open_bytes(uri) as source:
        # Not by `open_parquet`, whose file would silently leave out columns that do not exist.
        return pq.read_table(source, columns=columns)


def read_folder(folder: str, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of the files below a folder, file by file in order of their paths; columns as in `read_file`.

    Raises:
      FileNotFoundError: there are no files, so that the columns are unknown.
    """
    files = list_parquet(folder)
    if not files:
        raise FileNotFoundError(f"no Parquet files below {folder}")
    return pa.concat_tables(map_each(lambda uri: read_file(uri, columns), files))


def count_rows(uri: str) -> int:
    """Rows of a file, by its footer."""
    with open_parquet(uri) as file:
        return int(file.metadata.num_rows)
