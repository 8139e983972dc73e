"""The step that reads files of logs and of users' snapshots, and gives records by the shard of
their user.

Files are read in packs: small files of a day together, and a large one part by part. Records that an
earlier run has read come from its partials. Records that this run reads are stored in new partials
(partials.py).

`process` of steps with tagged outputs yields `Any`: Beam reads its annotation, and takes the types
of tagged outputs from job_graph.py.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple, TypeAlias

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput

from beam_jobs import day_plan, hashing
from beam_jobs.beam import batches, engine
from beam_jobs.features import partials
from beam_jobs.features.partials import ReadOutput
from beam_jobs.features.report import Count, Counted, count, count_of
from beam_jobs.ingest import day_files, records
from beam_jobs.ingest.records import FILE_BITS, ORDER, Rejected
from beam_jobs.point_in_time.job import FeatureJob
from beam_jobs.point_in_time.user_shard import relevant_types
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.records.record_file import RecordFile

RECORDS = "records"
"""(shard, batch): events or users."""
COUNTS = "counts"
"""Counts to be added up, see report.py."""
REJECTED = "rejected"
"""Records that break a rule, for `rejected/`."""
SHUFFLED_ROWS = 250_000
"""Rows that are split by shard at a time. With fewer, each shard's batch would have only some hundred
rows.
"""
PACKED_BYTES = 4 << 20
"""Approximate size of raw files that one call reads."""
Slice: TypeAlias = tuple[int, int | None]
"""A file by its number in the pack, and a part of it as `RecordFile.parts` names it."""
# Counts that files of a folder may also have for earlier days.
_OF_ALL_DAYS = {Counted.STRAGGLERS, Counted.EXCESS}


class Pack(NamedTuple):
    """Files of one table and day.

    Attributes:
      files: one, or several small ones.
      first: number of the first of them among all files of the table.
      stem: stem of the URIs of the partial; None if no partial is stored.
      parts: parts of that partial; 0 if no run has written it yet.
    """

    files: tuple[day_files.SourceFile, ...]
    first: int
    stem: str | None = None
    parts: int = 0

    @property
    def table(self) -> day_files.Table:
        """The files' table."""
        return self.files[0].table

    @property
    def day(self) -> date:
        """The date in the name of the files' folder."""
        return self.files[0].day

    @property
    def size(self) -> int:
        """Of all files, in bytes."""
        return sum(file.size for file in self.files)


class PackPart(NamedTuple):
    """The part of a pack that one call reads: number `part`, from 0, of `parts`."""

    pack: Pack
    part: int
    parts: int


def plan_packs(job: FeatureJob) -> list[list[Pack]]:
    """All packs of a run, in groups that are read together."""
    events = _packed(job.inputs.events.values())
    if job.partials is not None:
        stored = partials.Partials(job, job.partials)
        events = [Pack(pack.files, pack.first, *stored.of(pack.files)) for pack in events]
    # Late events come after all others in the order of the logs. Their packs have no partials, because only
    # some files of these folders are read. The run of the folder's own day stores them all.
    number = sum(len(pack.files) for pack in events)
    events += [
        pack._replace(first=number + pack.first) for pack in _packed(job.late.files.values())
    ]
    return _together([*events, *_packed(job.inputs.users.values())])


def _packed(days: Iterable[Sequence[day_files.SourceFile]]) -> list[Pack]:
    """Joins small files of a day into packs. The files are of one table, day by day."""
    packs: list[Pack] = []
    number = 0
    for files in days:
        room = 0
        for place, file in enumerate(files):
            # A file that is larger than a pack is a separate pack, which is read in parts.
            if place and file.size <= room:
                packs[-1] = packs[-1]._replace(files=(*packs[-1].files, file))
            else:
                packs.append(Pack((file,), number))
                room = PACKED_BYTES
            room -= file.size
            number += 1
    return packs


def _together(packs: Iterable[Pack]) -> list[list[Pack]]:
    """Groups small packs of a table, so that many days of few events are not many batches of few
    rows.
    """
    groups: list[list[Pack]] = []
    room = 0
    for pack in packs:
        if not groups or pack.size > room or pack.table != groups[-1][0].table:
            groups.append([])
            room = PACKED_BYTES
        groups[-1].append(pack)
        room -= pack.size
    return groups


def cut(group: Sequence[Pack], given_format: str) -> Iterator[list[PackPart]]:
    """The parts that one call reads: several whole packs, or one part of a large one."""
    parts = []
    for pack in group:
        number = pack.parts or len(slices(pack, given_format))
        parts += [PackPart(pack, part, number) for part in range(number)]
    if len(group) == 1:
        yield from ([part] for part in parts)
    else:
        yield parts


