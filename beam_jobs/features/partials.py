"""Partials: parsed logs that earlier runs stored for the runs of later days.

    <work_root>/<pipeline>/partials/dt=D/events-<key>-<part>-of-<parts>.arrow

Any run may write a partial, and any run may use it. Invariants:
  1. The key is the digest of all inputs that determine the content: the digests of the files, the settings,
  the format. So a partial is never stale and never changed.
  2. No key of a stage depends on partials: the output is the same without them.
  3. A file ends with a digest of its content. A damaged partial counts as missing, and is made again.
docs/decisions/0008-feature-job.md

A partial is one file:

Arrow stream   the events, batch by batch, compressed by zstd
JSON           counts, and rejected records, whose files are numbered within the pack
8 bytes        length of the JSON, little-endian
32 bytes       SHA-256 of all of the above
"""

import functools
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TypeAlias

import polars as pl
import pyarrow as pa

from beam_jobs.beam import batches
from beam_jobs.features.report import Count
from beam_jobs.ingest.day_files import SourceFile
from beam_jobs.ingest.records import Rejected
from beam_jobs.point_in_time.job import FeatureJob
from beam_jobs.point_in_time.user_shard import relevant_types
from twinspire_core import storage
from twinspire_core.records.raw_files import format_of

FORMAT = 1
"""Format of the partials. Raise it when the same logs give different partials."""
_PART = re.compile(r"(?P<stem>.+)-(?P<part>\d+)-of-(?P<parts>\d+)\.arrow")
_SEAL_BYTES = 32
_LENGTH_BYTES = 8
# A stream has some thousand rows, and starting threads would take longer than decompressing them.
_ONE_THREAD = pa.ipc.IpcReadOptions(use_threads=False)
_PRESSED = pa.ipc.IpcWriteOptions(compression="zstd")
ReadOutput: TypeAlias = pl.DataFrame | Count | Rejected
"""Results of reading: good records, counts, or a record that breaks a rule."""


class Partials:
    """The partials that exist when a run is planned."""

    def __init__(self, job: FeatureJob, folder: str) -> None:
        p = job.p
        self._format = p.source.format
        self._folder = folder
        # All settings of the pipeline file on which reading events depends.
        self._settings = {
            "format": FORMAT,
            "columns": [repr(column) for column in job.columns["events"]],
            "reward_clip": p.columns.reward_clip,
            "types": sorted(relevant_types(p)),
            "time_zone": p.pipeline.time_zone,
            "late_days": p.source.late_days,
            "max_user_events": p.source.max_user_events,
        }
        # Listed once for all packs, because listing an object store needs a request for each thousand files.
        self._parts_by_stem = whole_partials(folder)

    def of(self, files: Sequence[SourceFile]) -> tuple[str | None, int]:
        """The stem of the URIs of the partial for files of a day, None if they can have no partial; and the
        number of its parts, 0 if no run has written it yet.
        """
        # A file that arrived while the run was planned has no digest, so there is no key.
        if any(file.digest is None for file in files):
            return None, 0
        # By content and format: the path of a file does not matter, but its ending decides how it is read.
        forms = [
            (file.digest, format_of(file.uri, self._format), file.uri.endswith(".gz"))
            for file in files
        ]
        # The day is part of the key, because the folder decides whether an event is late.
        facts = {**self._settings, "day": str(files[0].day), "files": forms}
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
        stem = storage.join(self._folder, f"dt={files[0].day}", f"events-{key}")
        return stem, self._parts_by_stem.get(stem, 0)


def whole_partials(folder: str) -> dict[str, int]:
    """The partials of a folder that are complete: the number of parts of each, by stem."""
    # Also by the number of parts, because files of an earlier, different split may remain.
    present: dict[tuple[str, int], set[int]] = defaultdict(set)
    for file in storage.list_files(folder):
        if match := _PART.fullmatch(file.path):
            present[match["stem"], int(match["parts"])].add(int(match["part"]))
    return {
        storage.join(folder, stem): parts
        for (stem, parts), numbers in sorted(present.items())
        if numbers == set(range(parts))
    }


def part_uri(stem: str, part: int, parts: int) -> str:
    """The file of a part, counted from 0."""
    return f"{stem}-{part}-of-{parts}.arrow"


class PartialWriter:
    """Collects the records of a part of a pack, compressed in memory, and writes them to a file."""

    def __init__(self, files: Sequence[SourceFile]) -> None:
        self._files = files
        self._sink = pa.BufferOutputStream()
        self._stream: pa.ipc.RecordBatchStreamWriter | None = None
        self._counts: Counter[tuple[str, str, str, str]] = Counter()
        self._rejected: list[Rejected] = []

    def add(self, output: ReadOutput) -> None:
        """Adds a result of reading, in order."""
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
        if not _are_unchanged(self._files):
            return  # the records do not match the key
        if self._stream is not None:
            self._stream.close()
        number_of = {file.uri: number for number, file in enumerate(self._files)}
        rejected = [
            (number_of[record.file], record.row, record.reason, record.value)
            for record in self._rejected
        ]
        # Sorted, so that the bytes do not depend on the order of the counts.
        counts = [(*key, n) for key, n in sorted(self._counts.items())]
        account = json.dumps({"counts": counts, "rejected": rejected}).encode()
        length = len(account).to_bytes(_LENGTH_BYTES, "little")
        content = b"".join([self._sink.getvalue().to_pybytes(), account, length])
        # Two runs that write the same file write the same content, so the order does not matter.
        storage.write_bytes(uri, content + hashlib.sha256(content).digest())


def _are_unchanged(files: Sequence[SourceFile]) -> bool:
    """Whether the files, which are of one folder, have the digests that they were listed with."""
    first = files[0]
    folder = first.uri.removesuffix(f"/{first.name}")
    listed = {file.uri: file for file in storage.list_files(folder)}
    return all(file.uri in listed and _digest(listed[file.uri]) == file.digest for file in files)


# Every part of a large file needs the file's digest, so digests are cached by listed size and time. A file
# that was written again is digested again.
@functools.lru_cache(maxsize=1024)
def _digest(file: storage.FileInfo) -> str:
    # Object stores keep digests of different kinds; a disk keeps none.
    return file.digest or storage.file_digest(file.uri)


def find(uri: str, files: Sequence[SourceFile]) -> list[ReadOutput] | None:
    """The content of a partial for a part of these files; None if it is missing or damaged."""
    try:
        # A view, because partials are large and slicing bytes would copy them.
        sealed = memoryview(storage.read_bytes(uri))
    except FileNotFoundError:
        return None  # deleted by a prune meanwhile
    content = sealed[:-_SEAL_BYTES]
    if hashlib.sha256(content).digest() != sealed[-_SEAL_BYTES:]:
        return None
    end = len(content) - _LENGTH_BYTES
    start = end - int.from_bytes(content[end:], "little")
    account = json.loads(bytes(content[start:end]))
    outputs: list[ReadOutput] = [Count(*fields) for fields in account["counts"]]
    outputs += [Rejected.of(files[number], *fields) for number, *fields in account["rejected"]]
    if start:
        with pa.ipc.open_stream(content[:start], options=_ONE_THREAD) as stream:
            frames = [pl.DataFrame(pl.from_arrow(batch)) for batch in stream]
        # Most streams have one batch, which `concat` would copy.
        outputs.append(frames[0] if len(frames) == 1 else pl.concat(frames))
    return outputs
