"""A tower called on rows: Parquet files -> Arrow batches -> a file of vectors for each batch; and the
sample of users that is embedded.
"""

import io
import tempfile
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.utils.shared import Shared

from beam_jobs import user_hashing
from beam_jobs.beam.failures import fails_fast
from beam_jobs.day_plan import start_of
from twinspire_core import storage
from twinspire_core.blocked_imports import block_tensorflow_extras
from twinspire_core.contracts.model_bundle import VECTOR, Tower
from twinspire_core.errors import BadData, listed
from twinspire_core.native_stderr import suppress_native_stderr
from twinspire_core.storage.parquet_files import list_parquet, open_parquet


class FilePart(NamedTuple):
    """An input file and its place among the others."""

    number: int
    uri: str


class Batch(NamedTuple):
    """Thousands of rows, and the name of the file that their vectors go to."""

    name: str
    rows: pa.RecordBatch


def file_parts(folder: str) -> list[FilePart]:
    """The Parquet files below a folder."""
    return [FilePart(number, uri) for number, uri in enumerate(list_parquet(folder))]


class ReadBatches(beam.PTransform):
    """Parquet files, spread over the workers -> batches of at most `rows` rows."""

    def __init__(self, parts: list[FilePart], columns: list[str], rows: int) -> None:
        super().__init__()
        self._parts = parts
        self._columns = columns
        self._rows = rows

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        """Wires the steps."""
        read = beam.FlatMap(read_batches, self._columns, self._rows)
        return (
            begin
            | "Files" >> beam.Create(self._parts, reshuffle=False)
            | "SpreadFiles" >> beam.Reshuffle()
            | "Read" >> read.with_output_types(Batch)
        )


class SpreadBatches(beam.PTransform):
    """Batches, spread over the workers: a file of the corpus holds batches for many of them, which
    would otherwise all be embedded by the one that reads it.
    """

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Groups by name, of which each batch has its own."""
        # Not a second Reshuffle after that of the files: Flink takes it for done, and leaves it out.
        named = beam.Map(lambda batch: (batch.name, batch)).with_output_types(tuple[str, Batch])
        grouped = batches | "ByName" >> named | beam.GroupByKey()
        return grouped | beam.FlatMapTuple(lambda _, found: found).with_output_types(Batch)


def read_batches(part: FilePart, columns: list[str], rows: int) -> Iterator[Batch]:
    """The file's rows in order; columns that it lacks are left out."""
    with open_parquet(part.uri) as file:
        known = [name for name in columns if name in file.schema_arrow.names]
        for number, batch in enumerate(file.iter_batches(rows, columns=known)):
            table = pa.Table.from_batches([batch])
            yield Batch(f"part-{part.number:05d}-{number:05d}", compact(table))


def batches_of(rows: pa.Table, part: int, size: int) -> Iterator[Batch]:
    """Rows that are a part of others, cut into batches of at most `size`."""
    for number, start in enumerate(range(0, len(rows), size)):
        yield Batch(f"part-{part:05d}-{number:05d}", compact(rows.slice(start, size)))


def compact(table: pa.Table) -> pa.RecordBatch:
    """The rows in buffers of their own: a slice would take its whole parent along when it is
    sent.
    """
    if not table.num_rows:
        return pa.RecordBatch.from_pylist([], table.schema)
    # A slice holds the buffers of its parent, and its own rows are fewer bytes than these.
    is_slice = table.get_total_buffer_size() > table.nbytes
    if is_slice:
        table = table.take(np.arange(table.num_rows))
    return table.combine_chunks().to_batches()[0]


class Embed(beam.DoFn):
    """Writes the vectors of each batch to a file of its own; yields (folder, rows) of each.

    A worker process loads the tower once, however many threads and bundles it has. A repeated
    bundle writes the same bytes under the same name.
    """

    def __init__(self, tower: str, out: str, folder: str, key: str) -> None:
        super().__init__()
        self.out = out
        self._uri = tower
        self._folder = folder
        self._key = key
        self._shared = Shared()
        self._tower: Tower | None = None

    def tower(self) -> Tower:
        """The process's tower.

        While anybody holds it, nobody else in the process, workers included, has to load it.
        """
        tower: Tower = self._shared.acquire(lambda: load_tower(self._uri), tag=self._uri)
        return tower

    def setup(self) -> None:
        """Gets hold of the process's tower."""
        self._tower = self.tower()

    @fails_fast
    def process(self, batch: Batch) -> Iterator[tuple[str, int]]:
        """Embeds and writes."""
        assert self._tower is not None
        vectors = self._tower(pa.Table.from_batches([batch.rows]))
        table = with_vectors(batch.rows.column(self._key), self._key, vectors)
        write_plain(storage.join(self.out, self._folder, f"{batch.name}.parquet"), table)
        yield self._folder, len(table)


