"""Steps that read: files of logs and of users' snapshots -> records, by shard of their user.

`process` of steps with tagged outputs yields `Any`: Beam reads its annotation, and takes the types
of tagged outputs from job_graph.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import chain
from typing import Any, TypeAlias

import apache_beam as beam
import numpy as np
import polars as pl
from apache_beam.pvalue import TaggedOutput

from beam_jobs import day_plan, user_hashing
from beam_jobs.beam import batches
from beam_jobs.features.counters import Counted, count, count_of
from beam_jobs.ingest import columns, record_blocks
from beam_jobs.ingest.day_files import SourceFile
from beam_jobs.ingest.record_blocks import KEPT_PER_FILE, Rejected
from beam_jobs.ingest.records import RecordChecker, UserEventLimit
from beam_jobs.point_in_time import user_shard
from beam_jobs.point_in_time.job import FeatureJob

RECORDS = "records"
"""(shard, batch): events or users."""
COUNTS = "counts"
"""Counts to be added up, see counters.py."""
REJECTED = "rejected"
"""Records that are written down because they break a rule."""

NumberedFile: TypeAlias = tuple[SourceFile, int]
"""A file, and its number among those of its table."""
FilePart: TypeAlias = tuple[SourceFile, int, int | None]
"""The same, and a part of the file."""

SHUFFLED_ROWS = 100_000
"""Rows that are cut by shard at a time: of fewer, each shard's batch would be some hundred rows."""
_PACKED_BYTES = 4 << 20


def pack(files: Iterable[NumberedFile]) -> list[list[NumberedFile]]:
    """Puts small files of a table together, so that many days of few events are not many batches of
    few rows.
    """
    packs: list[list[NumberedFile]] = []
    room = 0
    table = None
    for file, number in files:
        if not packs or file.size > room or file.table != table:
            packs.append([])
            room = _PACKED_BYTES
            table = file.table
        packs[-1].append((file, number))
        room -= file.size
    return packs


def cut(packed: Sequence[NumberedFile], given_format: str) -> Iterator[list[FilePart]]:
    """Parts that are read together: all of several small files, or one of a large file."""
    parts = [
        (file, number, part)
        for file, number in packed
        for part in record_blocks.parts(given_format, file)
    ]
    if len(packed) == 1:
        yield from ([part] for part in parts)
    else:
        yield parts


class Read(beam.DoFn):
    """Parts of files of one table -> `RECORDS`, `COUNTS`, `REJECTED`."""

    def __init__(self, job: FeatureJob) -> None:
        self._job = job
        self._p = job.p
        self._types = user_shard.relevant_types(job.p)

    def process(self, parts: Sequence[FilePart]) -> Iterator[Any]:
        """Reads.

        Raises:
          BadData: a file cannot be read, or lacks a column.
        """
        # Rows of several blocks, and of several small files, are cut by shard together.
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

    def _read(self, file_part: FilePart) -> Iterator[TaggedOutput | pl.DataFrame]:
        """Counts and rejected records, and frames of good records."""
        file, number, part = file_part
        wanted = columns.events(self._p) if file.table == "events" else columns.users(self._p)
        checker = RecordChecker(self._p, file, number, wanted)
        limit = UserEventLimit(self._p.source.max_user_events)
        # Of events, those of days without examples are counted, and not written down.
        written_down = file.table != "events" or file.day in self._job.plan.examples
        room = KEPT_PER_FILE if written_down else 0
        blocks = record_blocks.read(
            self._p.source.format, file, part, wanted, self._p.beam.batch_rows
        )
        for block in blocks:
            if isinstance(block, Rejected):
                rejected = [block]
                reasons = {block.reason: 1}
            else:
                checked = checker.take(block)
                rejected = checked.rejected
                reasons = checked.reasons
                yield _counted(file, Counted.GOOD, len(checked.good))
                for what, n in checked.misplaced.items():
                    yield _counted(file, Counted(what), n)
                yield from self._relevant(file, checked.good, limit)
            for reason, n in reasons.items():
                yield _counted(file, Counted.REJECTED, n, reason)
            for record in rejected[:room]:
                yield TaggedOutput(REJECTED, record)
            room = max(0, room - len(rejected))
        for column in checker.close():
            yield _counted(file, Counted.ABSENT, 1, column.use)
        yield _counted(file, Counted.PARTS, 1)

    def _relevant(
        self, file: SourceFile, rows: pl.DataFrame, limit: UserEventLimit
    ) -> Iterator[TaggedOutput | pl.DataFrame]:
        """The records that the run needs, with the day that they belong to; counts of others."""
        if file.table != "events":
            # Beside `_day`, by which events are known, the shards tell users' rows by `_snapshot`.
            yield rows.with_columns(_days(file).alias("_snapshot"))
            return
        rows = rows.with_columns(_days(file).alias("_day"))
        if self._p.source.late_days:
            rows = self._on_its_day(file, rows)
            late = rows.filter(pl.col("_day") < day_plan.number(file.day))
            for day, n in late["_day"].value_counts().iter_rows():
                stragglers = count(Counted.STRAGGLERS, "events", day_plan.date_of(day), n)
                yield TaggedOutput(COUNTS, stragglers)
        if "_type" in rows.columns and file.day == self._job.plan.day:
            for event_type, n in rows["_type"].value_counts().iter_rows():
                yield _counted(file, Counted.TYPES, n, event_type or "")
        # Here, and not later: what is neither a positive nor in a history need not be shuffled.
        if "_type" in rows.columns and self._types:
            rows = rows.filter(pl.col("_type").is_in(list(self._types)))
        within_limit = limit.take(rows)
        if len(within_limit) < len(rows):
            yield _counted(file, Counted.EXCESS, len(rows) - len(within_limit))
        yield within_limit

    def _by_shard(self, frames: list[pl.DataFrame]) -> Iterator[TaggedOutput]:
        rows = pl.concat(frames)
        shards = user_hashing.shards(rows["_user"], self._p.beam.shards)
        for shard, part in batches.slices(shards, rows):
            yield TaggedOutput(RECORDS, (shard, batches.to_batch(part)))

    def _on_its_day(self, file: SourceFile, rows: pl.DataFrame) -> pl.DataFrame:
        """The events of days that the run reads, `_day` being each one's calendar day."""
        # The starts of the days that events of this folder may be of, oldest first; an event's day
        # is the last one that has begun by its time.
        days_before = range(self._p.source.late_days, -1, -1)
        starts = [
            day_plan.start_of(file.day - timedelta(days=n), self._p.zone) for n in days_before
        ]
        begun = np.searchsorted(starts, rows["_time"].to_numpy(), side="right")
        day = day_plan.number(file.day) - len(starts) + begun
        first = day_plan.number(self._job.plan.first)
        last = day_plan.number(self._job.plan.day)
        rows = rows.with_columns(pl.Series("_day", day, pl.Int32))
        return rows.filter(pl.col("_day").is_between(first, last))


def _days(file: SourceFile) -> pl.Expr:
    return pl.lit(day_plan.number(file.day), pl.Int32)


def _counted(file: SourceFile, what: Counted, n: int, detail: str = "") -> TaggedOutput:
    return TaggedOutput(COUNTS, count_of(file, what, n, detail))
