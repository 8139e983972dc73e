"""The embed stage: computes the vectors of the day's corpus and of a sample of its users with
Beam.

    items/part-*.parquet     `_item`, `vector` [D]: the corpus as of the end of the day, by the item
                             tower
    queries/part-*.parquet   `_user`, `vector` [D]: users as they would be served the day after, by
                             the query tower
    tensorflow_serving/      unless `serving.tensorflow` is off: both as one SavedModel, made here
                             where TensorFlow is loaded
"""

import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import apache_beam as beam
import pyarrow.compute as pc

from beam_jobs.beam import batches, engine, worker_view
from beam_jobs.day_plan import start_of
from beam_jobs.embedding.tower_calls import Embed, read_batches, sample_users, spread_batches
from twinspire_core import storage
from twinspire_core.contracts import attempts, feature_schema, model_bundle
from twinspire_core.contracts.model_bundle import ITEMS, QUERIES, VECTOR, Tower, read_items
from twinspire_core.errors import BadData, listed
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

    # Held before the job: if it runs in this process, it uses the same tower.
    served = to_queries.tower() if p.serving.tensorflow else None
    engine.run_job(p.beam.options, build, ctx.out)
    written = worker_view.take(ctx.out)
    if served:
        _write_served(ctx.out, served)
    return _summary(ctx.out, written)


def _check_corpus(place: str) -> int:
    """The number of items in the corpus, each of which must be in it once."""
    # All ids at once: the index stage will hold them too, with their vectors.
    counts = pc.value_counts(read_folder(place, ["_item"])["_item"])
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
