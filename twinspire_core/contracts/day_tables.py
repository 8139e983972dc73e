"""Folders of a measure attempt that hold a table for each of the newest days: `dt=D.parquet`, zstd."""

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from twinspire_core import storage
from twinspire_core.contracts import attempts
from twinspire_core.storage import parquet_files

_ENDING = ".parquet"


def read_days(folder: str) -> Iterator[tuple[date, pa.Table]]:
    """The tables, of the newest day first; none where the folder is gone.

    Args:
      folder: local or remote.
    """
    # ISO dates: the order of names is that of days.
    for name in sorted(storage.list_names(folder), reverse=True):
        day = attempts.day_of(name.removesuffix(_ENDING))
        if day is None or not name.endswith(_ENDING):
            continue  # somebody else's
        yield day, parquet_files.read_file(storage.join(folder, name))


def write_days(folder: Path, tables: Mapping[date, pa.Table]) -> None:
    """Writes the tables into a local folder, which is made if there are any."""
    for day, table in tables.items():
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / f"dt={day}{_ENDING}", compression="zstd")
