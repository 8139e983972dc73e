"""What was read of events, kept as a file for later runs.

Arrow stream   the events, batch by batch, pressed by zstd
JSON           counts, and rejected records, whose files are numbers within the pack
8 bytes        length of the JSON, little-endian
32 bytes       SHA-256 of all that (twinspire_core/contracts/partials.py)
"""

import functools
import json
from collections import Counter
from collections.abc import Iterable, Iterator

import polars as pl
import pyarrow as pa

from beam_jobs.beam import batches
from beam_jobs.features.counters import Count
from beam_jobs.features.event_packs import Found, Pack
from beam_jobs.ingest.record_blocks import Rejected
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
