"""Steps that work on shards of the users: whole users, several shards together."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindows

from beam_jobs import day_plan, hashing
from beam_jobs.beam import batches
from beam_jobs.features.read_steps import COUNTS
from beam_jobs.features.report import Counted, count
from beam_jobs.ingest.records import ORDER
from beam_jobs.point_in_time import examples, item_counts
from beam_jobs.point_in_time.job import FeatureJob
from beam_jobs.point_in_time.user_shard import SAMPLING_HASH, UserShard
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema

COUNT_TABLES = "count_tables"
"""(part of the items, their count table by the events of some shards)."""
SAMPLING_HASHES = "sampling_hashes"
"""(number of a day, the smallest sampling hashes of a shard, as bytes)."""
EXAMPLES = "examples"
"""(file, batch of its rows, without what only all shards together know); histories are coded lists."""
ANALYSIS = "analysis"
"""Batch of rows that the transform graph is fitted on, with the query tower's columns."""
EVALUATION = "evaluation"
"""(file, batch of its queries, without who is held out)."""
USERS = "users"
"""(file, batch of its rows)."""
SEQUENCES = "sequences"
"""(file, batch of its rows)."""

WORKED_ROWS = 1_000_000
"""Events up to which shards are worked on together: an operation on columns costs something for each
call, however few rows it gets.
"""


class Work(beam.DoFn):
    """(shard, all its batches) -> the outputs above and `COUNTS`."""

    def __init__(self, job: FeatureJob) -> None:
        self._job = job

    def start_bundle(self) -> None:
        """Starts without shards."""
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0
        self._users = 0

    def process(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[Any]:
        """Works on the shards so far, once they have many events."""
        parts = list(map(batches.restore, element[1]))
        rows = sum(part.num_rows for part in parts)
        users = pc.count_distinct(pa.chunked_array([part["_user"] for part in parts])).as_py()
        # Users times the window must fit into 63 bits (user_history.Timeline).
        window = len(self._job.plan.read) * day_plan.MICROSECONDS_OF_A_DAY
        too_many = self._users + users > (1 << 62) // window
        # Beam lets outputs come later than their element, as long as the bundle has not ended.
        if self._waiting and (too_many or self._rows + rows > WORKED_ROWS):
            yield from self._work()
        self._waiting += parts
        self._rows += rows
        self._users += users

    def finish_bundle(self) -> Iterator[Any]:
        """Works on the rest."""
        # Outside of `process`, Beam knows no element that outputs could take their window from.
        for made in self._work():
            yield TaggedOutput(made.tag, GlobalWindows.windowed_value(made.value))

    def _work(self) -> Iterator[TaggedOutput]:
        frames = [batches.to_frame([part]) for part in self._waiting]
        self.start_bundle()
        # A shard has batches of both tables; only events have `_day`.
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
        """For each day with held-out users, the hashes that may be among the smallest of all shards."""
        share = self._job.p.evaluation.holdout
        most = self._job.most_held_out
        plan = self._job.plan
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
            # One file, as these are few of all users.
            rows = examples.replayed_queries(events, day)
            folder = f"{feature_schema.replay_folder(day)}/{feature_schema.EVALUATION}"
            yield from self._table(EVALUATION, folder, [(0, rows)], _unfinished_queries(p))
        users = events.by_file(examples.users(events))
        yield from self._table(USERS, feature_schema.USERS, users, feature_schema.users_schema(p))
        if p.sources.fitted:
            # They are sorted by user, who is not written.
            schema = feature_schema.sequences_schema().append(pa.field("_user", pa.string()))
            for moment in plan.table_days:
                yield from self._table(
                    SEQUENCES,
                    plan.folder(feature_schema.SEQUENCES, moment),
                    events.by_file(examples.sequences(events, moment)),
                    schema,
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


def _dropped(what: Counted, by_day: Mapping[int, int]) -> Iterator[TaggedOutput]:
    """Counts of events that were dropped, which are given by number of their day."""
    for day, n in by_day.items():
        yield TaggedOutput(COUNTS, count(what, "events", day_plan.date_of(day), n))
