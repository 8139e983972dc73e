"""Steps that work on shards of the users: whole users, several shards together, and what goes to which file."""

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import polars as pl
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindows

from beam_jobs import day_plan, user_hashing
from beam_jobs.beam import batches
from beam_jobs.features.read_steps import NUMBERS
from beam_jobs.ingest.records import ORDER
from beam_jobs.point_in_time import co_occurrence, item_counts
from beam_jobs.point_in_time.job import FeatureJob
from beam_jobs.point_in_time.user_shard import SAMPLING_HASH, SHARD, UserShard
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema

COUNTS = "counts"
"""(0, part of the count table)."""
SAMPLING_HASHES = "lots"
"""(day, the smallest lots of a shard, as bytes)."""
EXAMPLES, ANALYSIS, EVALUATION, USERS, PASTS = (
    "examples",
    "analysis",
    "evaluation",
    "users",
    "pasts",
)
BASKETS = "baskets"
"""(folder of co-occurrence, what the users of a shard took before its moment)."""

WORKED_ROWS = 500_000
"""Shards are worked on together up to about so many events: operations on columns have a price a
call.
"""
_FILE_ROWS = 1 << 18
"""The most rows of a file of queries or users."""


class Work(beam.DoFn):
    """(shard, all its batches) -> `COUNTS`, `SAMPLING_HASHES`, `EXAMPLES`, `ANALYSIS`, `EVALUATION`, `USERS`,
    `NUMBERS`, and `PASTS` and `BASKETS` if they are asked for.
    """

    def __init__(self, job: FeatureJob) -> None:
        self._job = job

    def start_bundle(self) -> None:
        """Has no shards yet."""
        self._waiting: list[tuple[int, list[pa.RecordBatch]]] = []
        self._rows = 0

    def process(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator[Any]:
        """Works on the shards so far, once they are many events."""
        number, found = element[0], list(element[1])
        rows = sum(batch.num_rows for batch in found)
        # Each row may be a user of its own, and users times the window must stay a number of 63
        # bits (history.spans).
        most = min(
            WORKED_ROWS, (1 << 62) // (len(self._job.plan.read) * day_plan.MICROSECONDS_OF_A_DAY)
        )
        if self._waiting and self._rows + rows > most:
            yield from self._work()
        self._waiting.append((number, found))
        self._rows += rows

    def finish_bundle(self) -> Iterator[Any]:
        """Works on the rest."""
        for made in self._work():
            yield TaggedOutput(made.tag, GlobalWindows.windowed_value(made.value))

    def _work(self) -> Iterator[TaggedOutput]:
        shards, self._waiting, self._rows = self._waiting, [], 0
        tables: dict[bool, list[pl.DataFrame]] = {True: [], False: []}
        for number, found in shards:
            for batch in found:
                frame = batches.to_frame([batch]).with_columns(
                    pl.lit(number, pl.Int32).alias(SHARD)
                )
                tables["_day" in batch.schema.names].append(frame)
        if not tables[True]:
            return
        users = pl.concat(tables[False]).drop(SHARD) if tables[False] else None
        events = UserShard(self._job, pl.concat(tables[True]), users)
        yield TaggedOutput(COUNTS, (0, item_counts.partial(events.positives())))
        yield from self._lots(events)
        yield from self._tables(events)
        for what, dropped in (("doubles", events.doubles), ("excess", events.excess)):
            for day, n in dropped.items():
                yield TaggedOutput(NUMBERS, (f"{what}|events|{day_plan.date_of(day)}|", n))
        today = events.positives(self._job.plan.day)
        yield TaggedOutput(
            NUMBERS, (f"users|events|{self._job.plan.day}|", today["_user"].n_unique())
        )

    def _lots(self, events: UserShard) -> Iterator[Any]:
        share, most = self._job.p.evaluation.holdout, self._job.most_held_out
        for day in sorted({*self._job.plan.examples, *self._job.plan.evaluation}):
            lots = user_hashing.smallest(events.lots(day)[SAMPLING_HASH].to_numpy(), share, most)
            if len(lots):
                yield TaggedOutput(SAMPLING_HASHES, (day_plan.number(day), lots.tobytes()))

    def _tables(self, events: UserShard) -> Iterator[Any]:
        p = self._job.p
        for file, rows in events.examples():
            for batch in batches.to_batches(rows, examples_on_their_way(p)):
                yield TaggedOutput(EXAMPLES, (file, self._sent(batch)))
        if self._job.plan.analysis:
            yield TaggedOutput(ANALYSIS, self._sent(batches.to_batch(events.analysis())))
        if self._job.plan.evaluation:
            yield from self._asked(events)
        yield from _files(
            USERS,
            feature_schema.USERS,
            events.by_shard(events.users()),
            feature_schema.users_schema(p),
        )
        if p.mix.uses_co_occurrence:
            taken = events.positives()
            for folder, (_, moment) in co_occurrence.moments(self._job).items():
                most = co_occurrence.MOST_PAIRS // p.beam.shards
                found = co_occurrence.baskets(taken, moment, p.window.train_days, most)
                yield TaggedOutput(BASKETS, (folder, self._sent(found)))

    def _asked(self, events: UserShard) -> Iterator[Any]:
        """What versions are measured by."""
        kind = feature_schema.evaluation_schema(self._job.p).append(
            pa.field(SAMPLING_HASH, pa.uint64())
        )
        kind = kind.remove(kind.get_field_index("_holdout"))
        for made in _files(
            EVALUATION, feature_schema.EVALUATION, events.by_shard(events.evaluation()), kind
        ):
            file, batch = made.value
            yield TaggedOutput(EVALUATION, (file, self._sent(batch)))
        if self._job.p.evaluation.als:
            yield from _files(
                PASTS,
                feature_schema.PASTS,
                events.by_shard(events.pasts()),
                feature_schema.pasts_schema(),
            )

    def _sent(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batches.spill(batch, self._job.out)


def examples_on_their_way(p: Pipeline) -> pa.Schema:
    """Examples on their way: what a shard knows of them."""
    meta = [
        f
        for f in feature_schema.example_schema(p)
        if f.name.startswith("_") and f.name != "_holdout"
    ]
    extra = [pa.field(SAMPLING_HASH, pa.uint64()), pa.field(ORDER, pa.int64())]
    return pa.schema(meta + extra + feature_schema.query_columns(p))


def _files(
    tag: str, folder: str, shards: Iterable[tuple[int, pl.DataFrame]], kind: pa.Schema
) -> Iterator[Any]:
    """One file a shard, unless its rows are too many for a batch."""
    for number, rows in shards:
        for part, batch in enumerate(batches.to_batches(rows, kind, _FILE_ROWS)):
            name = f"{number:05d}-{part:03d}" if part else f"{number:05d}"
            yield TaggedOutput(tag, (f"{folder}/{name}.parquet", batch))
