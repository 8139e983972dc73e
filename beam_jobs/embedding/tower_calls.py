"""A tower called on rows: Parquet files -> Arrow batches -> one file of vectors for each batch.

The rows are the corpus, and a sample of the users. File names give the place of the rows in the input,
so their order does not depend on which worker embeds which batch, or when.
"""

import io
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.utils.shared import Shared

from beam_jobs import hashing
from beam_jobs.beam.engine import fails_fast
from twinspire_core import storage
from twinspire_core.contracts.model_bundle import VECTOR, Tower
from twinspire_core.errors import BadData, listed
from twinspire_core.native_code import block_tensorflow_extras, suppress_native_stderr
from twinspire_core.storage.parquet_files import open_parquet


class Batch(NamedTuple):
    """Thousands of rows, and the name of the file that their vectors go to."""

    name: str
    rows: pa.RecordBatch


def read_batches(
    begin: PBegin, name: str, uris: Sequence[str], columns: Sequence[str], rows: int
) -> PCollection:
    """Parquet files, spread over the workers -> batches of their rows, in the order of each file.

    Args:
      name: of these rows, for the names of the steps.
      columns: to read; a file may lack some.
      rows: largest number of rows in a batch.
    """
    read = beam.FlatMap(_batches_of_file, list(columns), rows)
    return (
        begin
        | f"{name} files" >> beam.Create(list(enumerate(uris)), reshuffle=False)
        | f"Spread {name} files" >> beam.Reshuffle()
        | f"Read {name}" >> read.with_output_types(Batch)
    )


def _batches_of_file(file: tuple[int, str], columns: list[str], rows: int) -> Iterator[Batch]:
    number, uri = file
    with open_parquet(uri) as content:
        present = [name for name in columns if name in content.schema_arrow.names]
        for part, batch in enumerate(content.iter_batches(rows, columns=present)):
            yield Batch(f"part-{number:05d}-{part:05d}", compact(pa.Table.from_batches([batch])))


def spread_batches(batches: PCollection) -> PCollection:
    """The batches, spread over the workers. One file of the corpus holds batches for many workers,
    and without this step the worker that reads the file would embed them all.
    """
    # Not a second Reshuffle after that of the files: Flink takes it for done, and leaves it out.
    # Each batch has a name of its own to group by.
    named = beam.Map(lambda batch: (batch.name, batch)).with_output_types(tuple[str, Batch])
    return (
        batches
        | "By name" >> named
        | beam.GroupByKey()
        | beam.FlatMapTuple(lambda _, grouped: grouped).with_output_types(Batch)
    )


def compact(table: pa.Table) -> pa.RecordBatch:
    """The rows in buffers of their own: when a slice is sent, its whole parent goes with it."""
    if not table.num_rows:
        return pa.RecordBatch.from_pylist([], table.schema)
    # A slice holds the buffers of its parent, which are larger than its own rows.
    if table.get_total_buffer_size() > table.nbytes:
        table = table.take(np.arange(table.num_rows))
    return table.combine_chunks().to_batches()[0]


class Embed(beam.DoFn):
    """Writes the vectors of each batch to a file of its own; yields (folder, rows) of each.

    A worker process loads the tower once, however many threads and bundles it has. A repeated
    bundle writes the same bytes under the same name.
    """

    def __init__(self, tower: str, out: str, folder: str, key: str) -> None:
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
        """Embeds and writes.

        Raises:
          BadData: a vector is not finite.
        """
        assert self._tower is not None
        vectors = self._tower(pa.Table.from_batches([batch.rows]))
        table = self._with_ids(batch.rows.column(self._key), vectors)
        write_plain(storage.join(self.out, self._folder, f"{batch.name}.parquet"), table)
        yield self._folder, len(table)

    def _with_ids(self, ids: pa.Array, vectors: np.ndarray) -> pa.Table:
        broken = ids.filter(pa.array(~np.isfinite(vectors).all(1))).to_pylist()
        if broken:
            raise BadData(
                f"Vectors must be finite; found NaN or infinity for {self._key.strip('_')}"
                f" {listed(broken)}. Training has probably diverged. Lower"
                " train.learning_rate and train again."
            )
        values = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
        lists = pa.FixedSizeListArray.from_arrays(values, vectors.shape[1])
        return pa.table({self._key: ids, VECTOR: lists})


def write_plain(uri: str, table: pa.Table) -> None:
    """Writes a Parquet file of columns that hardly compress."""
    # Vectors are noise to a compressor, and a dictionary of them would be the column over again.
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="none", use_dictionary=False)
    storage.write_bytes(uri, sink.getvalue())


def load_tower(uri: str) -> Tower:
    """A tower from the disk or an object store; TensorFlow itself reads local files only."""
    with (
        suppress_native_stderr(),
        block_tensorflow_extras(),
        tempfile.TemporaryDirectory(prefix="twinspire-tower-") as scratch,
    ):
        # Late: a process that only builds the job does without TensorFlow.
        import tensorflow as tf

        return Tower(tf.saved_model.load(str(storage.localize(uri, Path(scratch)))))


def sample_users(users: PCollection, since: int, most: int, rows: int) -> PCollection:
    """Batches of users -> batches of a sample of them, sorted by id.

    Args:
      users: with `_user` and `_last_time`.
      since: instant in microseconds since 1970; only users with an event at or after it are drawn.
      most: largest size of the sample.
      rows: largest number of rows in a batch.
    """
    return (
        users
        | "Active" >> beam.Map(_active, since)
        | "Draw" >> beam.CombineGlobally(Sample(most))
        | "Cut" >> beam.FlatMap(_cut, rows).with_output_types(Batch)
    )


def _active(batch: Batch, since: int) -> pa.RecordBatch:
    last_time = batch.rows.column("_last_time").cast(pa.int64())
    return batch.rows.filter(pc.greater_equal(last_time, since))


def _cut(rows: pa.RecordBatch | None, size: int) -> Iterator[Batch]:
    """Batches of the sample, None without users; each has at most `size` rows."""
    if rows is not None:
        for number, start in enumerate(range(0, rows.num_rows, size)):
            part = pa.Table.from_batches([rows.slice(start, size)])
            yield Batch(f"part-00000-{number:05d}", compact(part))


class Sample(beam.CombineFn):
    """Draws the users whose ids have the smallest hashes: the same ones however the rows were split.
    Sorted by id.
    """

    def __init__(self, most: int) -> None:
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

    def extract_output(self, drawn: list[pa.RecordBatch]) -> Any:
        """The sample, a record batch; None if there were no rows."""
        return compact(_joined(drawn).sort_by("_user")) if drawn else None

    def _smallest(self, batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
        batches = [batch for batch in batches if batch.num_rows]
        if sum(batch.num_rows for batch in batches) <= self._most:
            return batches
        rows = _joined(batches)
        hashes = hashing.sampling_hashes(pl.Series(rows["_user"]), "sample")
        # The smallest hashes of the parts include those of the whole, so a sample of samples is the
        # same as a sample of all.
        kept = np.sort(np.argpartition(hashes, self._most)[: self._most])
        return [compact(rows.take(kept))]


def _joined(batches: list[pa.RecordBatch]) -> pa.Table:
    return pa.concat_tables(
        [pa.Table.from_batches([batch]) for batch in batches], promote_options="permissive"
    )
