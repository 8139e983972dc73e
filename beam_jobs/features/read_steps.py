"""The step that reads files of logs and of users' snapshots, and gives records by the shard of
their user.

Records that an earlier run has read come from its partials. Records that this run reads are stored
in new partials (event_packs.py).

`process` of steps with tagged outputs yields `Any`: Beam reads its annotation, and takes the types
of tagged outputs from job_graph.py.

A partial is one file:

Arrow stream   the events, batch by batch, compressed by zstd
JSON           counts, and rejected records, whose files are numbers within the pack
8 bytes        length of the JSON, little-endian
32 bytes       SHA-256 of all that (twinspire_core/contracts/attempts.py)
"""

import functools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, TypeAlias

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput

from beam_jobs import day_plan, hashing
from beam_jobs.beam import batches, engine
from beam_jobs.features.event_packs import Pack, PackPart, slices
from beam_jobs.features.report import Count, Counted, count, count_of
from beam_jobs.ingest import day_files, records
from beam_jobs.ingest.records import FILE_BITS, KEPT_PER_FILE, ORDER, RecordChecker, Rejected
from beam_jobs.point_in_time.job import FeatureJob
from beam_jobs.point_in_time.user_shard import UserEventLimit, relevant_types
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts, forgotten_users

RECORDS = "records"
"""(shard, batch): events or users."""
COUNTS = "counts"
"""Counts to be added up, see report.py."""
REJECTED = "rejected"
"""Records that break a rule, to be written down."""
SHUFFLED_ROWS = 250_000
"""Rows that are cut by shard at a time: of fewer, each shard's batch would be some hundred rows."""
# The counts that files of a folder may have for earlier days, too.
_OF_ALL_DAYS = {Counted.STRAGGLERS, Counted.EXCESS}
_LENGTH_BYTES = 8
# A stream has some thousand rows: starting threads takes longer than unpacking them.
_ONE_THREAD = pa.ipc.IpcReadOptions(use_threads=False)
_PRESSED = pa.ipc.IpcWriteOptions(compression="zstd")
ReadOutput: TypeAlias = pl.DataFrame | Count | Rejected
"""What reading gives: good records, counts, or a record that breaks a rule."""


class JobStep(beam.DoFn):
    """A step of the feature job, which carries what all steps have in common to the workers."""

    def __init__(self, job: FeatureJob) -> None:
        self.out = job.out
        self._job = job
        self._p = job.p


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
                        # Of days without examples, rejected records are only counted.
                        if part.pack.table != "events" or part.pack.day in self._job.plan.examples:
                            yield TaggedOutput(REJECTED, output)
                    case _:
                        waiting.append(self._placed(part.pack, output))
            if sum(map(len, waiting)) >= SHUFFLED_ROWS:
                yield from self._by_shard(waiting)
                waiting = []
        if waiting:
            yield from self._by_shard(waiting)
        # Added up here, as a shuffle of a few counts for each call is cheaper than of each count.
        for thing, n in counts.items():
            yield TaggedOutput(COUNTS, Count(*thing, n))

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
        uri = attempts.partial_uri(pack.stem, part.part, part.parts)
        # None as well if the file is gone, or damaged.
        content = attempts.read_partial(uri) if pack.parts else None
        if content is None:
            return self._read_and_keep(pack, part.part, uri)
        # Somebody may have been forgotten while the partial was being written.
        forgotten = self._job.forgotten
        kept = _kept(content, pack)
        return (
            forgotten.drop(output) if isinstance(output, pl.DataFrame) else output
            for output in kept
        )

    def _read_and_keep(self, pack: Pack, part: int, uri: str) -> Iterator[ReadOutput]:
        writer = _PartialWriter(pack)
        for output in _read_events(self._job, pack, part):
            writer.add(output)
            yield output
        writer.write(uri)

    def _is_counted(self, pack: Pack, output: Count) -> bool:
        """Whether a count is of a day that this run reports."""
        if output.what == Counted.TYPES:
            return pack.day == self._job.plan.day
        if output.what in _OF_ALL_DAYS:
            return str(self._job.plan.first) <= output.day <= str(self._job.plan.day)
        return True

    def _placed(self, pack: Pack, rows: pl.DataFrame) -> pl.DataFrame:
        """The records of days that the run reads, with their place among all records of the table."""
        rows = rows.with_columns(pl.col(ORDER) + (pack.first << FILE_BITS))
        if pack.table != "events":
            # Shards tell batches of users from batches of events by this column.
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


