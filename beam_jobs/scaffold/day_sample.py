"""Rows of a day's events and of the newest snapshots, as many as can be read in seconds."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import get_args

import polars as pl

from beam_jobs.ingest import day_files
from beam_jobs.ingest.day_files import SourceFile, Table
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import BadData
from twinspire_core.records.raw_files import Unreadable, format_of, readable
from twinspire_core.records.record_file import RecordFile

_ROWS = 300_000
_LISTED_DAYS = 4


@dataclass(frozen=True, slots=True)
class TableSample:
    """Some rows of a table.

    Attributes:
      rows: the same number of each file, as far as it has so many.
      files: all of the table.
      given: `source.format`.
      is_text: whether numbers may be written as text.
      extent: how much was read, in words; empty if it was all.
    """

    table: Table
    rows: pl.DataFrame
    files: tuple[SourceFile, ...]
    given: str
    is_text: bool
    extent: str

    def values_of(self, column: str) -> Iterator[pl.Series]:
        """A column's values, block by block: those of the sample, then, if that is not all, those of
        the table.
        """
        yield self.rows[column]
        if self.extent:
            for file in self.files:
                yield from (rows[column] for rows in _blocks(self.given, file, [column]))


def declared_tables(p: Pipeline) -> list[Table]:
    """The tables that the pipeline file names."""
    return [table for table in get_args(Table) if getattr(p.source, table)]


def sample_of(p: Pipeline, table: Table, day: date) -> TableSample:
    """Rows of the day's events, or of the newest snapshot that the day knows.

    Raises:
      BadData: there is none, or it cannot be read.
    """
    # Events are of the day itself; a snapshot is the newest one that the day can have used.
    chosen = day if table == "events" else day_files.SnapshotDays(p, table).at(day)
    files = day_files.files(p, table, chosen) if chosen else ()
    if not files:
        raise _absent(p, table, day)
    given = p.source.format
    most = -(-_ROWS // len(files))
    parts: list[pl.DataFrame] = []
    is_cut = False
    for file in files:
        rows_of_file, more = _first(given, file, most)
        parts += rows_of_file
        is_cut |= more
    rows = stack(parts) if parts else pl.DataFrame()
    is_text = any(format_of(file.uri, given) != "parquet" for file in files)
    extent = f"the first {most:,} {table} of each file" if is_cut else ""
    return TableSample(table, rows, files, given, is_text, extent)


def stack(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """The rows of all parts; of the first alone, where a list stands beside a number or text."""
    try:
        return pl.concat(parts, how="diagonal_relaxed")
    except pl.exceptions.PolarsError:
        return parts[0]


def _first(given: str, file: SourceFile, most: int) -> tuple[list[pl.DataFrame], bool]:
    """The first rows of a file, and whether it has more."""
    parts: list[pl.DataFrame] = []
    for rows in _blocks(given, file):
        if len(rows) > most:
            return [*parts, rows.head(most)], True
        parts.append(rows)
        most -= len(rows)
    return parts, False


def _blocks(
    given: str, file: SourceFile, columns: list[str] | None = None
) -> Iterator[pl.DataFrame]:
    kind = format_of(file.uri, given)
    with readable(file.uri, kind):
        for block in RecordFile(file.uri, kind).blocks(columns, empty_is_null=True):
            if not isinstance(block, Unreadable):
                yield pl.DataFrame(block.rows)


def _absent(p: Pipeline, table: Table, day: date) -> BadData:
    days = [str(at) for at in day_files.folder_days(p, table)]
    listed = ", ".join(days) or "none"
    if len(days) > _LISTED_DAYS:
        listed = ", ".join([*days[:2], "…", *days[-2:]])
    return BadData(
        f"source.{table} has no files for {day} at {getattr(p.source, table)}; days there:"
        f" {listed}. Lay the raw files out with `twinspire partition`, or choose another --date."
    )
