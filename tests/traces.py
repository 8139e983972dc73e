"""Searches whole trees of files for bytes, unpacked: no list of places that somebody could forget to
add to.
"""

import gzip
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def holders(root: Path, wanted: str) -> list[str]:
    """Files below `root`, by their path there, whose name or unpacked content holds a text."""
    text = wanted.encode()
    return sorted(
        str(file.relative_to(root))
        for file in root.rglob("*")
        if text in str(file.relative_to(root)).encode()
        or (file.is_file() and any(text in part for part in _unpacked(file.read_bytes())))
    )


def _unpacked(raw: bytes) -> Iterator[bytes]:
    if raw.startswith(b"PAR1"):
        file = pq.ParquetFile(pa.BufferReader(raw))
        # The footer names the smallest and the largest value of each column
        yield str(file.metadata.to_dict()).encode()
        yield from _values(file.read())
    elif raw.startswith(b"ARROW1"):
        yield from _values(pa.ipc.open_file(raw).read_all())
    elif raw.startswith(b"\xff\xff\xff\xff"):
        stream = pa.BufferReader(raw)
        yield from _values(pa.ipc.open_stream(stream).read_all())
        yield stream.read()
    elif raw.startswith(b"\x1f\x8b"):
        yield from _unpacked(gzip.decompress(raw))
    elif raw.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(pa.BufferReader(raw)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield archive.read(name)
    else:
        yield raw


def _values(table: pa.Table) -> Iterator[bytes]:
    """All buffers of a table, also entries of dictionaries that no row points to."""
    yield str(table.schema).encode()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    yield sink.getvalue().to_pybytes()
