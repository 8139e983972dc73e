"""The file that the lists for a file of requests go to: it appears when it is complete."""

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from twinspire_core import storage
from twinspire_core.errors import UsageError

_ENDINGS = (".jsonl", ".parquet")
_SCHEMA = pa.schema(
    [("user", pa.string()), ("items", pa.list_(pa.string())), ("scores", pa.list_(pa.float32()))]
)
_SOURCES = pa.field("sources", pa.list_(pa.string()))


def output(out: str | None) -> AbstractContextManager[Path]:
    """A local file to write to, which becomes `out`, or standard output, if the block ends well.

    Raises:
      UsageError: its ending says no format, or it is a folder.
    """
    return _appearing(out) if out else _to_standard_output()


@contextmanager
def _to_standard_output() -> Iterator[Path]:
    """A local file that is copied there if the block ends well: whoever reads gets all lists or
    none.
    """
    with tempfile.TemporaryDirectory(prefix="twinspire-recs-") as scratch:
        file = Path(scratch, "recs.jsonl")
        yield file
        try:
            with file.open("rb") as lines:
                shutil.copyfileobj(lines, sys.stdout.buffer)
            sys.stdout.flush()
        except BrokenPipeError:
            # `head` has seen enough. Python must not complain when it closes the pipe at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _appearing(uri: str) -> Iterator[Path]:
    """A local file that becomes `uri` if the block ends well, and vanishes if it does not."""
    if not uri.endswith(_ENDINGS):
        raise UsageError(
            f"The ending of the output says its format, {' or '.join(_ENDINGS)}; found {uri}."
        )
    if storage.is_remote(uri):
        folder, name = uri.rsplit("/", 1)
        with tempfile.TemporaryDirectory(prefix="twinspire-recs-") as scratch:
            yield Path(scratch, name)
            storage.upload_tree(Path(scratch), folder)
        return
    place = Path(uri)
    if place.is_dir():
        raise UsageError(f"The output is a file; {uri} is a folder.")
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch_file = place.with_name(f".tmp-{secrets.token_hex(4)}-{place.name}")
    try:
        yield scratch_file
        os.replace(scratch_file, place)
    finally:
        scratch_file.unlink(missing_ok=True)


@contextmanager
def writing(file: Path, *, sources: bool) -> Iterator[Callable[[pa.Table], None]]:
    """Yields what appends rows of `user`, `items`, `scores`, and perhaps `sources`.

    Args:
      file: of `output`; its ending says the format.
      sources: whether each item's source is a column.
    """
    if file.suffix == ".parquet":
        schema = _SCHEMA.append(_SOURCES) if sources else _SCHEMA
        with pq.ParquetWriter(file, schema, compression="zstd") as table:
            yield lambda results: table.write_table(results.cast(schema))
    else:
        with file.open("wb") as lines:
            yield lambda results: pl.DataFrame(pl.from_arrow(results)).write_ndjson(lines)
