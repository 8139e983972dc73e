"""Steps that make the tables of the feature job: examples, queries, users, sequences and corpora.

`Work` makes rows of a shard of the users. These lack columns that depend on all shards. The `Finish...` steps
add these columns and write files. Their side inputs are the count table of all items and, by number of the
day, the last sampling hash that is held out.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindows

from beam_jobs import day_plan, hashing
from beam_jobs.beam import batches, engine
from beam_jobs.features.read_steps import COUNTS, REJECTED, JobStep
from beam_jobs.features.report import Count, Counted, count
from beam_jobs.ingest.day_files import Table
from beam_jobs.ingest.records import ORDER
from beam_jobs.point_in_time import examples, item_counts, items
from beam_jobs.point_in_time.job import FeatureJob
from beam_jobs.point_in_time.user_shard import SAMPLING_HASH, UserShard
from twinspire_core.config.feature_kinds import HistoryFeature
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema

COUNT_TABLES = "count_tables"
"""(part of the items, their count table by the events of some shards)."""
SAMPLING_HASHES = "sampling_hashes"
"""(number of a day, the smallest sampling hashes of a shard, as bytes)."""
EXAMPLES = "examples"
"""(file, batch of its rows, without the columns that depend on all shards); histories are coded lists."""
ANALYSIS = "analysis"
"""Batch of rows for fitting the transform graph, with the query tower's columns."""
EVALUATION = "evaluation"
"""(file, batch of its queries, without the choice of held-out users)."""
USERS = "users"
"""(file, batch of its rows), of the users and of their sequences."""

WORKED_ROWS = 1_000_000
"""Shards are processed together up to this many events, because each operation on columns has an overhead per
call.
"""
_ANALYSED_ROWS = 1 << 18


