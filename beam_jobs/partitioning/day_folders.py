"""Gathers rows by day, and writes one file per day.

Rows wait in memory up to a bound, and on disk above it. No folder is changed before it is certain that
no row is lost.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.partitioning.calendar_days import Layout
from beam_jobs.partitioning.log_tables import TextNumbers, common_schema, conform, long_integers
from twinspire_core import storage
from twinspire_core.errors import UsageError

ROW_GROUP = 1 << 17


class Spill:
    """Collects rows by day, and writes each day's rows in the order in which they came."""

    def __init__(self, folder: Path, max_bytes: int, numbers: TextNumbers | None = None) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._numbers = numbers
        self._memory: dict[date, list[pa.Table]] = defaultdict(list)
        self._bytes = 0
        self._files: dict[date, list[Path]] = defaultdict(list)
        self._schemas: list[pa.Schema] = []
        self._long: set[str] = set()

    def add(self, table: pa.Table, days: pl.Series, keep: pl.Series) -> None:
        """Takes rows of a table; moves all rows in memory to disk when they outgrow the bound.

        Args:
          table: [N] rows of any schema.
          days: [N] Date of each row.
          keep: [N] whether a row is taken; rows that are taken have a day.
        """
        if self._numbers:
            self._numbers.see(table)
        self._long |= long_integers(table)
        # In JSON Lines, a column may have another type in each block: so schemas are collected from all
        # tables, and joined at the end.
        if not any(table.schema.equals(known) for known in self._schemas):
            self._schemas.append(table.schema)
        for day, rows in _split(table, days, keep):
            self._memory[day].append(rows)
            self._bytes += rows.nbytes
        if self._bytes > self._max_bytes:
            self._flush()

    def _flush(self) -> None:
        # All days at once: single days would leave many small files.
        for day, tables in self._memory.items():
            # A file holds tables of one schema; its number keeps the order of the rows.
            for schema, run in groupby(tables, key=attrgetter("schema")):
                path = self._folder / f"{day}-{len(self._files[day]):06d}.arrow"
                compressed = pa.ipc.IpcWriteOptions(compression="lz4")
                with pa.ipc.new_file(path, schema, options=compressed) as file:
                    file.write_table(pa.concat_tables(run).combine_chunks())
                self._files[day].append(path)
        self._memory.clear()
        self._bytes = 0

    def days(self) -> list[date]:
        """The days that have rows, oldest first."""
        return sorted(self._files.keys() | self._memory.keys())

    def tables(self, day: date) -> Iterator[pa.Table]:
        """The rows of a day in the schema of all tables, in order."""
        schema = self._schema()
        return (conform(table, schema) for table in self._raw(day))

    def _schema(self) -> pa.Schema:
        number_types = self._numbers.types() if self._numbers else {}
        fields = [
            field.with_type(number_types.get(field.name, field.type))
            for field in common_schema(self._schemas, self._long)
        ]
        return pa.schema(fields)

    def _raw(self, day: date) -> Iterator[pa.Table]:
        for path in self._files[day]:
            with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
                for number in range(file.num_record_batches):
                    yield pa.Table.from_batches([file.get_batch(number)])
        yield from self._memory.get(day, [])

    def write(self, day: date, path: Path) -> None:
        """Writes a day as Parquet: the same rows give the same bytes, however they came in."""
        with pq.ParquetWriter(path, self._schema(), compression="zstd") as writer:
            # Cut evenly, so that row groups, and so the bytes, do not depend on where blocks ended.
            for table in _even(self.tables(day)):
                writer.write_table(table, ROW_GROUP)


def _split(table: pa.Table, days: pl.Series, keep: pl.Series) -> Iterator[tuple[date, pa.Table]]:
    """The kept rows of each day, in order; the parts share one copy of the kept rows."""
    if not keep.all():
        table = table.filter(pa.array(keep))
        days = days.filter(keep)
    order = np.argsort(days.to_physical().to_numpy(), kind="stable")
    # Most logs are sorted already: then the parts can be slices of the table itself.
    if (np.diff(order) != 1).any():
        table = table.take(order)
        days = days.gather(order)
    start = 0
    for rows, day in days.rle().struct.unnest().iter_rows():
        yield day, table.slice(start, rows)
        start += rows


