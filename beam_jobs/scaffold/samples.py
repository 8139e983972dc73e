"""Rows of logs, as many as can be read in seconds: of a file or a folder, and of a day as the pipeline
file declares it.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import get_args

import polars as pl

from beam_jobs.ingest import day_files
from beam_jobs.ingest.day_files import SourceFile, Table
from beam_jobs.partitioning.log_tables import Format, flat, format_of, read, with_numbers
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import BadData, UsageError
from twinspire_core.records import raw_files
from twinspire_core.records.csv_lines import CsvOptions
from twinspire_core.records.raw_files import Unreadable, readable
from twinspire_core.records.record_file import RecordFile, sniff

_SAMPLE_ROWS = 200_000
_SAMPLED_FILES = 8
_ROWS = 300_000
_LISTED_DAYS = 4


@dataclass(frozen=True, slots=True)
class LogSample:
    """A sample of a table, and the folder of its days as the pipeline file names it, with `{date}`."""

    where: str
    rows: pl.DataFrame


def sample_table(path: Path, kind: str, home: Path | None) -> LogSample:
    """The first rows of the last file; for events, of several files from the first to the last, since rare
    values do not occur on every day.
    """
    files = log_files(path)
    file = files[-1] if files else None
    if file is None or not file.exists():
        raise UsageError(
            f"A sample of {kind} is a file or a folder with files; found nothing at {path}."
        )
    try:
        format_of(file)
    except UsageError as e:
        raise UsageError(
            f"A draft is made from Parquet, JSON Lines or CSV, told by the ending; {file} has none"
            " of these. Lay the file out first, then draft from the folder: twinspire partition"
            f" {file} --format csv --out 'logs/{kind}/dt={{date}}/' {_day_option(kind)}"
        ) from e
    _refuse_other_csv(file, kind)
    folder = _place(file.resolve().parent, home) + "/"
    where, dates = re.subn(r"\d{4}-\d\d-\d\d", "{date}", folder)
    if not dates:
        where = f"{kind}/dt={{date}}/"
    chosen = files[:: max(1, len(files) // _SAMPLED_FILES)] if kind == "events" else [file]
    rows = [sample_rows(path).head(_SAMPLE_ROWS // len(chosen)) for path in chosen]
    return LogSample(where, stack(rows))


def log_files(path: Path) -> list[Path]:
    """The files below a folder that are not empty, sorted; a file itself."""
    if not path.is_dir():
        return [path]
    files = (f for f in sorted(path.rglob("*")) if f.is_file() and f.name[0] not in "._")
    return [file for file in files if file.stat().st_size]


def _refuse_other_csv(file: Path, kind: str) -> None:
    """Refuses a CSV that stages cannot read: with another delimiter than its ending says, or not UTF-8."""
    if format_of(file) != "csv":
        return
    likely = sniff(str(file))
    options = []
    if likely.delimiter:
        options.append(f"--delimiter '{likely.delimiter}'")
    if likely.encoding != "utf-8":
        options.append(f"--encoding {likely.encoding}")
    if options:
        raise UsageError(
            f"A CSV is cut at commas (tabs in .tsv) and is UTF-8; {file} is not. Lay it out first,"
            f" then draft from the folder: twinspire partition {file} {' '.join(options)} --out"
            f" 'logs/{kind}/dt={{date}}/' {_day_option(kind)}"
        )


def _day_option(kind: str) -> str:
    return "--time COLUMN" if kind == "events" else "--snapshot DATE"


def sample_rows(
    file: Path, format: Format = "auto", csv: CsvOptions | None = None, *, nested: bool = True
) -> pl.DataFrame:
    """The first rows of a local file, at most 200,000.

    Args:
      file: of any format that `log_tables.format_of` knows.
      format: of the file; `auto` takes it from the ending.
      csv: how a CSV file is written; by default with commas, in UTF-8.
      nested: whether nested columns stay as they are; else each field is a column, as
        `twinspire partition` writes them.
    """
    rows = next(read(file, lambda malformed: None, format, csv)).slice(0, _SAMPLE_ROWS)
    if format_of(file, format) == "csv":
        rows = with_numbers(rows)  # as stages do, where the pipeline file asks for numbers
    return pl.DataFrame(rows if nested else flat(rows))


def _place(folder: Path, home: Path | None) -> str:
    """A folder as the pipeline file names it: relative to the file's home, if both share a folder."""
    if home is None or os.path.commonpath([folder, home.resolve()]) == os.sep:
        return str(folder)
    return os.path.relpath(folder, home.resolve())


@dataclass(frozen=True, slots=True)
class TableSample:
    """Some rows of a table.

    Attributes:
      rows: the first rows of each file, at most the same number.
      files: all files of the table.
      given: `source.format` of the pipeline file.
      is_text: whether numbers may be written as text.
      extent: how much was read, in words; empty if all was.
    """

    table: Table
    rows: pl.DataFrame
    files: tuple[SourceFile, ...]
    given: str
    is_text: bool
    extent: str

    def values_of(self, column: str) -> Iterator[pl.Series]:
        """Values of a column, block by block: first those of the sample, then, if that is cut, all."""
        yield self.rows[column]
        if self.extent:
            for file in self.files:
                yield from (rows[column] for rows in _blocks(self.given, file, [column]))


def declared_tables(p: Pipeline) -> list[Table]:
    """The tables that the pipeline file names."""
    return [table for table in get_args(Table) if getattr(p.source, table)]


def sample_of(p: Pipeline, table: Table, day: date) -> TableSample:
    """Rows of the day's events, or of the newest snapshot at or before the day.

    Raises:
      BadData: there is none, or it cannot be read.
    """
    chosen = day if table == "events" else day_files.SnapshotDays(p, table).at(day)
    files = day_files.files(p, table, chosen) if chosen else ()
    if not files:
        days = [str(at) for at in day_files.folder_days(p, table)]
        if len(days) > _LISTED_DAYS:
            days = [*days[:2], "…", *days[-2:]]
        raise BadData(
            f"source.{table} has no files for {day} at {getattr(p.source, table)}; days there:"
            f" {', '.join(days) or 'none'}. Lay the raw files out with `twinspire partition`, or"
            " choose another --date."
        )
    given = p.source.format
    most = -(-_ROWS // len(files))
    firsts = [_first(given, file, most) for file in files]
    parts = [rows for of_file, _ in firsts for rows in of_file]
    is_cut = any(more for _, more in firsts)
    rows = stack(parts) if parts else pl.DataFrame()
    is_text = any(raw_files.format_of(file.uri, given) != "parquet" for file in files)
    extent = f"the first {most:,} {table} of each file" if is_cut else ""
    return TableSample(table, rows, files, given, is_text, extent)


def stack(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """The rows of all parts; only of the first, where a column has lists in some parts and not in others."""
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
    kind = raw_files.format_of(file.uri, given)
    with readable(file.uri, kind):
        for block in RecordFile(file.uri, kind).blocks(columns, empty_is_null=True):
            if not isinstance(block, Unreadable):
                yield pl.DataFrame(block.rows)