class Work(JobStep):
    """(shard, all its batches) -> the outputs above and `COUNTS`."""

    def start_bundle(self) -> None:
        """Starts without shards."""
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0
        self._users = 0

    def process(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[Any]:
        """Processes the collected shards once they have many events."""
        parts = list(map(batches.restore, element[1]))
        rows = sum(part.num_rows for part in parts)
        users = pc.count_distinct(pa.chunked_array([part["_user"] for part in parts])).as_py()
        # Users times the window must fit into 63 bits (examples.Timeline).
        window = len(self._job.plan.read) * day_plan.MICROSECONDS_OF_A_DAY
        too_many = self._users + users > (1 << 62) // window
        # Beam lets outputs come later than their element, as long as the bundle has not ended.
        if self._waiting and (too_many or self._rows + rows > WORKED_ROWS):
            yield from self._work()
        self._waiting += parts
        self._rows += rows
        self._users += users

    def finish_bundle(self) -> Iterator[Any]:
        """Processes the remaining shards."""
        # Outside of `process`, there is no element whose window Beam could give to outputs.
        for made in self._work():
            yield TaggedOutput(made.tag, GlobalWindows.windowed_value(made.value))

    def _work(self) -> Iterator[TaggedOutput]:
        frames = [batches.to_frame([part]) for part in self._waiting]
        self.start_bundle()
        # A shard has batches of both tables. Only events have `_day`.
        event_frames = [frame for frame in frames if "_day" in frame.columns]
        user_frames = [frame for frame in frames if "_day" not in frame.columns]
        # Users without events have no rows in any table.
        if not event_frames:
            return
        users = pl.concat(user_frames) if user_frames else None
        events = UserShard(self._job, pl.concat(event_frames), users)
        for part in item_counts.in_parts(self._job.p, events.positives(), events.items):
            yield TaggedOutput(COUNT_TABLES, part)
        yield from self._sampling_hashes(events)
        yield from self._rows_of_shards(events)
        yield from _dropped(Counted.DUPLICATES, events.duplicates)
        yield from _dropped(Counted.EXCESS, events.excess)
        day = self._job.plan.day
        users_of_day = events.positives(day)["_code"].n_unique()
        yield TaggedOutput(COUNTS, count(Counted.USERS, "events", day, users_of_day))

    def _sampling_hashes(self, events: UserShard) -> Iterator[TaggedOutput]:
        """For each day with held-out users, the shard's hashes that may be among the smallest of all
        shards.
        """
        share = self._job.p.evaluation.holdout
        most = self._job.most_held_out
        plan = self._job.plan
        # Also for days without examples, because their held-out users are measured today.
        for day in sorted({*plan.examples, *plan.evaluation, *plan.replay}):
            hashes = events.sampling_hashes(day)[SAMPLING_HASH].to_numpy()
            smallest = hashing.smallest(hashes, share, most)
            if len(smallest):
                yield TaggedOutput(SAMPLING_HASHES, (day_plan.number(day), smallest.tobytes()))

    def _rows_of_shards(self, events: UserShard) -> Iterator[TaggedOutput]:
        p = self._job.p
        plan = self._job.plan
        for file, rows, histories in examples.of_users(events):
            made = batches.to_batches(rows, _unfinished_examples(p))
            for batch in batches.with_lists(made, histories):
                yield TaggedOutput(EXAMPLES, (file, batches.spill(batch, self._job.out)))
        if plan.analysis:
            schema = feature_schema.analysis_schema(p, "query")
            yield TaggedOutput(ANALYSIS, batches.to_batch(examples.analysis(events), schema))
        if plan.evaluation:
            yield from self._table(
                EVALUATION,
                feature_schema.EVALUATION,
                events.by_file(examples.evaluation_queries(events)),
                _unfinished_queries(p),
            )
        for day in plan.replay:
            # One file, because these are few users.
            rows = examples.replayed_queries(events, day)
            folder = f"{feature_schema.replay_folder(day)}/{feature_schema.EVALUATION}"
            yield from self._table(EVALUATION, folder, [(0, rows)], _unfinished_queries(p))
        yield from self._table(
            USERS,
            feature_schema.USERS,
            events.by_file(examples.users(events)),
            feature_schema.users_schema(p),
        )
        if p.sources.fitted:
            for moment in plan.table_days:
                yield from self._table(
                    USERS,
                    plan.folder(feature_schema.SEQUENCES, moment),
                    events.by_file(examples.sequences(events, moment)),
                    # They are sorted by user, who is not written.
                    feature_schema.sequences_schema().append(pa.field("_user", pa.string())),
                )

    def _table(
        self,
        tag: str,
        folder: str,
        files: Iterable[tuple[int, pl.DataFrame]],
        schema: pa.Schema,
    ) -> Iterator[TaggedOutput]:
        """(file, batch) of a table of users."""
        for number, rows in files:
            for batch in batches.to_batches(rows, schema):
                name = f"{folder}/{number:05d}.parquet"
                yield TaggedOutput(tag, (name, batches.spill(batch, self._job.out)))


def _unfinished_examples(p: Pipeline) -> pa.Schema:
    """Columns of examples as a shard makes them: item features and who is held out are still missing."""
    bookkeeping = [
        field
        for field in feature_schema.example_schema(p)
        if field.name.startswith("_") and field.name != "_holdout"
    ]
    extra = [pa.field(SAMPLING_HASH, pa.uint64()), pa.field(ORDER, pa.int64())]
    return pa.schema(bookkeeping + extra + feature_schema.query_columns(p))


def _unfinished_queries(p: Pipeline) -> pa.Schema:
    """Columns of queries as a shard makes them: who is held out is still missing."""
    schema = feature_schema.evaluation_schema(p)
    schema = schema.append(pa.field(SAMPLING_HASH, pa.uint64()))
    return schema.remove(schema.get_field_index("_holdout"))


def _dropped(kind: Counted, by_day: Mapping[int, int]) -> Iterator[TaggedOutput]:
    """Counts of dropped events, from numbers by day."""
    for day, n in by_day.items():
        yield TaggedOutput(COUNTS, count(kind, "events", day_plan.date_of(day), n))


class FinishExamples(JobStep):
    """(file, batches of its rows) -> the file, sorted by time, user, item; `COUNTS`, and `EXAMPLES` of
    the run's day.
    """

    @engine.fails_fast
    def process(
        self,
        element: tuple[str, Iterable[pa.RecordBatch]],
        table: pa.RecordBatch,
        held_out: Mapping[int, int],
    ) -> Iterator[Any]:
        """Writes a file."""
        name, parts = element
        # The key of a step's rows is only their file.
        day = date.fromisoformat(name.split("/")[1].removeprefix("dt="))
        rows, histories = self._sorted(list(map(batches.restore, parts)))
        rows = rows.with_columns(_is_held_out(held_out, day).alias("_holdout"))
        rows = items.with_features_of(self._job, rows, day, _frame(table))
        plain = batches.to_batches(rows, feature_schema.example_schema(self._p))
        finished = list(batches.with_lists(plain, histories))
        self._write(name, finished)
        held_out_rows = int(rows["_holdout"].sum())
        yield TaggedOutput(COUNTS, count(Counted.EXAMPLES, "events", day, len(rows)))
        yield TaggedOutput(COUNTS, count(Counted.HELD_OUT_EXAMPLES, "events", day, held_out_rows))
        if day == self._job.plan.day:
            for batch in finished:
                yield TaggedOutput(EXAMPLES, batch)

    def _sorted(
        self, parts: list[pa.RecordBatch]
    ) -> tuple[pl.DataFrame, dict[str, batches.CodedLists]]:
        """Rows of all parts in order, and their histories by column."""
        names = list(self._p.of_kind(HistoryFeature))
        rows = batches.to_frame(part.drop_columns(names) for part in parts)
        # Batches arrive in any order. Sorted, they are the same on every run.
        order = rows.select(pl.arg_sort_by("_time", "_user", "_item", ORDER)).to_series()
        histories = {name: batches.CodedLists.of(part[name] for part in parts) for name in names}
        in_order = {name: lists.take(order.to_numpy()) for name, lists in histories.items()}
        return rows[order], in_order


class AnalyseItems(JobStep):
    """Any element -> batches of the item tower's `analysis_schema`."""

    @engine.fails_fast
    def process(self, _: None, table: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Makes a row for each event of the vocabulary days."""
        if not self._job.plan.analysis:
            return
        # All events of an item on a day have the same features, so they are looked up once.
        rows = items.taken_on(self._job, _frame(table))
        # One snapshot for all vocabulary days, because in incremental mode older ones may be deleted.
        snapshot_day = self._job.inputs.items_of.get(self._job.plan.day)
        rows = items.with_item_features(self._job, rows, snapshot_day, pl.col("_day"))
        schema = feature_schema.analysis_schema(self._p, "item")
        row = 0
        for some in rows.iter_slices(batches.ROW_GROUP):
            # One row for each event, because the graph's vocabularies and moments count events.
            of_event = np.repeat(np.arange(len(some)), some["n"].to_numpy())
            for events in some[of_event].iter_slices(_ANALYSED_ROWS):
                # Rows are in order of items and days, so a row has the same number in every run.
                yield batches.to_batch(events.with_row_index(feature_schema.ROW, row), schema)
                row += len(events)


class FinishQueries(JobStep):
    """(file, batches of its rows) -> the file: all users of the last day, and held-out users of earlier
    days.
    """

    def process(
        self, element: tuple[str, Iterable[pa.RecordBatch]], held_out: Mapping[int, int]
    ) -> Iterator[Count]:
        """Writes a file."""
        name, parts = element
        rows = batches.to_frame(map(batches.restore, parts))
        if name.startswith(f"{feature_schema.REPLAY}/"):
            # These are users with the largest hashes, who are never held out.
            some = rows.top_k(self._job.most_replayed, by=SAMPLING_HASH).sort("_user")
            finished = some.with_columns(pl.lit(False).alias("_holdout"))
        else:
            days = []
            for day in self._job.plan.evaluation:
                queries = rows.filter(pl.col("_day") == day).sort("_user")
                queries = queries.with_columns(_is_held_out(held_out, day).alias("_holdout"))
                # On earlier days, only users that no version was trained on are measured.
                if day != self._job.plan.day:
                    queries = queries.filter("_holdout")
                days.append(queries)
            finished = pl.concat(days)
        schema = feature_schema.evaluation_schema(self._p)
        self._write(name, batches.to_batches(finished, schema))
        yield _listed(self._job, "users", name, len(finished))


class FinishUsers(JobStep):
    """(file, batches of its rows) -> the file, of the users or of their sequences, sorted by `_user`."""

    def process(self, element: tuple[str, Iterable[pa.RecordBatch]]) -> Iterator[Count]:
        """Writes a file."""
        name, parts = element
        # The batches come from several shards, in any order.
        rows = batches.to_frame(map(batches.restore, parts)).sort("_user")
        of_users = name.startswith(f"{feature_schema.USERS}/")
        schema = (
            feature_schema.users_schema(self._p) if of_users else feature_schema.sequences_schema()
        )
        self._write(name, batches.to_batches(rows, schema))
        yield _listed(self._job, "users", name, len(rows))


class FinishCorpus(JobStep):
    """Day -> the corpus as of its start; with the last of the days, `COUNTS` and `REJECTED` records of
    the items.
    """

    @engine.fails_fast
    def process(self, moment: date, table: pa.RecordBatch) -> Iterator[Any]:
        """Writes the files."""
        counts = _frame(table)
        folder = self._job.plan.folder(feature_schema.CORPUS, moment)
        rows = items.corpus(self._job, moment, counts)
        schema = items.schema_of(self._job, rows)
        if moment in self._job.plan.replay:
            schema = feature_schema.replayed_corpus_schema(schema)
            # Tables of sources need the whole corpus; other replayed days only need items that lists can
            # contain.
            if moment not in self._job.plan.table_days:
                rows = items.taken_before(rows, moment, counts)
        self._write_corpus(folder, rows, schema)
        yield TaggedOutput(COUNTS, _listed(self._job, "items", f"{folder}/", len(rows)))
        if moment == self._job.plan.measured[-1]:
            yield from self._of_items(counts)

    def _write_corpus(self, folder: str, rows: pl.DataFrame, schema: pa.Schema) -> None:
        starts = range(0, max(1, len(rows)), feature_schema.CORPUS_FILE_ROWS)
        for part, start in enumerate(starts):
            of_file = rows.slice(start, feature_schema.CORPUS_FILE_ROWS)
            self._write(f"{folder}/{part:05d}.parquet", batches.to_batches(of_file, schema))

    def _of_items(self, table: pl.DataFrame) -> Iterator[TaggedOutput]:
        """Counts of the day's items, and the records of its snapshot that break a rule."""
        day = self._job.plan.day
        unlisted = items.unlisted(self._job, table)
        taken = len(table.filter(pl.col("_day") == day_plan.number(day)))
        counts = [
            count(Counted.UNLISTED_ITEMS, "items", day, len(unlisted)),
            count(Counted.ITEMS, "events", day, taken),
        ]
        snapshot_day = self._job.inputs.items_of.get(day)
        if snapshot_day is not None:
            account = items.account(self._job, snapshot_day)
            counts.append(count(Counted.GOOD, "items", snapshot_day, account.good))
            counts.append(count(Counted.DUPLICATES, "items", snapshot_day, account.duplicates))
            for reason, n in account.reasons.items():
                counts.append(count(Counted.REJECTED, "items", snapshot_day, n, reason))
            yield from (TaggedOutput(REJECTED, record) for record in account.rejected)
        yield from (TaggedOutput(COUNTS, counted) for counted in counts)


def _listed(job: FeatureJob, table: Table, file: str, rows: int) -> Count:
    """The count of the rows of a file, by its folder."""
    return count(Counted.LISTED, table, job.plan.day, rows, file.rpartition("/")[0])


def _is_held_out(last_hashes: Mapping[int, int], day: date) -> pl.Expr:
    """Whether a row's user is held out of the day; nobody is on a day without users."""
    last = last_hashes.get(day_plan.number(day))
    return pl.lit(False) if last is None else pl.col(SAMPLING_HASH) <= pl.lit(last, pl.UInt64)


def _frame(batch: pa.RecordBatch) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(batch))
