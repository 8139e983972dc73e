"""Rows on their way to a tower: Parquet files -> Arrow batches, each with the name of the file its
vectors go to.
"""

from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from twinspire_core import storage


class FilePart(NamedTuple):
    """An input file and its place among the others."""

    number: int
    uri: str


class Batch(NamedTuple):
    """Thousands of rows, and the name of the file that their vectors go to."""

    name: str
    rows: pa.RecordBatch


class ReadBatches(beam.PTransform):
    """Parquet files, spread over the workers -> batches of at most `rows` rows."""

    def __init__(self, parts: list[FilePart], columns: list[str], rows: int) -> None:
        super().__init__()
        self._parts, self._columns, self._rows = parts, columns, rows

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        """Wires the steps."""
        return (
            begin
            | "Files" >> beam.Create(self._parts, reshuffle=False)
            | "SpreadFiles" >> beam.Reshuffle()
            | "Read"
            >> beam.FlatMap(read_batches, self._columns, self._rows).with_output_types(Batch)
        )


def read_batches(part: FilePart, columns: list[str], rows: int) -> Iterator[Batch]:
    """The file's rows in order; columns that it lacks are left out."""
    with storage.open_bytes(part.uri) as source, pq.ParquetFile(source) as file:
        known = [name for name in columns if name in file.schema_arrow.names]
        tables = (
            pa.Table.from_batches([batch]) for batch in file.iter_batches(rows, columns=known)
        )
        for number, table in enumerate(tables):
            yield Batch(f"part-{part.number:05d}-{number:05d}", compact(table))


def compact(table: pa.Table) -> pa.RecordBatch:
    """The rows in buffers of their own: a slice would take its whole parent along when it is
    sent.
    """
    copy = (
        table.take(np.arange(table.num_rows))
        if table.get_total_buffer_size() > table.nbytes
        else table
    )
    return (
        copy.combine_chunks().to_batches()[0]
        if copy.num_rows
        else pa.RecordBatch.from_pylist([], table.schema)
    )
