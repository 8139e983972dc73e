"""The embed stage: computes the vectors of the day's corpus and of a sample of its users with
Beam.

    items/part-*.parquet     `_item`, `vector` [D]: the corpus as of the end of the day, by the item
                             tower
    queries/part-*.parquet   `_user`, `vector` [D]: users as they would be served the day after, by
                             the query tower
    tensorflow_serving/      with `serving.tensorflow`: both as one SavedModel, made in this stage
                             because it loads TensorFlow anyway
"""

import io
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
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
from beam_jobs.beam import batches, engine, worker_view
from beam_jobs.beam.engine import fails_fast
from beam_jobs.day_plan import start_of
from twinspire_core import storage
from twinspire_core.contracts import attempts, feature_schema, model_bundle
from twinspire_core.contracts.model_bundle import ITEMS, QUERIES, VECTOR, Tower, read_items
from twinspire_core.errors import BadData, listed
from twinspire_core.native_code import block_tensorflow_extras, suppress_native_stderr
from twinspire_core.storage.parquet_files import list_parquet, open_parquet, read_folder
from twinspire_core.terminal import console

MOST_QUERIES = 20_000
# Sampled users must have an event in the last days: this many, with the day itself.
_ACTIVE_DAYS = 7


def run(ctx: attempts.StageContext) -> dict[str, int]:
    """Embeds the day's corpus, and up to `MOST_QUERIES` users.

    Args:
      ctx: the stage's; it reads the output of `features` and `train`.

    Returns: rows by folder, and the dimension of a vector.

    Raises:
      BadData: the corpus is empty, has an item twice, or gives a vector that is not finite.
    """
    p = ctx.pipeline
    features = ctx.inputs["features"]
    place = storage.join(features, feature_schema.CORPUS_END)
    items = _check_corpus(place)
    corpus = list_parquet(place)
    users = list_parquet(storage.join(features, feature_schema.USERS))
    console.print(
        f"embed: {items:,} items, and up to {MOST_QUERIES:,} users of the last {_ACTIVE_DAYS} days …"
    )
    item_tower, query_tower = (
        storage.join(ctx.inputs["train"], name)
        for name in (model_bundle.ITEM_TOWER, model_bundle.QUERY_TOWER)
    )
    to_items = Embed(item_tower, ctx.out, ITEMS, "_item")
    to_queries = Embed(query_tower, ctx.out, QUERIES, "_user")

    def build(job: beam.Pipeline) -> None:
        item_columns = [column.name for column in feature_schema.item_columns(p)]
        rows = read_batches(job, "corpus", corpus, ["_item", *item_columns], batches.BATCH_ROWS)
        of_items = spread_batches(rows) | "Embed items" >> beam.ParDo(to_items)
        query_columns = [column.name for column in feature_schema.query_columns(p)]
        user_columns = ["_user", "_last_time", *query_columns]
        rows = read_batches(job, "users", users, user_columns, batches.BATCH_ROWS)
        since = start_of(ctx.day - timedelta(days=_ACTIVE_DAYS - 1), p.zone)
        sample = sample_users(rows, since, MOST_QUERIES, batches.BATCH_ROWS)
        of_queries = sample | "Embed queries" >> beam.ParDo(to_queries)
        worker_view.write_rows((of_items, of_queries) | beam.Flatten(), ctx.out)

    # Loaded before the job: a job in this process uses the same tower.
    served = to_queries.tower() if p.serving.tensorflow else None
    engine.run_job(p.beam.options, build, ctx.out)
    written = worker_view.take(ctx.out)
    if served:
        _write_served(ctx.out, served)
    return _summary(ctx.out, written)


def _check_corpus(corpus: str) -> int:
    """Checks that each item is in the corpus once. Returns the number of items."""
    # All ids at once fit in memory, because the index stage also needs them, with their vectors.
    counts = pc.value_counts(read_folder(corpus, ["_item"])["_item"])
    if not len(counts):
        raise BadData(
            "The corpus is empty, so there is nothing to embed. Check corpus.filter, corpus.days"
            " and the items snapshot."
        )
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if repeated:
        raise BadData(
            f"An item can be in the corpus only once; found more than once: {listed(repeated)}."
            " The items snapshot probably has duplicate rows. Remove the duplicates and run the"
            " features stage again."
        )
    return len(counts)


