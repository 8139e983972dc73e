"""The embed stage: vectors of the day's corpus and of a sample of its users, by Beam.

    items/part-*.parquet     `_item`, `vector` [D]: the corpus as of the end of the day, by the item
                             tower
    queries/part-*.parquet   `_user`, `vector` [D]: users as they would be served the day after, by
                             the query tower
    tensorflow_serving/      unless `serving.tensorflow` is off: both as one SavedModel, made here
                             where TensorFlow is loaded

Of a corpus that is refreshed, only the rows that are new or changed are embedded; the others keep
their vectors, bit for bit (`items/reused-*.parquet`).

Elements are Arrow record batches of `batches.BATCH_ROWS` rows. File names say the place of the rows in
the input, so the order does not depend on who works when.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import apache_beam as beam

from beam_jobs.beam import batches, engine, written_rows
from beam_jobs.beam.written_rows import WriteRows
from beam_jobs.embedding import tensorflow_serving
from beam_jobs.embedding.id_ranges import EachOnce, id_files, id_ranges
from beam_jobs.embedding.reused_vectors import (
    CompareRange,
    KeepKnown,
    KnownVectors,
    take_changes,
)
from beam_jobs.embedding.tower_calls import (
    ACTIVE_DAYS,
    Embed,
    FilePart,
    ReadBatches,
    SampleUsers,
    SpreadBatches,
    active_since,
    file_parts,
)
from twinspire_core import storage
from twinspire_core.contracts import feature_schema, model_bundle
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.embedded_vectors import ITEMS, QUERIES, read_items
from twinspire_core.contracts.model_bundle import VECTOR, Tower
from twinspire_core.errors import BadData
from twinspire_core.storage.parquet_files import count_rows, list_parquet, open_parquet
from twinspire_core.terminal import console

MOST_QUERIES = 20_000


def run(ctx: StageContext, known: KnownVectors | None = None) -> dict[str, int]:
    """Embeds the day's corpus, but for what is known of it, and up to `MOST_QUERIES` users."""
    p = ctx.pipeline
    features = ctx.inputs["features"]
    train = ctx.inputs["train"]
    corpus = file_parts(storage.join(features, feature_schema.CORPUS_END))
    users = file_parts(storage.join(features, feature_schema.USERS))
    items = _count_corpus(corpus)
    files = id_files(part.uri for part in corpus)
    item_columns = [column.name for column in feature_schema.item_columns(p)]
    which = "new and changed ones of " if known else ""
    console.print(
        f"embed: {which}{items:,} items, and up to {MOST_QUERIES:,} users of the last"
        f" {ACTIVE_DAYS} days …"
    )

    def build(job: beam.Pipeline) -> None:
        ranges = job | "Ranges" >> beam.Create(id_ranges(files)) | beam.Reshuffle()
        _ = ranges | "Each once" >> beam.ParDo(EachOnce(ctx.out, files))
        if known:
            compare = CompareRange(files, known, item_columns, batches.BATCH_ROWS, ctx.out)
            corpus_rows = ranges | "Known" >> KeepKnown(compare, ctx.out)
        else:
            columns = ["_item", *item_columns]
            corpus_rows = job | "Corpus" >> ReadBatches(corpus, columns, batches.BATCH_ROWS)
        of_items = corpus_rows | SpreadBatches() | "EmbedItems" >> beam.ParDo(to_items)
        query_columns = [column.name for column in feature_schema.query_columns(p)]
        user_columns = ["_user", "_last_time", *query_columns]
        seen = job | "Users" >> ReadBatches(users, user_columns, batches.BATCH_ROWS)
        since = active_since(ctx.day, p.zone)
        sample = seen | "Sample" >> SampleUsers(since, MOST_QUERIES, batches.BATCH_ROWS)
        of_queries = sample | "EmbedQueries" >> beam.ParDo(to_queries)
        _ = (of_items, of_queries) | beam.Flatten() | "Rows" >> WriteRows(ctx.out)

    item_tower = storage.join(train, model_bundle.ITEM_TOWER)
    query_tower = storage.join(train, model_bundle.QUERY_TOWER)
    to_items = Embed(item_tower, ctx.out, ITEMS, "_item")
    to_queries = Embed(query_tower, ctx.out, QUERIES, "_user")
    # Held before the job: if it runs in this process, it uses the same tower.
    served = to_queries.tower() if p.serving.tensorflow else None
    engine.run_job(p.beam.options, build, ctx.out)
    written = written_rows.take(ctx.out)
    written[ITEMS] = items  # those whose vectors are reused included
    written_rows.check(ctx.out, written)
    if served:
        _write_served(ctx.out, served)
    return _summary(ctx.out, written) | (take_changes(ctx.out) if known else {})


def _write_served(out: str, tower: Tower) -> None:
    """Writes the model that the version will hold for TensorFlow Serving."""
    ids, vectors = read_items(out)
    with tempfile.TemporaryDirectory(prefix="twinspire-served-") as scratch:
        tensorflow_serving.write(Path(scratch, "made"), tower.model, ids, vectors)
        storage.upload_tree(Path(scratch, "made"), storage.join(out, tensorflow_serving.FOLDER))


def _count_corpus(parts: list[FilePart]) -> int:
    """Counts the corpus, by the footers of its files.

    Raises:
      BadData: it is empty.
    """
    rows = sum(count_rows(part.uri) for part in parts)
    if not rows:
        raise BadData(
            "There are items to embed every day, and the corpus is empty. Look at corpus.filter,"
            " corpus.days and the items snapshot."
        )
    return rows


def _summary(out: str, written: Mapping[str, int]) -> dict[str, int]:
    counts = {name: written.get(name, 0) for name in (ITEMS, QUERIES)}
    with open_parquet(list_parquet(storage.join(out, ITEMS))[0]) as file:
        dimension = file.schema_arrow.field(VECTOR).type.list_size
    console.print(
        f"embed: {counts[ITEMS]:,} items and {counts[QUERIES]:,} users, {dimension} numbers each"
    )
    return {**counts, "dimension": dimension}
