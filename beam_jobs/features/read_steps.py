"""Steps that read: files of logs and of users' snapshots -> records, by shard of their user."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from itertools import chain
from typing import Any

import apache_beam as beam
import numpy as np
import polars as pl
from apache_beam.pvalue import TaggedOutput

from beam_jobs import day_plan, user_hashing
from beam_jobs.beam import batches
from beam_jobs.ingest import columns, record_blocks
from beam_jobs.ingest.day_files import SourceFile
from beam_jobs.ingest.record_blocks import KEPT_PER_FILE, Rejected
from beam_jobs.ingest.records import RecordChecker, UserEventLimit
from beam_jobs.point_in_time import user_shard
from beam_jobs.point_in_time.job import FeatureJob

RECORDS = "records"
"""(shard, batch): events or users."""
NUMBERS = "numbers"
"""(name, n): counts to be added up, see job_report.py."""
REJECTED = "rejected"

NumberedFile = tuple[SourceFile, int]
"""A file, and its number among those of its table."""
Part = tuple[SourceFile, int, int | None]
"""The same, and a part of the file."""

SHUFFLED_ROWS = 100_000
"""Rows that are cut by shard at a time: of fewer, each shard's batch would be some hundred rows."""
_PACKED_BYTES = 4 << 20


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

    def process(self, parts: Sequence[Part]) -> Iterator[Any]:
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
                TaggedOutput(NUMBERS, (f"stragglers|events|{day_plan.date_of(n)}|", m))
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


def _about(file: SourceFile, what: str, n: int, detail: str = "") -> TaggedOutput:
    return TaggedOutput(NUMBERS, (f"{what}|{file.table}|{file.day}|{detail}", n))
