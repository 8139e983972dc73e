"""The embed stage: vectors of the day's corpus and of a sample of its users, by Beam.

    items/part-*.parquet     `_item`, `vector` [D]: the corpus as of the end of the day, by the item tower
    queries/part-*.parquet   `_user`, `vector` [D]: users as they would be served the day after, by the query tower

Elements are Arrow record batches of `beam.batch_rows` rows. File names say the place of the rows in the input, so the
order does not depend on who works when.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems
from rich.console import Console

from beam_jobs import engine, schema
from beam_jobs.days import start_of
from beam_jobs.vectors.embedding import Batch, Embed, Part, Sample, compact
from model import bundle
from twinspire import storage
from twinspire.errors import BadData
from twinspire.stages import StageContext

ITEMS, QUERIES = "items", "queries"
ACTIVE_DAYS = 7  # days, the day itself included, in which a sampled user was last seen
MOST_QUERIES = 20_000
_NAMED = 5

console = Console(stderr=True)


def run(ctx: StageContext) -> dict:
    """Embeds the day's corpus and up to `MOST_QUERIES` users."""
    features, train, p = ctx.inputs["features"], ctx.inputs["train"], ctx.pipeline
    corpus, users = (_parts(storage.join(features, name)) for name in (schema.CORPUS_END, schema.USERS))
    items = _check_corpus(corpus)
    console.print(f"embed: {items:,} items, and up to {MOST_QUERIES:,} users of the last {ACTIVE_DAYS} days …")

    def build(job: beam.Pipeline) -> None:
        columns = ["_item", *(column.name for column in schema.item_columns(p))]
        batches = job | "Corpus" >> ReadBatches(corpus, columns, p.beam.batch_rows)
        to_items = beam.ParDo(Embed(storage.join(train, bundle.ITEM_TOWER), storage.join(ctx.out, ITEMS), "_item"))
        batches | "EmbedItems" >> to_items
        columns = ["_user", "_last_time", *(column.name for column in schema.query_columns(p))]
        seen = job | "Users" >> ReadBatches(users, columns, p.beam.batch_rows)
        sample = seen | "Sample" >> SampleUsers(active_since(ctx.day, p.zone), p.beam.batch_rows)
        to_queries = beam.ParDo(Embed(storage.join(train, bundle.QUERY_TOWER), storage.join(ctx.out, QUERIES), "_user"))
        sample | "EmbedQueries" >> to_queries

    engine.run(p.beam.options, build)
    return _summary(ctx.out, items)


class ReadBatches(beam.PTransform):
    """Parquet files -> batches of at most `rows` rows, spread over the workers."""

    def __init__(self, parts: list[Part], columns: list[str], rows: int) -> None:
        super().__init__()
        self._parts, self._columns, self._rows = parts, columns, rows

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        """Wires the steps."""
        return (
            begin
            | "Files" >> beam.Create(self._parts)
            | "SpreadFiles" >> beam.Reshuffle()
            | "Read" >> beam.FlatMap(read_batches, self._columns, self._rows).with_output_types(Batch)
            | "SpreadBatches" >> beam.Reshuffle()
        )


class SampleUsers(beam.PTransform):
    """Batches of users -> batches of the sample of those last seen at or after an instant, sorted by id."""

    def __init__(self, since: int, rows: int) -> None:
        super().__init__()
        self._since, self._rows = since, rows

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        """Wires the steps."""
        return (
            batches
            | "Active" >> beam.Map(active, self._since)
            | "Draw" >> beam.CombineGlobally(Sample("_user", MOST_QUERIES))
            | "Cut" >> beam.FlatMap(cut, self._rows).with_output_types(Batch)
            | "SpreadSample" >> beam.Reshuffle()
        )


def read_batches(part: Part, columns: list[str], rows: int) -> Iterator[Batch]:
    """The file's rows in order; columns that it lacks are left out."""
    with FileSystems.open(part.uri) as source, pq.ParquetFile(source) as file:
        known = [name for name in columns if name in file.schema_arrow.names]
        tables = (pa.Table.from_batches([batch]) for batch in file.iter_batches(rows, columns=known))
        for number, table in enumerate(tables):
            yield Batch(f"part-{part.number:05d}-{number:05d}", compact(table))


def active(batch: Batch, since: int) -> pa.RecordBatch:
    """The batch's users whose last event lies at or after `since`, microseconds since 1970."""
    return batch.rows.filter(pc.greater_equal(batch.rows.column("_last_time").cast(pa.int64()), since))


def cut(rows: pa.RecordBatch | None, size: int) -> Iterator[Batch]:
    """Cuts the sample into batches."""
    if rows is None:
        return
    for number, start in enumerate(range(0, rows.num_rows, size)):
        yield Batch(f"part-00000-{number:05d}", compact(pa.Table.from_batches([rows.slice(start, size)])))


def active_since(day: date, zone: ZoneInfo) -> int:
    """When the days begin that make a user active, in microseconds since 1970."""
    return start_of(day - timedelta(days=ACTIVE_DAYS - 1), zone)


def _parts(folder: str) -> list[Part]:
    files = [file for file in storage.list_files(folder) if file.path.endswith(".parquet")]
    return [Part(number, file.uri) for number, file in enumerate(files)]


def _check_corpus(parts: list[Part]) -> int:
    """Counts the corpus.

    Raises:
      BadData: it is empty, or an item is in it twice.
    """
    ids = pa.chunked_array([_column(part.uri, "_item") for part in parts], pa.string())
    if not len(ids):
        raise BadData(
            "There are items to embed every day, and the corpus is empty. Look at corpus.filter, corpus.days and the "
            "items snapshot."
        )
    counts = pc.value_counts(ids)
    doubles = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if doubles:
        more = f" and {len(doubles) - _NAMED:,} more" if len(doubles) > _NAMED else ""
        raise BadData(
            f"An item is in the corpus once; found more than once: {', '.join(doubles[:_NAMED])}{more}. The items "
            "snapshot probably repeats rows: remove the duplicates and run the features stage again."
        )
    return len(ids)


def _column(uri: str, name: str) -> pa.Array:
    with FileSystems.open(uri) as source, pq.ParquetFile(source) as file:
        return file.read([name])[name].combine_chunks()


def _summary(out: str, items: int) -> dict:
    counts, dimension = {}, 0
    for name in (ITEMS, QUERIES):
        counts[name] = 0
        for part in _parts(storage.join(out, name)):
            with FileSystems.open(part.uri) as source, pq.ParquetFile(source) as file:
                counts[name] += file.metadata.num_rows
                dimension = file.schema_arrow.field("vector").type.list_size
    if counts[ITEMS] != items:
        raise RuntimeError(f"{items} items went into the job and {counts[ITEMS]} came out")
    console.print(f"embed: {counts[ITEMS]:,} items and {counts[QUERIES]:,} users, {dimension} numbers each")
    return {**counts, "dimension": dimension}