def _even(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows cut into tables of ROW_GROUP rows, the last one shorter."""
    kept: list[pa.Table] = []
    size = 0
    for table in tables:
        kept.append(table)
        size += len(table)
        while size >= ROW_GROUP:
            whole = pa.concat_tables(kept)
            yield whole.slice(0, ROW_GROUP).combine_chunks()
            kept = [whole.slice(ROW_GROUP)]
            size -= ROW_GROUP
    if size:
        yield pa.concat_tables(kept).combine_chunks()


PART = "part-0.parquet"


@dataclass(slots=True)
class Summary:
    """What became of the input.

    Attributes:
      rows: records that were read.
      days: number of days that have rows, of which `first` and `last` are the ends.
      written: new days.
      replaced: days that had other rows before.
      unchanged: days that had the same bytes before.
      outside: rows of days before `first` or after `last` of the layout.
      rejected: records that were set aside.
      missing: days without rows between the first and the last, at most a hundred.
      warning: what looks wrong about the days, or None.
    """

    rows: int = 0
    days: int = 0
    first: date | None = None
    last: date | None = None
    written: int = 0
    replaced: int = 0
    unchanged: int = 0
    outside: int = 0
    rejected: int = 0
    missing: list[date] = field(default_factory=list)
    warning: str | None = None


def put_days(
    summary: Summary, spill: Spill, scratch: Path, template: str, layout: Layout, replace: bool
) -> None:
    """Writes the files of the days, except those that exist already with the same bytes.

    Args:
      summary: the days are added to it.
      spill: holds the rows of each day.
      scratch: a local folder for new files, before they are uploaded.
      template: folder of a day, with `{date}`. Local or in an object store.
      layout: its `done_marker` is written after the rows. Without `time` a day is one snapshot, which
        replaces an earlier one.
      replace: write a day also where rows of the existing file would be lost.

    Raises:
      UsageError: an existing day has rows that the new ones lack, and `replace` is not given.
    """
    folders = {day: template.replace("{date}", str(day)) for day in spill.days()}
    unchanged = set()
    for day, folder in folders.items():
        existing = storage.join(folder, PART)
        if not storage.exists(existing):
            summary.written += 1
            continue
        new = _staged(spill, scratch, day)
        if storage.file_digest(existing) == storage.file_digest(str(new)):
            new.unlink()
            unchanged.add(day)
            continue
        summary.replaced += 1
        if layout.time and not replace:
            _refuse_loss(existing, new, layout.time)
    for day, folder in folders.items():
        if day not in unchanged:
            new = _staged(spill, scratch, day)
            storage.upload_tree(new.parent, folder)
            new.unlink()
        # After the rows: the marker says that a day is complete.
        done = storage.join(folder, layout.done_marker) if layout.done_marker else None
        if done and not storage.exists(done):
            storage.write_bytes(done, b"")
    summary.unchanged += len(unchanged)
    summary.days += len(folders)
    summary.first = summary.first or min(folders, default=None)
    summary.last = max(folders, default=summary.last)


def _staged(spill: Spill, scratch: Path, day: date) -> Path:
    """The local file with the day's new rows, which is written now if it is not there."""
    file = scratch / str(day) / PART
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        spill.write(day, file)
    return file


def _refuse_loss(existing: str, new_file: Path, time: str) -> None:
    """Refuses a day that would lose rows, counted by their times.

    A row with another value in some other column is no loss. Where a later export holds only the last
    hours of a day, the rest of the day is one.
    """
    try:
        # Not below the folder of the new file, which is uploaded as a whole.
        old = _times(storage.localize(existing, Path(f"{new_file.parent}.existing")), time)
    except pl.exceptions.ComputeError:
        return  # no Parquet, so nobody can read its rows
    new = _times(new_file, time)
    both = old.join(new, on="time", how="left", suffix="_new", nulls_equal=True)
    missing = both["len"].cast(pl.Int64) - both["len_new"].fill_null(0).cast(pl.Int64)
    lost = missing.clip(0).sum()
    if not lost:
        return
    content = f"{existing} has {old['len'].sum():,} rows"
    if not old["time"].is_not_null().any():
        raise UsageError(
            f"Writing a day replaces its existing file; {content}, but no column {time!r} to compare them"
            " by. If the column was renamed, add --replace. Otherwise choose another --out. Nothing was"
            " written."
        )
    raise UsageError(
        f"Writing a day replaces its existing file; {content}, and {lost:,} of them would be lost, because"
        " they are not among the new rows. Give all rows of a day together, leave such days out (--from,"
        " --to), or add --replace if the new rows are right. Nothing was written."
    )


def _times(file: Path, time: str) -> pl.DataFrame:
    """Rows of a file by time, as text: the type of the time may differ between two exports."""
    rows = pl.scan_parquet(file, hive_partitioning=False)
    has_time = time in rows.collect_schema().names()
    value = pl.col(time).cast(pl.String) if has_time else pl.lit(None, pl.String)
    return rows.group_by(value.alias("time")).len().collect()