def write_plain(uri: str, table: pa.Table) -> None:
    """Writes a Parquet file of columns that hardly compress."""
    # Vectors are noise to a compressor, and a dictionary of them would be the column over again.
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="none", use_dictionary=False)
    storage.write_bytes(uri, sink.getvalue())


def load_tower(uri: str) -> Tower:
    """A tower from the disk or from `gs://`; TensorFlow itself reads local files only."""
    with (
        suppress_native_stderr(),
        block_tensorflow_extras(),
        tempfile.TemporaryDirectory(prefix="twinspire-tower-") as scratch,
    ):
        # Late: who only imports this module, to build a job, does without TensorFlow.
        import tensorflow as tf

        return Tower(tf.saved_model.load(str(storage.localize(uri, Path(scratch)))))


def with_vectors(ids: pa.Array, key: str, vectors: np.ndarray) -> pa.Table:
    """Ids beside their vectors.

    Args:
      ids: [N] string.
      key: name of the ids' column.
      vectors: [N, D] float32.

    Raises:
      BadData: a vector is not finite.
    """
    is_finite = np.isfinite(vectors).all(1)
    broken = ids.filter(pa.array(~is_finite)).to_pylist()
    if broken:
        raise BadData(
            f"A vector is finite; found NaN or infinity for {key.strip('_')}"
            f" {listed(broken)}. The model diverged, probably: lower"
            " train.learning_rate and train again."
        )
    values = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
    return pa.table({key: ids, VECTOR: pa.FixedSizeListArray.from_arrays(values, vectors.shape[1])})


ACTIVE_DAYS = 7  # days, the day itself included, in which a sampled user was last seen


class SampleUsers(beam.PTransform):
    """Batches of users -> batches of the sample of those last seen at or after an instant, sorted
    by id.
    """

    def __init__(self, since: int, most: int, rows: int) -> None:
        super().__init__()
        self._since = since
        self._most = most
        self._rows = rows

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Wires the steps."""
        return (
            batches
            | "Active" >> beam.Map(active, self._since)
            | "Draw" >> beam.CombineGlobally(Sample("_user", self._most))
            | "Cut" >> beam.FlatMap(cut, self._rows).with_output_types(Batch)
        )


class Sample(beam.CombineFn):
    """Draws the rows whose ids have the smallest hashes: the same ones however the rows were split.
    Sorted by id.
    """

    def __init__(self, key: str, most: int) -> None:
        super().__init__()
        self._key = key
        self._most = most

    def create_accumulator(self) -> list[pa.RecordBatch]:
        """Nothing drawn yet."""
        return []

    def add_input(self, drawn: list[pa.RecordBatch], rows: pa.RecordBatch) -> list[pa.RecordBatch]:
        """Takes a batch."""
        return self._smallest([*drawn, rows])

    def merge_accumulators(self, several: Iterable[list[pa.RecordBatch]]) -> list[pa.RecordBatch]:
        """Takes what others drew."""
        return self._smallest([batch for drawn in several for batch in drawn])

    def extract_output(self, drawn: list[pa.RecordBatch]) -> pa.RecordBatch | None:
        """The sample, or None if there were no rows."""
        if not drawn:
            return None
        rows = _joined(drawn)
        return compact(rows.sort_by(self._key))

    def _smallest(self, batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
        batches = [batch for batch in batches if batch.num_rows]
        if sum(batch.num_rows for batch in batches) <= self._most:
            return batches
        rows = _joined(batches)
        hashes = user_hashing.sampling_hashes(pl.Series(rows[self._key]), "sample")
        # The smallest hashes of parts hold those of the whole: samples of samples are the same.
        kept = np.sort(np.argpartition(hashes, self._most)[: self._most])
        return [compact(rows.take(kept))]


def active(batch: Batch, since: int) -> pa.RecordBatch:
    """The batch's users whose last event lies at or after `since`, microseconds since 1970."""
    last_time = batch.rows.column("_last_time").cast(pa.int64())
    return batch.rows.filter(pc.greater_equal(last_time, since))


def cut(rows: pa.RecordBatch | None, size: int) -> Iterator[Batch]:
    """Cuts the sample into batches."""
    if rows is not None:
        yield from batches_of(pa.Table.from_batches([rows]), 0, size)


def active_since(day: date, zone: ZoneInfo) -> int:
    """When the days begin that make a user active, in microseconds since 1970."""
    return start_of(day - timedelta(days=ACTIVE_DAYS - 1), zone)


def _joined(batches: list[pa.RecordBatch]) -> pa.Table:
    tables = [pa.Table.from_batches([batch]) for batch in batches]
    return pa.concat_tables(tables, promote_options="permissive")
