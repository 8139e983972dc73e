"""Parquet files that stages leave, found and read in one way, on a disk and on `gs://`.

Raw logs, which may be of other formats and damaged, are read by twinspire_core/records.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from twinspire_core import storage
from twinspire_core.storage.store import map_each


def list_parquet(place: str) -> list[str]:
    """The Parquet files below a folder, sorted by path; none if there is no such folder."""
    return [file.uri for file in storage.list_files(place) if file.path.endswith(".parquet")]


@contextmanager
def open_parquet(uri: str) -> Iterator[pq.ParquetFile]:
    """A file to read parts of: its footer is read, and of its rows what is asked for."""
    with storage.open_bytes(uri) as source, pq.ParquetFile(source) as file:
        yield file


def read_file(uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of a file.

    Args:
      uri: the file.
      columns: by default all.
    """
    with storage.open_bytes(uri) as source:
        # Not by `open_parquet`, whose file would leave out columns that are not there.
        return pq.read_table(source, columns=columns)


def read_folder(place: str, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of the files below a folder, file by file in order of their paths.

    Args:
      place: the folder.
      columns: by default all.

    Raises:
      FileNotFoundError: there are no such files, and so nobody knows their columns.
    """
    files = list_parquet(place)
    if not files:
        raise FileNotFoundError(f"no Parquet files below {place}")
    return pa.concat_tables(map_each(lambda uri: read_file(uri, columns), files))


def count_rows(uri: str) -> int:
    """Rows of a file, by its footer."""
    with open_parquet(uri) as file:
        return int(file.metadata.num_rows)
