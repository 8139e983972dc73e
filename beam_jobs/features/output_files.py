"""What becomes of the frames that shards made, once it is known what all shards know together: the
output files.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Any

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput

from beam_jobs import day_plan
from beam_jobs.beam import batches
from beam_jobs.beam.batches import CodedLists
from beam_jobs.beam.failures import fails_fast
from beam_jobs.features.counters import Count, Counted, count
from beam_jobs.features.read_steps import COUNTS, REJECTED
from beam_jobs.features.shard_steps import EXAMPLES
from beam_jobs.ingest.day_files import Table
from beam_jobs.ingest.records import ORDER
from beam_jobs.point_in_time import item_counts, item_features
from beam_jobs.point_in_time.job import FeatureJob
from beam_jobs.point_in_time.user_shard import SAMPLING_HASH
from twinspire_core import storage
from twinspire_core.config.feature_kinds import HistoryFeature
from twinspire_core.contracts import feature_schema

_ANALYSED_ROWS = 1 << 18


class Finish(beam.DoFn):
    """Frames that a shard made -> files, with what all shards know together; yields counts.

    Side inputs are the count table and, by number of the day, the last sampling hash that is held
    out.
    """

    def __init__(self, job: FeatureJob) -> None:
        self.out = job.out
        self._job = job
        self._p = job.p

    def _write(self, name: str, rows: Iterable[pa.RecordBatch]) -> None:
        # A bundle that is tried again writes the same bytes under the same name.
        storage.write_bytes(storage.join(self.out, name), batches.parquet(list(rows)))


class FinishExamples(Finish):
    """(file, batches of its rows) -> the file, sorted by time, user, item; `COUNTS`, `EXAMPLES` of
    the day's own.
    """

    @fails_fast
    def process(
        self,
        element: tuple[str, Iterable[pa.RecordBatch]],
        table: pa.RecordBatch,
        held_out: Mapping[int, int],
    ) -> Iterator[Any]:
        """Writes a file."""
        name, parts = element
        day = date.fromisoformat(name.split("/")[1].removeprefix("dt="))
        rows, histories = self._sorted(list(map(batches.restore, parts)))
        rows = rows.with_columns(_is_held_out(held_out, day).alias("_holdout"))
        known = item_features.known_at(self._job, day, _frame(table))
        rows = item_counts.add(self._p, rows, known)
        snapshot_day = self._job.inputs.items_of.get(day)
        rows = item_features.with_item_features(self._job, rows, snapshot_day, day)
        plain = batches.to_batches(rows, feature_schema.example_schema(self._p))
        finished = list(batches.with_lists(plain, histories))
        self._write(name, finished)
        held_out_rows = int(rows["_holdout"].sum())
        yield TaggedOutput(COUNTS, count(Counted.EXAMPLES, "events", day, len(rows)))
        yield TaggedOutput(COUNTS, count(Counted.HELD_OUT_EXAMPLES, "events", day, held_out_rows))
        if day == self._job.plan.day:
            for batch in finished:
                yield TaggedOutput(EXAMPLES, batch)

    def _sorted(self, parts: list[pa.RecordBatch]) -> tuple[pl.DataFrame, dict[str, CodedLists]]:
        """Rows of all parts, and their histories by column."""
        names = list(self._p.of_kind(HistoryFeature))
        rows = batches.to_frame(part.drop_columns(names) for part in parts)
        # Batches come in any order; this one is the same on every run.
        order = rows.select(pl.arg_sort_by("_time", "_user", "_item", ORDER)).to_series()
        histories = {name: CodedLists.of(part[name] for part in parts) for name in names}
        in_order = {name: lists.take(order.to_numpy()) for name, lists in histories.items()}
        return rows[order], in_order


class AnalyseItems(Finish):
    """Any element -> batches of the item tower's `analysis_schema`."""

    @fails_fast
    def process(self, _: None, table: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Makes a row for each event of the vocabulary days."""
        if not self._job.plan.analysis:
            return
        # All events of an item on a day have the same features, which are looked up once.
        rows = item_features.taken_on(self._job, _frame(table))
        # One snapshot for all vocabulary days: older ones need not be there in incremental mode.
        snapshot_day = self._job.inputs.items_of.get(self._job.plan.day)
        rows = item_features.with_item_features(self._job, rows, snapshot_day, pl.col("_day"))
        schema = feature_schema.analysis_schema(self._p, "item")
        row = 0
        for some in rows.iter_slices(batches.ROW_GROUP):
            of_event = np.repeat(np.arange(len(some)), some["n"].to_numpy())
            for events in some[of_event].iter_slices(_ANALYSED_ROWS):
                # In order of items and days, so that a row has the same number in every run.
                yield batches.to_batch(events.with_row_index(feature_schema.ROW, row), schema)
                row += len(events)


class FinishQueries(Finish):
    """(file, batches of its rows) -> the file, of the last day's users and the earlier days'
    held-out ones.
    """

    def process(
        self, element: tuple[str, Iterable[pa.RecordBatch]], held_out: Mapping[int, int]
    ) -> Iterator[Count]:
        """Writes a file."""
        name, parts = element
        rows = batches.to_frame(map(batches.restore, parts))
        schema = feature_schema.evaluation_schema(self._p)
        if name.startswith(f"{feature_schema.REPLAY}/"):
            # Users with the largest hashes, whom nobody held out
            some = rows.top_k(self._job.most_replayed, by=SAMPLING_HASH).sort("_user")
            finished = some.with_columns(pl.lit(False).alias("_holdout"))
            self._write(name, batches.to_batches(finished, schema))
            folder = name.rpartition("/")[0]
            yield count(Counted.LISTED, "users", self._job.plan.day, len(some), folder)
            return
        days = []
        for day in self._job.plan.evaluation:
            queries = rows.filter(pl.col("_day") == day).sort("_user")
            queries = queries.with_columns(_is_held_out(held_out, day).alias("_holdout"))
            # Of earlier days only those are measured on whom no version was trained.
            if day != self._job.plan.day:
                queries = queries.filter("_holdout")
            days.append(queries)
            held_out_queries = int(queries["_holdout"].sum())
            yield count(Counted.QUERIES, "events", day, len(queries))
            yield count(Counted.HELD_OUT_QUERIES, "events", day, held_out_queries)
        self._write(name, batches.to_batches(pl.concat(days), schema))


class FinishUsers(Finish):
    """(file, batches of its rows, which have `_user`) -> the file of a table that has a row for each
    user, in order of these.
    """

    def __init__(
        self, job: FeatureJob, schema: pa.Schema, what: Counted, table: Table = "events"
    ) -> None:
        """Says what is written, and as what the rows are counted; `LISTED` ones, by folder."""
        super().__init__(job)
        self._schema = schema
        self._what = what
        self._table = table

    def process(self, element: tuple[str, Iterable[pa.RecordBatch]]) -> Iterator[Count]:
        """Writes a file."""
        name, parts = element
        # Of several shards, whose users are in no order.
        rows = batches.to_frame(map(batches.restore, parts)).sort("_user")
        self._write(name, batches.to_batches(rows, self._schema))
        detail = name.rpartition("/")[0] if self._what == Counted.LISTED else ""
        yield count(self._what, self._table, self._job.plan.day, len(rows), detail)


class FinishCorpus(Finish):
    """Day -> the corpus as of its start; with the last of the days `COUNTS` and `REJECTED` records of
    the items.
    """

    @fails_fast
    def process(self, moment: date, table: pa.RecordBatch) -> Iterator[Any]:
        """Writes the files."""
        day = self._job.plan.day
        counts = _frame(table)
        folder = self._job.plan.folder(feature_schema.CORPUS, moment)
        rows = item_features.corpus(self._job, moment, counts)
        schema = item_features.schema_of(self._job, rows)
        if moment in self._job.plan.replay:
            schema = feature_schema.replayed_corpus_schema(schema)
            if moment not in self._job.plan.table_days:
                rows = item_features.taken_before(rows, moment, counts)
        self._write_corpus(folder, rows, schema)
        yield TaggedOutput(COUNTS, count(Counted.LISTED, "items", day, len(rows), folder))
        if moment == self._job.plan.measured[-1]:
            yield from self._found(counts)

    def _found(self, counts: pl.DataFrame) -> Iterator[TaggedOutput]:
        """What was found in the day's items."""
        day = self._job.plan.day
        for number in self._counts(counts):
            yield TaggedOutput(COUNTS, number)
        snapshot_day = self._job.inputs.items_of.get(day)
        if snapshot_day is not None:
            for record in item_features.account(self._job, snapshot_day).rejected:
                yield TaggedOutput(REJECTED, record)

    def _write_corpus(self, folder: str, rows: pl.DataFrame, schema: pa.Schema) -> None:
        starts = range(0, max(1, len(rows)), feature_schema.CORPUS_FILE_ROWS)
        for part, start in enumerate(starts):
            of_file = rows.slice(start, feature_schema.CORPUS_FILE_ROWS)
            self._write(f"{folder}/{part:05d}.parquet", batches.to_batches(of_file, schema))

    def _counts(self, table: pl.DataFrame) -> Iterator[Count]:
        day = self._job.plan.day
        unlisted = item_features.unlisted(self._job, table)
        unlisted_events = int(unlisted["n"].sum())
        items = len(table.filter(pl.col("_day") == day_plan.number(day)))
        yield count(Counted.UNLISTED_ITEMS, "items", day, len(unlisted))
        yield count(Counted.UNLISTED_EVENTS, "items", day, unlisted_events)
        yield count(Counted.ITEMS, "events", day, items)
        snapshot_day = self._job.inputs.items_of.get(day)
        if snapshot_day is not None:
            account = item_features.account(self._job, snapshot_day)
            yield count(Counted.GOOD, "items", snapshot_day, account.good)
            yield count(Counted.DUPLICATES, "items", snapshot_day, account.duplicates)
            for reason, n in account.reasons.items():
                yield count(Counted.REJECTED, "items", snapshot_day, n, reason)


def _is_held_out(last_hashes: Mapping[int, int], day: date) -> pl.Expr:
    """Whether a row's user is held out of the day: nobody is, on a day without users."""
    last = last_hashes.get(day_plan.number(day))
    if last is None:
        return pl.lit(False)
    return pl.col(SAMPLING_HASH) <= pl.lit(last, pl.UInt64)


def _frame(batch: pa.RecordBatch) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(batch))
