"""What the workers of the feature job do with one element. The thinking is done in the modules that
these call.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from itertools import chain

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindows

from beam_jobs import day_plan, user_hashing
from beam_jobs.beam import batches
from beam_jobs.features import spilled_batches
from beam_jobs.ingest import columns, record_blocks
from beam_jobs.ingest.day_files import SourceFile
from beam_jobs.ingest.records import ORDER, RecordChecker
from beam_jobs.ingest.rejected import KEPT_PER_FILE, Rejected, to_json_lines
from beam_jobs.ingest.user_event_limit import UserEventLimit
from beam_jobs.point_in_time import co_occurrence, item_counts, user_shard
from beam_jobs.point_in_time.job import FeatureJob
from beam_jobs.point_in_time.user_shard import SAMPLING_HASH, SHARD, UserShard
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import feature_schema

RECORDS = "records"
"""(shard, batch): events or users."""
NUMBERS = "numbers"
"""(name, n): counts to be added up, see job_report.py."""
REJECTED = "rejected"
MEMBERS = "members"
"""(folder of a corpus, its items)."""
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

NumberedFile = tuple[SourceFile, int]
"""A file, and its number among those of its table."""
Part = tuple[SourceFile, int, int | None]
"""The same, and a part of the file."""

SHUFFLED_ROWS = 100_000
"""Rows that are cut by shard at a time: of fewer, each shard's batch would be some hundred rows."""
WORKED_ROWS = 500_000
"""Shards are worked on together up to about so many events: operations on columns have a price a
call.
"""
_PACKED_BYTES = 4 << 20
_FILE_ROWS = 1 << 18
"""The most rows of a file of queries or users."""


def pack(files: Iterable[NumberedFile]) -> list[list[NumberedFile]]:
    """Puts small files together, so that many days of few events are not many batches of few
    rows.
    """
    packs: list[list[NumberedFile]] = []
    room = 0
    for numbered in files:
        size = numbered[0].size
        if not packs or size > room or packs[-1][0][0].table != numbered[0].table:
            packs.append([])
            room = _PACKED_BYTES
        packs[-1].append(numbered)
        room -= size
    return packs


def cut(packed: Sequence[NumberedFile], given: str) -> Iterator[list[Part]]:
    """Parts that are read together: all of several small files, or one of a large file."""
    parts = [
        (file, place, part) for file, place in packed for part in record_blocks.parts(given, file)
    ]
    return iter([[part] for part in parts] if len(packed) == 1 else [parts])


