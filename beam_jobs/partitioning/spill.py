"""Rows on their way to one file per day: kept in memory up to a bound, on disk above it."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.partitioning.column_types import TextNumbers, common_schema, conform, long_integers

ROW_GROUP = 1 << 17


class Spill:
    """Collects tables by day and gives each day's rows back in the order they came."""

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
        """Takes a table's rows; writes everything that waits to disk when it outgrows the bound.

        Args:
          table: N rows.
          days: [N] Date of each.
          keep: [N] whether it is taken; a row that is has a day.
        """
        if self._numbers:
            self._numbers.see(table)
        self._long |= long_integers(table)
        # One column of one file may have another type in each block of JSON Lines, so schemas are
        # collected from all tables and joined at the end.
        if not any(table.schema.equals(known) for known in self._schemas):
            self._schemas.append(table.schema)
        for day, rows in _split(table, days, keep):
            self._memory[day].append(rows)
            self._bytes += rows.nbytes
        if self._bytes > self._max_bytes:
            self._flush()

    def _flush(self) -> None:
        for day, tables in self._memory.items():
            # A file holds tables of one schema; its number keeps the order in which rows came.
            for schema, run in _runs(tables):
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

    def _tables(self, day: date) -> Iterator[pa.Table]:
        for path in self._files[day]:
            with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
                for number in range(file.num_record_batches):
                    yield pa.Table.from_batches([file.get_batch(number)])
        yield from self._memory.get(day, [])

    def write(self, day: date, path: Path) -> int:
        """Writes a day as Parquet: the same rows give the same bytes, however they came in.

        Returns: rows written.
        """
        number_types = self._numbers.types() if self._numbers else {}
        common = common_schema(self._schemas, self._long)
        fields = [field.with_type(number_types.get(field.name, field.type)) for field in common]
        schema = pa.schema(fields)
        rows = 0
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            # Evenly cut: row groups, and so the bytes, do not depend on where blocks ended.
            for table in _even(conform(table, schema) for table in self._tables(day)):
                writer.write_table(table, ROW_GROUP)
                rows += len(table)
        return rows


def _split(table: pa.Table, days: pl.Series, keep: pl.Series) -> Iterator[tuple[date, pa.Table]]:
    """The kept rows of each day, in order. The parts share one copy of the table, which holds
    nothing else.
    """
    if not keep.all():
        table = table.filter(pa.array(keep))
        days = days.filter(keep)
    order = np.argsort(days.to_physical().to_numpy(), kind="stable")
    is_sorted = bool((np.diff(order) == 1).all())
    if not is_sorted:
        table = table.take(order)
        days = days.gather(order)
    before_all_days = -(1 << 40)
    starts = np.flatnonzero(np.diff(days.to_physical().to_numpy(), prepend=before_all_days))
    for start, end in pairwise([*starts, len(days)]):
        yield days[int(start)], table.slice(start, end - start)


def _runs(tables: list[pa.Table]) -> Iterator[tuple[pa.Schema, list[pa.Table]]]:
    """Neighbours of one schema together."""
    run: list[pa.Table] = []
    for table in tables:
        if run and not table.schema.equals(run[0].schema):
            yield run[0].schema, run
            run = []
        run.append(table)
    if run:
        yield run[0].schema, run


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
