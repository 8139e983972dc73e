"""What workers wrote, beside what the client sees of it.

A runner says that a job has ended well when each worker wrote its files, wherever that was. Where
hosts do not share `work_root`, or the client's view of it is an old one, files are missing here; so
rows are counted in the job, and compared with the files' footers before they are used or committed.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping

import apache_beam as beam
from apache_beam.pvalue import PCollection

from twinspire_core import storage
from twinspire_core.errors import UsageError, listed
from twinspire_core.storage.parquet_files import count_rows, list_parquet
from twinspire_core.storage.store import map_each

ROWS = "rows.json"
"""Where the job's counts wait, below the stage's output, until it has ended."""

_REMEDY = (
    "Files of workers on other hosts, probably, or a network file system that shows them later. Set"
    " pipeline.work_root to a shared folder by the path that it has everywhere, or to gs://, and run"
    " the same command again."
)


class WriteRows(beam.PTransform):
    """(folder below the stage's output, rows that were written to it) -> `ROWS`, by folder; of other
    numbers, a file of another name.
    """

    def __init__(self, out: str, name: str = ROWS) -> None:
        super().__init__()
        self._place = storage.join(out, name)

    def expand(self, written: PCollection) -> PCollection:
        """Adds up and writes."""
        # So that the file is written also where nothing else was.
        nothing = written.pipeline | beam.Create([("", 0)], reshuffle=False)
        counts = (written, nothing) | beam.Flatten() | beam.WithKeys(0)
        place = self._place
        write = beam.MapTuple(lambda _, found: _write(found, place))
        return counts | beam.GroupByKey() | "Write" >> write


def _write(counts: Iterable[tuple[str, int]], place: str) -> None:
    rows: Counter[str] = Counter()
    for folder, n in counts:
        rows[folder] += n
    storage.write_bytes(place, json.dumps(+rows).encode())


def take(out: str, name: str = ROWS) -> dict[str, int]:
    """Reads what `WriteRows` wrote, and removes it. What adds up to 0 is left out.

    Raises:
      UsageError: it is not there.
    """
    place = storage.join(out, name)
    rows: dict[str, int] = json.loads(read_written(place))
    storage.delete_file(place)
    return rows


def read_written(uri: str) -> bytes:
    """The content of a file that a step wrote.

    Raises:
      UsageError: it is not there.
    """
    try:
        return storage.read_bytes(uri)
    except FileNotFoundError:
        raise UsageError(
            f"work_root must be a place that every worker sees; {uri}, which a worker wrote, is not"
            f" here. {_REMEDY}"
        ) from None


def check(out: str, written: Mapping[str, int]) -> None:
    """Compares what was written with the Parquet files that are there.

    Args:
      out: URI of the stage's output.
      written: rows by folder below it.

    Raises:
      UsageError: a folder holds other rows.
    """
    seen = _rows(out, written)
    unlike = [
        f"{folder}: {rows:,} rows written, {seen[folder]:,} here"
        for folder, rows in written.items()
        if seen[folder] != rows
    ]
    if unlike:
        raise UsageError(
            f"work_root must be a place that every worker sees; found in {out}"
            f" {listed(unlike, separator='; ')}. {_REMEDY}"
        )


def _rows(out: str, folders: Iterable[str]) -> Counter[str]:
    """Rows of the Parquet files by folder."""
    files = {uri: folder for folder in folders for uri in list_parquet(storage.join(out, folder))}
    rows: Counter[str] = Counter()
    for folder, n in zip(files.values(), map_each(count_rows, files), strict=True):
        rows[folder] += n
    return rows