def slices(pack: Pack, given_format: str) -> list[list[Slice]]:
    """The content of each part of a pack: a part of its only file, or all of its files."""
    all_slices = [
        (number, part)
        for number, file in enumerate(pack.files)
        for part in RecordFile.of(file.uri, given_format).parts()
    ]
    return [all_slices] if len(pack.files) > 1 else [[slice_] for slice_ in all_slices]


class JobStep(beam.DoFn):
    """A step of the feature job. It carries the data that all steps share to the workers."""

    def __init__(self, job: FeatureJob) -> None:
        self.out = job.out
        self._job = job
        self._p = job.p

    def _write(self, name: str, rows: Iterable[pa.RecordBatch]) -> None:
        # A bundle that is tried again writes the same bytes under the same name.
        storage.write_bytes(storage.join(self.out, name), batches.parquet(list(rows)))


class Read(JobStep):
    """Parts of packs of one table -> `RECORDS`, `COUNTS`, `REJECTED`."""

    @engine.fails_fast
    def process(self, parts: Sequence[PackPart]) -> Iterator[Any]:
        """Reads.

        Raises:
          BadData: a file cannot be read, or lacks a column.
        """
        counts: Counter[tuple[str, str, str, str]] = Counter()
        # Rows of several blocks, and of several small files, are cut by shard together.
        waiting: list[pl.DataFrame] = []
        for part in parts:
            for output in self._read(part):
                match output:
                    case Count():
                        if self._is_counted(part.pack, output):
                            counts[output[:-1]] += output.n
                    case Rejected():
                        # On days without examples, rejected records are only counted.
                        if part.pack.table != "events" or part.pack.day in self._job.plan.examples:
                            yield TaggedOutput(REJECTED, output)
                    case _:
                        waiting.append(self._placed(part.pack, output))
            if sum(map(len, waiting)) >= SHUFFLED_ROWS:
                yield from self._by_shard(waiting)
                waiting = []
        if waiting:
            yield from self._by_shard(waiting)
        # Summed here, because shuffling a few sums for each call is cheaper than shuffling every count.
        for key, n in counts.items():
            yield TaggedOutput(COUNTS, Count(*key, n))

    def _read(self, part: PackPart) -> Iterable[ReadOutput]:
        pack = part.pack
        if pack.table == "users":
            return (
                output
                for number, file_part in slices(pack, self._p.source.format)[part.part]
                for output in _read_records(self._job, pack.files[number], number, file_part)
            )
        if pack.stem is None:
            return _read_events(self._job, pack, part.part)
        uri = partials.part_uri(pack.stem, part.part, part.parts)
        partial = partials.find(uri, pack.files) if pack.parts else None
        if partial is None:
            return self._read_and_keep(pack, part.part, uri)
        # Users may have been forgotten while the partial was being written.
        forgotten = self._job.forgotten
        return (
            forgotten.drop(output) if isinstance(output, pl.DataFrame) else output
            for output in partial
        )

    def _read_and_keep(self, pack: Pack, part: int, uri: str) -> Iterator[ReadOutput]:
        writer = partials.PartialWriter(pack.files)
        for output in _read_events(self._job, pack, part):
            writer.add(output)
            yield output
        writer.write(uri)

    def _is_counted(self, pack: Pack, output: Count) -> bool:
        """Whether this run reports the day of a count."""
        # Partials have counts of any day, because runs of other days wrote them.
        if output.what == Counted.TYPES:
            return pack.day == self._job.plan.day
        if output.what in _OF_ALL_DAYS:
            return str(self._job.plan.first) <= output.day <= str(self._job.plan.day)
        return True

    def _placed(self, pack: Pack, rows: pl.DataFrame) -> pl.DataFrame:
        """The records of days that the run reads, with their position among all records of the table."""
        # Until here files are numbered within their pack, so that a partial does not depend on the position
        # of its pack.
        rows = rows.with_columns(pl.col(ORDER) + (pack.first << FILE_BITS))
        if pack.table != "events":
            # By this column, shards distinguish batches of users from batches of events.
            number = day_plan.number(pack.day)
            return rows.with_columns(pl.lit(number, pl.Int32).alias("_snapshot"))
        if not self._p.source.late_days:
            return rows
        first = day_plan.number(self._job.plan.first)
        return rows.filter(pl.col("_day").is_between(first, day_plan.number(self._job.plan.day)))

    def _by_shard(self, frames: list[pl.DataFrame]) -> Iterator[TaggedOutput]:
        rows = pl.concat(frames)
        shards = hashing.shards(rows["_user"], self._p.beam.shards)
        for shard, part in batches.slices(shards, rows):
            batch = batches.spill(batches.to_batch(part), self._job.out)
            yield TaggedOutput(RECORDS, (shard, batch))


_USER_DAY = ("_user", "_day")
# Column with the user's number of events of the day in earlier blocks. Features may have the name `before`.
_BEFORE = "_before"
# Users with more events in a block are counted across blocks. For other users that does not pay off.
_WATCHED = 100


