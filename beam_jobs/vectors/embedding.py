"""Steps of the embed job that work on rows: calling a tower, drawing a sample."""

import io
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.utils.shared import Shared

from beam_jobs import hashing
from model.bundle import VECTOR, Tower
from twinspire import storage
from twinspire.errors import BadData
from twinspire.quiet import unheard

_NAMED = 5


class Part(NamedTuple):
    """An input file and its place among the others."""

    number: int
    uri: str


class Batch(NamedTuple):
    """Thousands of rows, and the name of the file that their vectors go to."""

    name: str
    rows: pa.RecordBatch


class Embed(beam.DoFn):
    """Writes the vectors of each batch to a file of its own.

    A worker process loads the tower once, however many threads and bundles it has. A repeated bundle writes the same
    bytes under the same name.
    """

    def __init__(self, tower: str, out: str, key: str) -> None:
        super().__init__()
        self._uri, self._out, self._key = tower, out, key
        self._shared = Shared()
        self._tower: Tower | None = None

    def setup(self) -> None:
        """Gets hold of the process's tower."""
        self._tower = self._shared.acquire(lambda: load_tower(self._uri), tag=self._uri)

    def process(self, batch: Batch) -> None:
        """Embeds and writes."""
        assert self._tower is not None
        vectors = self._tower(pa.Table.from_batches([batch.rows]))
        table = with_vectors(batch.rows.column(self._key), self._key, vectors)
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="none", use_dictionary=False)
        storage.write_bytes(storage.join(self._out, f"{batch.name}.parquet"), sink.getvalue())


def load_tower(uri: str) -> Tower:
    """A tower from the disk or from `gs://`; TensorFlow itself reads local files only."""
    with unheard(), tempfile.TemporaryDirectory(prefix="twinspire-tower-") as scratch:
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
    broken = ids.filter(pa.array(~np.isfinite(vectors).all(1))).to_pylist()
    if broken:
        more = f" and {len(broken) - _NAMED:,} more" if len(broken) > _NAMED else ""
        raise BadData(
            f"A vector is finite; found NaN or infinity for {key.strip('_')} {', '.join(broken[:_NAMED])}{more}. The "
            "model diverged, probably: lower train.learning_rate and train again."
        )
    values = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
    return pa.table({key: ids, VECTOR: pa.FixedSizeListArray.from_arrays(values, vectors.shape[1])})


class Sample(beam.CombineFn):
    """Draws the rows whose ids have the smallest hashes: the same ones however the rows were split. Sorted by id."""

    def __init__(self, key: str, most: int) -> None:
        super().__init__()
        self._key, self._most = key, most

    def create_accumulator(self) -> list[pa.RecordBatch]:
        """Nothing drawn yet."""
        return []

    def add_input(self, drawn: list[pa.RecordBatch], rows: pa.RecordBatch) -> list[pa.RecordBatch]:
        """Takes a batch."""
        return self._smallest([*drawn, rows])

    def merge_accumulators(self, several: Any) -> list[pa.RecordBatch]:
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
        hashes = hashing.lots(pl.Series(rows[self._key]), "sample")
        kept = np.sort(np.argpartition(hashes, self._most)[: self._most])
        return [compact(rows.take(kept))]


def compact(table: pa.Table) -> pa.RecordBatch:
    """The rows in buffers of their own: a slice would take its whole parent along when it is sent."""
    copy = table.take(np.arange(table.num_rows)) if table.get_total_buffer_size() > table.nbytes else table
    return copy.combine_chunks().to_batches()[0] if copy.num_rows else pa.RecordBatch.from_pylist([], table.schema)


def _joined(batches: list[pa.RecordBatch]) -> pa.Table:
    return pa.concat_tables([pa.Table.from_batches([batch]) for batch in batches], promote_options="permissive")