def _write_served(out: str, tower: Tower) -> None:
    """Writes the model that the version will hold for TensorFlow Serving."""
    ids, vectors = read_items(out)
    with tempfile.TemporaryDirectory(prefix="twinspire-served-") as scratch:
        model_bundle.write_for_tensorflow_serving(Path(scratch, "made"), tower.model, ids, vectors)
        storage.upload_tree(
            Path(scratch, "made"), storage.join(out, model_bundle.TENSORFLOW_SERVING)
        )


def _summary(out: str, written: Mapping[str, int]) -> dict[str, int]:
    counts = {name: written.get(name, 0) for name in (ITEMS, QUERIES)}
    with open_parquet(list_parquet(storage.join(out, ITEMS))[0]) as file:
        dimension = file.schema_arrow.field(VECTOR).type.list_size
    console.print(
        f"embed: {counts[ITEMS]:,} items and {counts[QUERIES]:,} users, {dimension} numbers each"
    )
    return {**counts, "dimension": dimension}


class Batch(NamedTuple):
    """Thousands of rows, and the name of the file that their vectors go to."""

    name: str
    rows: pa.RecordBatch


def read_batches(
    begin: PBegin, name: str, uris: Sequence[str], columns: Sequence[str], rows: int
) -> PCollection:
    """Parquet files, distributed over the workers -> batches of their rows, in the order of each file.

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
    """Distributes the batches over the workers. A file of the corpus has batches for many workers. Without
    this step, the worker that reads the file would embed them all.
    """
    # Not a second Reshuffle after that of the files, because Flink would skip it. Each batch has a unique
    # name to group by.
    named = beam.Map(lambda batch: (batch.name, batch)).with_output_types(tuple[str, Batch])
    return (
        batches
        | "By name" >> named
        | beam.GroupByKey()
        | beam.FlatMapTuple(lambda _, grouped: grouped).with_output_types(Batch)
    )


def compact(table: pa.Table) -> pa.RecordBatch:
    """Copies the rows into new buffers, because a slice is sent with the whole buffers of its parent."""
    if not table.num_rows:
        return pa.RecordBatch.from_pylist([], table.schema)
    # A slice refers to the buffers of its parent, which are larger than the slice.
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

        As long as one thread holds it, no other thread of the process has to load it.
        """
        tower: Tower = self._shared.acquire(lambda: load_tower(self._uri), tag=self._uri)
        return tower

    def setup(self) -> None:
        """Loads the process's tower, or shares it."""
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
    # Vectors cannot be compressed, and their dictionary would be as large as the column.
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
        # Imported here, because a process that only builds the job needs no TensorFlow.
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
    """Draws the users whose ids have the smallest hashes, sorted by id. The result does not depend on how the
    rows were split.
    """

    def __init__(self, most: int) -> None:
        self._most = most

    def create_accumulator(self) -> list[pa.RecordBatch]:
        """An empty sample."""
        return []

    def add_input(self, drawn: list[pa.RecordBatch], rows: pa.RecordBatch) -> list[pa.RecordBatch]:
        """Takes a batch."""
        return self._smallest([*drawn, rows])

    def merge_accumulators(self, several: Iterable[list[pa.RecordBatch]]) -> list[pa.RecordBatch]:
        """Merges samples."""
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
        # The smallest hashes of the parts include those of the whole, so a sample of samples equals a sample
        # of all.
        smallest = np.sort(np.argpartition(hashes, self._most)[: self._most])
        return [compact(rows.take(smallest))]


def _joined(batches: list[pa.RecordBatch]) -> pa.Table:
    return pa.concat_tables(
        [pa.Table.from_batches([batch]) for batch in batches], promote_options="permissive"
    )
