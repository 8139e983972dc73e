"""Steps that read: files of logs and of users' snapshots -> records, by shard of their user.

What earlier runs read of logs is taken up from their partials, and what this run reads of them is
kept as such (event_packs.py).

`process` of steps with tagged outputs yields `Any`: Beam reads its annotation, and takes the types
of tagged outputs from job_graph.py.

A partial is one file:

Arrow stream   the events, batch by batch, pressed by zstd
JSON           counts, and rejected records, whose files are numbers within the pack
8 bytes        length of the JSON, little-endian
32 bytes       SHA-256 of all that (twinspire_core/contracts/partials.py)
"""

import functools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import polars as pl
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput

from beam_jobs import day_plan, hashing
from beam_jobs.beam import batches
from beam_jobs.beam.failures import fails_fast
from beam_jobs.features import event_packs
from beam_jobs.features.counters import Count, Counted
from beam_jobs.features.event_packs import Found, Pack, PackPart
from beam_jobs.ingest import columns
from beam_jobs.ingest.record_blocks import Rejected
from beam_jobs.ingest.records import FILE_BITS, ORDER
from beam_jobs.point_in_time.job import FeatureJob
from twinspire_core import storage
from twinspire_core.contracts import partials
from twinspire_core.storage import FileInfo

_LENGTH_BYTES = 8
# Of some thousand rows; to start threads for them takes longer than to unpack them.
_ONE_THREAD = pa.ipc.IpcReadOptions(use_threads=False)
_PRESSED = pa.ipc.IpcWriteOptions(compression="zstd")


class PartialWriter:
    """Collects what is read of a part of a pack, compressed in memory, and writes it to a file."""

    def __init__(self, pack: Pack) -> None:
        """Of nothing yet."""
        self._pack = pack
        self._sink = pa.BufferOutputStream()
        self._stream: pa.ipc.RecordBatchStreamWriter | None = None
        self._counts: Counter[tuple[str, str, str, str]] = Counter()
        self._rejected: list[Rejected] = []

    def add(self, piece: Found) -> None:
        """Adds what was found next."""
        match piece:
            case Count():
                self._counts[piece[:-1]] += piece.n
            case Rejected():
                self._rejected.append(piece)
            case _:
                batch = batches.to_batch(piece)
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
        told = json.dumps({"counts": counts, "rejected": rejected}).encode()
        length = len(told).to_bytes(_LENGTH_BYTES, "little")
        partials.write(uri, b"".join([self._sink.getvalue().to_pybytes(), told, length]))


def _is_unchanged(pack: Pack) -> bool:
    """Whether the files, which are of one folder, have the digests that they were listed with."""
    some = pack.files[0]
    folder = some.uri.removesuffix(f"/{some.name}")
    listed = {file.uri: file for file in storage.list_files(folder)}
    return all(
        file.uri in listed and _digest(listed[file.uri]) == file.digest for file in pack.files
    )


# A large file is asked of once for each of its parts. Size and time are in what a folder's list says
# of it, so that one which was written again is digested again.
@functools.lru_cache(maxsize=1024)
def _digest(file: FileInfo) -> str:
    # An object store keeps digests of its own kind; a disk keeps none.
    return file.digest or storage.file_digest(file.uri)


def load(uri: str, pack: Pack) -> Iterable[Found] | None:
    """What was read of a part of a pack; None if its file is not there, or damaged."""
    content = partials.read(uri)
    if content is None:
        return None
    return _found(content, pack)


def _found(content: memoryview, pack: Pack) -> Iterator[Found]:
    end = len(content) - _LENGTH_BYTES
    start = end - int.from_bytes(content[end:], "little")
    told = json.loads(bytes(content[start:end]))
    yield from (Count(*fields) for fields in told["counts"])
    for number, *fields in told["rejected"]:
        yield Rejected.of(pack.files[number], *fields)
    if not start:
        return
    with pa.ipc.open_stream(content[:start], options=_ONE_THREAD) as stream:
        frames = [pl.DataFrame(pl.from_arrow(batch)) for batch in stream]
    # Most have one batch, and a frame of its own that is put together is copied.
    yield frames[0] if len(frames) == 1 else pl.concat(frames)


RECORDS = "records"
"""(shard, batch): events or users."""
COUNTS = "counts"
"""Counts to be added up, see counters.py."""
REJECTED = "rejected"
"""Records that are written down because they break a rule."""

SHUFFLED_ROWS = 250_000
"""Rows that are cut by shard at a time: of fewer, each shard's batch would be some hundred rows."""
_OF_ALL_DAYS = {Counted.STRAGGLERS, Counted.EXCESS}
"""What a folder's files may count of days before it."""


