"""The embed stage: computes the vectors of the day's corpus and of a sample of its users with
Beam.

    items/part-*.parquet     `_item`, `vector` [D]: the corpus as of the end of the day, by the item
                             tower
    queries/part-*.parquet   `_user`, `vector` [D]: users as they would be served the day after, by
                             the query tower
    tensorflow_serving/      unless `serving.tensorflow` is off: both as one SavedModel, made here
                             where TensorFlow is loaded

In a refresh, only new and changed items are embedded. The others keep exactly their vectors
(`items/reused-*.parquet`).
"""

import tempfile
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import apache_beam as beam

from beam_jobs.beam import batches, engine, worker_view
from beam_jobs.day_plan import start_of
from beam_jobs.embedding.reused_vectors import (
    CompareRange,
    EachOnce,
    KnownVectors,
    id_files,
    id_ranges,
    reuse_vectors,
    take_changes,
)
from beam_jobs.embedding.tower_calls import Embed, read_batches, sample_users, spread_batches
from twinspire_core import storage
from twinspire_core.contracts import attempts, feature_schema, model_bundle
from twinspire_core.contracts.model_bundle import ITEMS, QUERIES, VECTOR, Tower, read_items
from twinspire_core.errors import BadData
from twinspire_core.storage.parquet_files import count_rows, list_parquet, open_parquet
from twinspire_core.terminal import console

MOST_QUERIES = 20_000
# Sampled users must have an event in the last days: this many, with the day itself.
_ACTIVE_DAYS = 7


def run(ctx: attempts.StageContext, known: KnownVectors | None = None) -> dict[str, int]:
    """Embeds the day's corpus, and up to `MOST_QUERIES` users.

    Args:
      ctx: the stage's; it reads the output of `features` and `train`.
      known: an earlier corpus by the same towers, of which unchanged items keep their vectors.

    Returns: rows by folder, the dimension of a vector and, with `known`, what `take_changes` says.

    Raises:
      BadData: the corpus is empty, has an item twice, or gives a vector that is not finite.
    """
    p = ctx.pipeline
    features = ctx.inputs["features"]
    corpus = list_parquet(storage.join(features, feature_schema.CORPUS_END))
    users = list_parquet(storage.join(features, feature_schema.USERS))
    items = _count_corpus(corpus)
    files = id_files(corpus)
    item_columns = [column.name for column in feature_schema.item_columns(p)]
    which = "new and changed ones of " if known else ""
    console.print(
        f"embed: {which}{items:,} items, and up to {MOST_QUERIES:,} users of the last"
        f" {_ACTIVE_DAYS} days …"
    )
    item_tower, query_tower = (
        storage.join(ctx.inputs["train"], name)
        for name in (model_bundle.ITEM_TOWER, model_bundle.QUERY_TOWER)
    )
    to_items = Embed(item_tower, ctx.out, ITEMS, "_item")
    to_queries = Embed(query_tower, ctx.out, QUERIES, "_user")

    def build(job: beam.Pipeline) -> None:
        # Reshuffled: else the worker that lists the ranges would also read them all.
        ranges = job | "Ranges" >> beam.Create(id_ranges(files)) | beam.Reshuffle()
        _ = ranges | "Each once" >> beam.ParDo(EachOnce(ctx.out, files))
        if known:
            compare = CompareRange(files, known, item_columns, batches.BATCH_ROWS, ctx.out)
            rows = reuse_vectors(ranges, compare, ctx.out)
        else:
            rows = read_batches(job, "corpus", corpus, ["_item", *item_columns], batches.BATCH_ROWS)
        of_items = spread_batches(rows) | "Embed items" >> beam.ParDo(to_items)
        query_columns = [column.name for column in feature_schema.query_columns(p)]
        user_columns = ["_user", "_last_time", *query_columns]
        rows = read_batches(job, "users", users, user_columns, batches.BATCH_ROWS)
        since = start_of(ctx.day - timedelta(days=_ACTIVE_DAYS - 1), p.zone)
        sample = sample_users(rows, since, MOST_QUERIES, batches.BATCH_ROWS)
        of_queries = sample | "Embed queries" >> beam.ParDo(to_queries)
        _ = (of_items, of_queries) | beam.Flatten() | "Rows" >> worker_view.WriteRows(ctx.out)

    # Held before the job: if it runs in this process, it uses the same tower.
    served = to_queries.tower() if p.serving.tensorflow else None
    engine.run_job(p.beam.options, build, ctx.out)
    written = worker_view.take(ctx.out)
    # Reused vectors are written by another step, so the rows to expect are those of the corpus.
    written[ITEMS] = items
    worker_view.check_written(ctx.out, written)
    if served:
        _write_served(ctx.out, served)
    return _summary(ctx.out, written) | (take_changes(ctx.out) if known else {})


def _count_corpus(uris: Sequence[str]) -> int:
    rows = sum(map(count_rows, uris))
    if not rows:
        raise BadData(
            "The corpus is empty, so there is nothing to embed. Check corpus.filter, corpus.days"
            " and the items snapshot."
        )
    return rows


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