class Read(beam.DoFn):
    """Parts of files of one table -> `RECORDS`, `NUMBERS`, `REJECTED`."""

    def __init__(self, job: FeatureJob) -> None:
        self._job, self._p = job, job.p
        self._types = user_shard.relevant_types(job.p)

    def process(self, parts: Sequence[Part]) -> Iterator:
        """Reads, or raises BadData."""
        waiting: list[pl.DataFrame] = []
        for found in chain.from_iterable(map(self._read, parts)):
            if isinstance(found, TaggedOutput):
                yield found
                continue
            waiting.append(found)
            if sum(map(len, waiting)) >= SHUFFLED_ROWS:
                yield from self._by_shard(waiting)
                waiting = []
        if waiting:
            yield from self._by_shard(waiting)

    def _read(self, part: Part) -> Iterator[TaggedOutput | pl.DataFrame]:
        """Outputs, and frames of good records."""
        file, place, group = part
        wanted = columns.events(self._p) if file.table == "events" else columns.users(self._p)
        judge, kept, limit = (
            RecordChecker(self._p, file, place, wanted),
            0,
            UserEventLimit(self._p.source.max_user_events),
        )
        for block in record_blocks.read(
            self._p.source.format, file, group, wanted, self._p.beam.batch_rows
        ):
            if isinstance(block, Rejected):
                rejected, reasons = [block], {block.reason: 1}
            else:
                judged = judge.take(block)
                rejected, reasons = judged.rejected, judged.reasons
                yield _about(file, "good", len(judged.good))
                yield from (_about(file, what, n) for what, n in judged.misplaced.items())
                yield from self._relevant(file, judged.good, limit)
            yield from (_about(file, "rejected", n, reason) for reason, n in reasons.items())
            if file.table != "events" or file.day in self._job.plan.examples:
                yield from (
                    TaggedOutput(REJECTED, r) for r in rejected[: max(0, KEPT_PER_FILE - kept)]
                )
                kept += len(rejected)
        yield from (_about(file, "absent", 1, f"{c.use}\t{c.source}") for c in judge.close())
        yield _about(file, "parts", 1)

    def _relevant(
        self, file: SourceFile, rows: pl.DataFrame, limit: UserEventLimit
    ) -> Iterator[TaggedOutput | pl.DataFrame]:
        mark = "_day" if file.table == "events" else "_snapshot"
        rows = rows.with_columns(pl.lit(day_plan.number(file.day), pl.Int32).alias(mark))
        if file.table == "events" and self._p.source.late_days:
            rows = self._on_its_day(file, rows)
            late = rows.filter(pl.col("_day") < day_plan.number(file.day))["_day"].value_counts()
            yield from (
                TaggedOutput(NUMBERS, (f"stragglers|events|{_day(n)}|", m))
                for n, m in late.iter_rows()
            )
        if "_type" in rows.columns and file.day == self._job.plan.day:
            yield from (
                _about(file, "type", n, kind or "")
                for kind, n in rows["_type"].value_counts().iter_rows()
            )
        if "_type" in rows.columns and self._types:
            rows = rows.filter(pl.col("_type").is_in(list(self._types)))
        if file.table == "events":
            every, rows = len(rows), limit.take(rows)
            if len(rows) < every:
                yield _about(file, "excess", every - len(rows))
        yield rows

    def _by_shard(self, frames: list[pl.DataFrame]) -> Iterator[TaggedOutput]:
        rows = pl.concat(frames)
        for number, part in batches.slices(
            user_hashing.shards(rows["_user"], self._p.beam.shards), rows
        ):
            yield TaggedOutput(RECORDS, (number, batches.to_batch(part)))

    def _on_its_day(self, file: SourceFile, rows: pl.DataFrame) -> pl.DataFrame:
        """The events of days that the run reads, `_day` being each one's calendar day."""
        plan, back = self._job.plan, range(self._p.source.late_days, -1, -1)
        starts = [day_plan.start_of(file.day - timedelta(days=n), self._p.zone) for n in back]
        day = (
            np.searchsorted(starts, rows["_time"].to_numpy(), side="right")
            - len(starts)
            + day_plan.number(file.day)
        )
        inside = pl.col("_day").is_between(day_plan.number(plan.first), day_plan.number(plan.day))
        return rows.with_columns(pl.Series("_day", day, pl.Int32)).filter(inside)


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

    def process(self, element: tuple[int, Iterable[pa.RecordBatch]]) -> Iterator:
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

    def finish_bundle(self) -> Iterator:
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
                yield TaggedOutput(NUMBERS, (f"{what}|events|{_day(day)}|", n))
        today = events.positives(self._job.plan.day)
        yield TaggedOutput(
            NUMBERS, (f"users|events|{self._job.plan.day}|", today["_user"].n_unique())
        )

    def _lots(self, events: UserShard) -> Iterator:
        share, most = self._job.p.evaluation.holdout, self._job.most_held_out
        for day in sorted({*self._job.plan.examples, *self._job.plan.evaluation}):
            lots = user_shard.smallest(events.lots(day)[SAMPLING_HASH].to_numpy(), share, most)
            if len(lots):
                yield TaggedOutput(SAMPLING_HASHES, (day_plan.number(day), lots.tobytes()))

    def _tables(self, events: UserShard) -> Iterator:
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
        if p.mix.pairs:
            taken = events.positives()
            for folder, (_, moment) in co_occurrence.moments(self._job).items():
                most = co_occurrence.MOST_PAIRS // p.beam.shards
                found = co_occurrence.baskets(taken, moment, p.window.train_days, most)
                yield TaggedOutput(BASKETS, (folder, self._sent(found)))

    def _asked(self, events: UserShard) -> Iterator:
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
        return spilled_batches.sent(batch, self._job.out)


def examples_on_their_way(p: Pipeline) -> pa.Schema:
    """Examples on their way: what a shard knows of them."""
    meta = [
        f
        for f in feature_schema.example_schema(p)
        if f.name.startswith("_") and f.name != "_holdout"
    ]
    extra = [pa.field(SAMPLING_HASH, pa.uint64()), pa.field(ORDER, pa.int64())]
    return pa.schema(meta + extra + feature_schema.query_columns(p))


def last_held_out_hash(lots: Iterable[bytes], most: int) -> int:
    """The largest lot that is held out: of all shards' smallest ones, the one of rank `most`."""
    return int(np.sort(np.frombuffer(b"".join(lots), np.uint64))[:most][-1])


def write_numbers(job: FeatureJob, numbers: Iterable[tuple[str, int]]) -> None:
    """Adds numbers of the same name up and writes them for job_report.py."""
    sums: dict[str, int] = {}
    for name, n in numbers:
        sums[name] = sums.get(name, 0) + n
    storage.write_bytes(storage.join(job.out, feature_schema.REPORT), json.dumps(sums).encode())


def write_rejected(job: FeatureJob, records: Iterable[Rejected]) -> None:
    """Writes down what was set aside."""
    storage.write_bytes(
        storage.join(job.out, feature_schema.REJECTED, "records.jsonl"), to_json_lines(records)
    )


def _files(
    tag: str, folder: str, shards: Iterable[tuple[int, pl.DataFrame]], kind: pa.Schema
) -> Iterator:
    """One file a shard, unless its rows are too many for a batch."""
    for number, rows in shards:
        for part, batch in enumerate(batches.to_batches(rows, kind, _FILE_ROWS)):
            name = f"{number:05d}-{part:03d}" if part else f"{number:05d}"
            yield TaggedOutput(tag, (f"{folder}/{name}.parquet", batch))


def _about(file: SourceFile, what: str, n: int, detail: str = "") -> TaggedOutput:
    return TaggedOutput(NUMBERS, (f"{what}|{file.table}|{file.day}|{detail}", n))


def _day(number: int) -> date:
    return date.fromordinal(day_plan.EPOCH.toordinal() + number)