def plan_packs(job: FeatureJob) -> list[list[Pack]]:
    """All that a run reads, in groups that are read together."""
    events = event_packs.packed(job.inputs.events.values())
    if job.partials is not None:
        events = event_packs.with_partials(job.p, events, job.partials)
    # Late events come after all others in the order of the logs. Only some files of their folders
    # are read, so that what is read is kept when the folder's own day is run.
    number = sum(len(pack.files) for pack in events)
    late = event_packs.packed(job.late.files.values())
    events += [pack._replace(first=number + pack.first) for pack in late]
    users = event_packs.packed(job.inputs.users.values())
    return event_packs.together([*events, *users])


class Read(beam.DoFn):
    """Parts of packs of one table -> `RECORDS`, `COUNTS`, `REJECTED`."""

    def __init__(self, job: FeatureJob) -> None:
        self.out = job.out
        self._job = job
        self._p = job.p

    @fails_fast
    def process(self, parts: Sequence[PackPart]) -> Iterator[Any]:
        """Reads.

        Raises:
          BadData: a file cannot be read, or lacks a column.
        """
        counts: Counter[tuple[str, str, str, str]] = Counter()
        # Rows of several blocks, and of several small files, are cut by shard together.
        waiting: list[pl.DataFrame] = []
        for part in parts:
            for found in self._read(part):
                match found:
                    case Count():
                        if self._is_counted(part.pack, found):
                            counts[found[:-1]] += found.n
                    case Rejected():
                        if self._is_written_down(part.pack):
                            yield TaggedOutput(REJECTED, found)
                    case _:
                        waiting.append(self._placed(part.pack, found))
            if sum(map(len, waiting)) >= SHUFFLED_ROWS:
                yield from self._by_shard(waiting)
                waiting = []
        if waiting:
            yield from self._by_shard(waiting)
        for thing, n in counts.items():
            yield TaggedOutput(COUNTS, Count(*thing, n))

    def _read(self, part: PackPart) -> Iterable[Found]:
        pack = part.pack
        if pack.table == "users":
            return self._read_users(pack, part.part)
        if pack.stem is None:
            return event_packs.read_events(self._p, pack, part.part, self._job.forgotten)
        uri = partials.uri(pack.stem, part.part, part.parts)
        kept = load(uri, pack) if pack.parts else None
        if kept is not None:
            return self._without_forgotten(kept)
        return self._read_and_keep(pack, part.part, uri)

    def _without_forgotten(self, kept: Iterable[Found]) -> Iterator[Found]:
        """What was kept, in case somebody was forgotten while it was being read."""
        for found in kept:
            yield self._job.forgotten.drop(found) if isinstance(found, pl.DataFrame) else found

    def _read_and_keep(self, pack: Pack, part: int, uri: str) -> Iterator[Found]:
        writer = PartialWriter(pack)
        for found in event_packs.read_events(self._p, pack, part, self._job.forgotten):
            writer.add(found)
            yield found
        writer.write(uri)

    def _read_users(self, pack: Pack, part: int) -> Iterator[Found]:
        wanted = columns.users(self._p)
        for number, file_part in event_packs.slices(pack, self._p.source.format)[part]:
            yield from event_packs.read_records(
                self._p, pack.files[number], number, file_part, wanted, self._job.forgotten
            )

    def _is_counted(self, pack: Pack, found: Count) -> bool:
        """Whether a count is of a day that it matters of to this run."""
        if found.what == Counted.TYPES:
            return pack.day == self._job.plan.day
        if found.what in _OF_ALL_DAYS:
            return str(self._job.plan.first) <= found.day <= str(self._job.plan.day)
        return True

    def _is_written_down(self, pack: Pack) -> bool:
        """Whether rejected records are written down; of days without examples they are counted."""
        return pack.table != "events" or pack.day in self._job.plan.examples

    def _placed(self, pack: Pack, rows: pl.DataFrame) -> pl.DataFrame:
        """The records that the run looks at, in their place among all of their table."""
        rows = rows.with_columns(pl.col(ORDER) + (pack.first << FILE_BITS))
        if pack.table != "events":
            # Beside `_day`, by which events are known, the shards tell users' rows by `_snapshot`.
            number = day_plan.number(pack.day)
            return rows.with_columns(pl.lit(number, pl.Int32).alias("_snapshot"))
        if not self._p.source.late_days:
            return rows
        first = day_plan.number(self._job.plan.first)
        last = day_plan.number(self._job.plan.day)
        return rows.filter(pl.col("_day").is_between(first, last))

    def _by_shard(self, frames: list[pl.DataFrame]) -> Iterator[TaggedOutput]:
        rows = pl.concat(frames)
        shards = hashing.shards(rows["_user"], self._p.beam.shards)
        for shard, part in batches.slices(shards, rows):
            batch = batches.spill(batches.to_batch(part), self._job.out)
            yield TaggedOutput(RECORDS, (shard, batch))