def _read_events(job: FeatureJob, pack: Pack, part: int) -> Iterator[ReadOutput]:
    """Reads a part of a pack of events, without those of forgotten users.

    Yields:
      Events of the types that are used, with `_order`, as if the pack's were the only files, and
      `_day`, the number of the day that they belong to; counts; rejected records.
    """
    types = relevant_types(job.p)
    for number, file_part in slices(pack, job.p.source.format)[part]:
        file = pack.files[number]
        # One for each part of a file: other parts are read elsewhere, at the same time.
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
    wanted = job.columns[file.table]
    checker = RecordChecker(job.p, file, number, wanted)
    room = KEPT_PER_FILE
    for block in records.read_blocks(job.p.source.format, file, part, wanted):
        if isinstance(block, Rejected):
            # A line that cannot be read names no user, so it may be about a forgotten one.
            rejected = [block._replace(value=forgotten_users.WITHHELD) if job.forgotten else block]
            reasons: Mapping[str, int] = {block.reason: 1}
        else:
            checked = checker.take(block)
            rejected = checked.rejected
            reasons = checked.reasons
            yield count_of(file, Counted.GOOD, len(checked.good))
            for what, n in checked.misplaced.items():
                yield count_of(file, Counted(what), n)
            yield job.forgotten.drop(checked.good)
        for reason, n in reasons.items():
            yield count_of(file, Counted.REJECTED, n, reason)
        yield from rejected[:room]
        room = max(0, room - len(rejected))
    for column in checker.close():
        yield count_of(file, Counted.ABSENT, 1, column.use)
    yield count_of(file, Counted.PARTS, 1)


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
    # Dropped as early as possible, so that other types are neither shuffled nor kept.
    if "_type" in rows.columns and types:
        rows = rows.filter(pl.col("_type").is_in(list(types)))
    within_limit = limit.take(rows)
    if len(within_limit) < len(rows):
        yield from _by_day(Counted.EXCESS, rows.join(within_limit, on="_order", how="anti"))
    yield within_limit


def _calendar_day(p: Pipeline, folder_day: date, times: pl.Series) -> pl.Series:
    """The number of each event's calendar day, as `_day`."""
    # Starts of the days that events of this folder may belong to, oldest first. An event's day is the
    # last one that has begun by its time.
    days_before = range(p.source.late_days, -1, -1)
    starts = [day_plan.start_of(folder_day - timedelta(days=n), p.zone) for n in days_before]
    begun = np.searchsorted(starts, times.to_numpy(), side="right")
    return pl.Series("_day", day_plan.number(folder_day) - len(starts) + begun, pl.Int32)


def _by_day(what: Counted, rows: pl.DataFrame) -> Iterator[Count]:
    """Counts of events by the day that they belong to."""
    for day, n in rows["_day"].value_counts().iter_rows():
        yield count(what, "events", day_plan.date_of(day), n)


class _PartialWriter:
    """Collects what is read of a part of a pack, compressed in memory, and writes it to a file."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._sink = pa.BufferOutputStream()
        self._stream: pa.ipc.RecordBatchStreamWriter | None = None
        self._counts: Counter[tuple[str, str, str, str]] = Counter()
        self._rejected: list[Rejected] = []

    def add(self, output: ReadOutput) -> None:
        match output:
            case Count():
                self._counts[output[:-1]] += output.n
            case Rejected():
                self._rejected.append(output)
            case _:
                batch = batches.to_batch(output)
                if self._stream is None:
                    self._stream = pa.ipc.new_stream(self._sink, batch.schema, options=_PRESSED)
                self._stream.write_batch(batch)

    def write(self, uri: str) -> None:
        """Writes the file, unless the logs have changed since they were digested."""
        if not _is_unchanged(self._pack):
            return  # what was read is not what the key says
        if self._stream is not None:
            self._stream.close()
        number_of = {file.uri: number for number, file in enumerate(self._pack.files)}
        rejected = [
            (number_of[record.file], record.row, record.reason, record.value)
            for record in self._rejected
        ]
        # Sorted: bytes do not depend on the order in which counts came.
        counts = [(*thing, n) for thing, n in sorted(self._counts.items())]
        account = json.dumps({"counts": counts, "rejected": rejected}).encode()
        length = len(account).to_bytes(_LENGTH_BYTES, "little")
        attempts.write_partial(uri, b"".join([self._sink.getvalue().to_pybytes(), account, length]))


def _is_unchanged(pack: Pack) -> bool:
    """Whether the files, which are of one folder, have the digests that they were listed with."""
    first = pack.files[0]
    folder = first.uri.removesuffix(f"/{first.name}")
    listed = {file.uri: file for file in storage.list_files(folder)}
    return all(
        file.uri in listed and _digest(listed[file.uri]) == file.digest for file in pack.files
    )


# Each part of a large file asks for its digest. Size and time are in the key, as the folder lists them,
# so a file that was written again is digested again.
@functools.lru_cache(maxsize=1024)
def _digest(file: storage.FileInfo) -> str:
    # An object store keeps digests of its own kind; a disk keeps none.
    return file.digest or storage.file_digest(file.uri)


def _kept(content: memoryview, pack: Pack) -> Iterator[ReadOutput]:
    """What a partial holds of a part of a pack."""
    end = len(content) - _LENGTH_BYTES
    start = end - int.from_bytes(content[end:], "little")
    account = json.loads(bytes(content[start:end]))
    yield from (Count(*fields) for fields in account["counts"])
    for number, *fields in account["rejected"]:
        yield Rejected.of(pack.files[number], *fields)
    if not start:
        return
    with pa.ipc.open_stream(content[:start], options=_ONE_THREAD) as stream:
        frames = [pl.DataFrame(pl.from_arrow(batch)) for batch in stream]
    # Most streams have one batch, which `concat` would copy.
    yield frames[0] if len(frames) == 1 else pl.concat(frames)