class UserEventLimit:
    """Drops events beyond the limit within a part of a file, whose blocks come in order."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: Counter[tuple[str, int]] = Counter()

    def take(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows of a block, with `_user` and `_day`, that are within the limit so far."""
        # Users with few events in a block are not counted, so blocks of ordinary users cost nothing.
        # `user_shard.within` drops the excess that remains.
        many = pl.col("n") > min(_WATCHED, self._most)
        counts = rows.group_by(_USER_DAY).len("n").filter(many)
        if counts.is_empty():
            return rows
        before = [self._counts[user_day] for user_day in counts.select(_USER_DAY).iter_rows()]
        self._counts.update({(user, day): n for user, day, n in counts.iter_rows()})
        counted = rows.join(
            counts.with_columns(pl.Series(_BEFORE, before)),
            on=_USER_DAY,
            how="left",
            maintain_order="left",
        )
        position = pl.int_range(pl.len()).over(_USER_DAY) + pl.col(_BEFORE)
        return counted.filter((position < self._most).fill_null(True)).select(rows.columns)


def _read_events(job: FeatureJob, pack: Pack, part: int) -> Iterator[ReadOutput]:
    """Reads a part of a pack of events, without those of forgotten users.

    Yields:
      Events of the types that are used, with `_order`, as if the pack's were the only files, and
      `_day`, the number of the day that they belong to; counts; rejected records.
    """
    types = relevant_types(job.p)
    for number, file_part in slices(pack, job.p.source.format)[part]:
        file = pack.files[number]
        # One limit for each part of a file, because other workers read the other parts at the same time.
        limit = UserEventLimit(job.p.source.max_user_events)
        for output in _read_records(job, file, number, file_part):
            if isinstance(output, pl.DataFrame):
                yield from _relevant(job.p, file, output, types, limit)
            else:
                yield output


def _read_records(
    job: FeatureJob, file: day_files.SourceFile, number: int, part: int | None
) -> Iterator[ReadOutput]:
    """Reads a part of a file, the one of this number in its pack: records that break no rule and are
    not of forgotten users; counts; the first rejected records.
    """
    account = records.Account()
    yield from records.read_records(
        job.p,
        file,
        job.columns[file.table],
        account,
        number=number,
        part=part,
        forgotten=job.forgotten,
    )
    # At the end, because the account is complete only after the last record.
    yield count_of(file, Counted.GOOD, account.good)
    yield count_of(file, Counted.PARTS, 1)
    for kind, n in account.misplaced.items():
        yield count_of(file, Counted(kind), n)
    for reason, n in account.reasons.items():
        yield count_of(file, Counted.REJECTED, n, reason)
    for column in account.absent:
        yield count_of(file, Counted.ABSENT, 1, column.use)
    yield from account.rejected


def _relevant(
    p: Pipeline,
    file: day_files.SourceFile,
    rows: pl.DataFrame,
    types: set[str],
    limit: UserEventLimit,
) -> Iterator[ReadOutput]:
    """The events of types that are used, with the day that they belong to; counts of the others."""
    folder_day = day_plan.number(file.day)
    rows = rows.with_columns(pl.lit(folder_day, pl.Int32).alias("_day"))
    if p.source.late_days:
        rows = rows.with_columns(_calendar_day(p, file.day, rows["_time"]))
        yield from _by_day(Counted.STRAGGLERS, rows.filter(pl.col("_day") < folder_day))
    if "_type" in rows.columns:
        for event_type, n in rows["_type"].value_counts().iter_rows():
            yield count_of(file, Counted.TYPES, n, event_type or "")
    # Dropped as early as possible, so that other types are neither shuffled nor stored.
    if "_type" in rows.columns and types:
        rows = rows.filter(pl.col("_type").is_in(list(types)))
    within_limit = limit.take(rows)
    if len(within_limit) < len(rows):
        yield from _by_day(Counted.EXCESS, rows.join(within_limit, on="_order", how="anti"))
    yield within_limit


def _calendar_day(p: Pipeline, folder_day: date, times: pl.Series) -> pl.Series:
    """The number of each event's calendar day, as `_day`."""
    # Starts of the days that events of this folder may belong to, oldest first. An event's day is the last
    # day that starts at or before its time.
    days_before = range(p.source.late_days, -1, -1)
    starts = [day_plan.start_of(folder_day - timedelta(days=n), p.zone) for n in days_before]
    begun = np.searchsorted(starts, times.to_numpy(), side="right")
    return pl.Series("_day", day_plan.number(folder_day) - len(starts) + begun, pl.Int32)


def _by_day(kind: Counted, rows: pl.DataFrame) -> Iterator[Count]:
    """Counts of events by the day that they belong to."""
    for day, n in rows["_day"].value_counts().iter_rows():
        yield count(kind, "events", day_plan.date_of(day), n)
