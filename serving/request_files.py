"""Answers a whole file of requests, thousands of lines at a time, so that memory stays bounded. The output
file appears only when it is complete.
"""

import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from model.data.prefetch import prefetched
from serving.answers.answer import Answer
from serving.answers.recommend import recommend
from serving.requests.json_values import Refused
from serving.requests.query_rows import Requests
from serving.requests.request_model import USER, ListRequest
from serving.version.loaded_version import Version
from twinspire_core import storage
from twinspire_core.config.source_registry import RANKED
from twinspire_core.errors import BadData, UsageError, with_full_stop
from twinspire_core.records.json_lines import NumberedLines
from twinspire_core.records.raw_files import CONTENT_ERRORS
from twinspire_core.records.record_file import RecordFile
from twinspire_core.storage import disk
from twinspire_core.terminal import doing

BATCH = 2048  # lines answered at a time
_SHOWN = 200  # characters of a line in a message
_WARNINGS = 5  # the most that are reported
_MANY = 100  # lines for which compiling a ranker is worth its time
_ENDINGS = (".jsonl", ".parquet")
# Counts over all lists: answered lines, lists that are too short, lists with too few new items,
# lists that needed a wider search, and lines of unknown users.
_COUNTED = ("queries", "short", "few_new", "widened", "unknown_users")
_SCHEMA = pa.schema(
    [
        ("user", pa.string()),
        ("items", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float32())),
        ("sources", pa.list_(pa.string())),
    ]
)


def recommend_lines(
    version: Version,
    queries: str,
    out: str | None,
    options: ListRequest,
    *,
    now: datetime | None = None,
) -> dict[str, Any]:
    """Answers every line of a file, in its order, with `{"user", "items", "scores", "sources"}`: for each
    item, its score and the source that contributed most.

    Args:
      queries: JSON Lines, also gzipped, local or in an object store, with a request per line
        (serving/requests/request_model.py).
      out: `.jsonl` or `.parquet`, local or in an object store; None is JSON lines on standard output.
      now: the time of all requests, in the pipeline's time zone; by default the present.

    Returns: counts, speed, and warnings about filters.

    Raises:
      BadData: a line is wrong; then nothing is written.
      UsageError: a file cannot be read or written as asked.
    """
    started = time.monotonic()
    counts = Counter(dict.fromkeys(_COUNTED, 0))
    warnings: dict[str, None] = {}  # distinct, in order of appearance
    requests = Requests(version.pipeline)
    source = version.choose_source(options.source)
    now = now or datetime.now(version.pipeline.zone)
    ids = version.items["_item"].combine_chunks()
    parquet = out is not None and out.endswith(".parquet")
    with (
        _local(queries) as file,
        _output(out) as target,
        doing(f"answering the requests of {queries}") as show,
        _writing(target, ids, parquet=parquet) as write,
    ):
        # The progress is divided by it, and a file may be empty
        size = max(1, file.stat().st_size)
        # A thread parses the next lines while these are answered.
        for lines, table in prefetched(read_requests(requests, file, queries), 1):
            if source == RANKED and version.ranker is not None and len(table) > _MANY:
                version.ranker.compile()
            with naming_line(lines, queries):
                answer = recommend(version, table, options, now=now)
            write(table[USER], answer)
            counts.update(_count(answer, table[USER], options.k))
            if len(warnings) < _WARNINGS:
                warnings |= dict.fromkeys(answer.warnings.of_values())
            show(f"answering the requests of {queries}: {lines.offset / size:.0%}")
    seconds = time.monotonic() - started
    return {
        "version": version.id,
        "source": source,
        "exclude_seen": version.leaves_out_seen(options.exclude_seen),
        "out": out or "standard output",
        "k": options.k,
        **counts,
        "seconds": round(seconds, 1),
        "users_per_s": round(counts["queries"] / max(seconds, 1e-9)),
        "notes": list(warnings)[:_WARNINGS],
    }


def _count(answer: Answer, users: pa.ChunkedArray, k: int) -> dict[str, int]:
    known = np.ones(len(users), bool) if answer.known is None else answer.known
    unknown = users.is_valid().to_numpy() & ~known
    return {
        "queries": len(answer.rows),
        "short": int((answer.counts < k).sum()),
        "few_new": answer.warnings.few_new,
        "widened": int(answer.widened.sum()),
        "unknown_users": int(unknown.sum()),
    }


@contextmanager
def _local(uri: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="twinspire-queries-") as scratch:
        path = Path(uri)
        if storage.exists(uri):
            path = storage.localize(uri, Path(scratch))
        if not path.is_file():
            state = "a folder" if path.is_dir() else "not there"
            raise UsageError(
                f"--queries must be a file of JSON lines; {uri} is {state}. Name a file."
            )
        yield path


@contextmanager
def _output(out: str | None) -> Iterator[Path]:
    """Yields a local file to write to. After a successful block, it becomes `out` or standard output."""
    if out and not out.endswith(_ENDINGS):
        raise UsageError(
            f"The name of the output must end in {' or '.join(_ENDINGS)}; found {out}. Rename it."
        )
    if out and not storage.is_remote(out):
        if Path(out).is_dir():
            raise UsageError(f"The output must be a file; {out} is a folder. Name a file in it.")
        with disk.written_whole(out) as unfinished:
            yield Path(unfinished)
        return
    # Standard output, too, gets the lists only at the end: readers get all of them or none.
    with tempfile.TemporaryDirectory(prefix="twinspire-recs-") as scratch:
        folder, _, name = (out or "recs.jsonl").rpartition("/")
        file = Path(scratch, name)
        yield file
        if out:
            storage.upload_tree(Path(scratch), folder)
        else:
            _print(file)


def _print(file: Path) -> None:
    try:
        with file.open("rb") as lines:
            shutil.copyfileobj(lines, sys.stdout.buffer)
        sys.stdout.flush()
    except BrokenPipeError:
        # `head` has read enough. Python must not complain when it closes the pipe at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _writing(
    target: Path, ids: pa.Array, *, parquet: bool
) -> Iterator[Callable[[pa.ChunkedArray, Answer], None]]:
    """Yields a function that appends an answer's lists to a file.

    Args:
      ids: the item ids of the version, by row.
      parquet: whether the file is Parquet, and not JSON lines.
    """

    def rows(users: pa.ChunkedArray, answer: Answer) -> pa.Table:
        items, scores = answer.lists(ids)
        sources = answer.main_sources()
        return pa.table({"user": users, "items": items, "scores": scores, "sources": sources})

    if parquet:
        with pq.ParquetWriter(target, _SCHEMA, compression="zstd") as table:
            yield lambda *batch: table.write_table(rows(*batch).cast(_SCHEMA))
    else:
        with target.open("wb") as lines:
            yield lambda *batch: pl.DataFrame(pl.from_arrow(rows(*batch))).write_ndjson(lines)


def read_requests(
    requests: Requests, source: Path, file: str
) -> Iterator[tuple[NumberedLines, pa.Table]]:
    """Yields lines and the rows of their requests, thousands at a time.

    Args:
      source: local file with a request per line, perhaps gzipped.
      file: the name by which messages call it.

    Raises:
      BadData: a line is no request, or the file cannot be unzipped.
    """
    try:
        for lines in RecordFile(str(source), "jsonl").lines(BATCH):
            yield lines, _parse(requests, lines, file)
    except CONTENT_ERRORS as e:
        raise BadData(
            f"{source} cannot be unzipped: {e}. It is probably truncated or damaged. Copy it again."
        ) from e


def _parse(requests: Requests, lines: NumberedLines, file: str) -> pa.Table:
    objects: list[Any] = []
    for number, text in zip(lines.numbers, lines.texts, strict=True):
        try:
            objects.append(orjson.loads(text))
        except ValueError as e:
            raise _malformed(file, number, f"it is not JSON ({e})", text) from e
    with naming_line(lines, file):
        return requests.table(objects)


@contextmanager
def naming_line(lines: NumberedLines, file: str) -> Iterator[None]:
    """Names the file's line in the error when a request is refused."""
    try:
        yield
    except Refused as e:
        raise _malformed(file, lines.numbers[e.row], str(e), lines.texts[e.row]) from e


def _malformed(file: str, number: int, reason: str, text: bytes) -> BadData:
    shown = text.decode(errors="replace").strip()
    if len(shown) > _SHOWN:
        shown = shown[:_SHOWN] + "…"
    return BadData(
        f"Every line of the queries must be one JSON object, like the query of a request; line"
        f" {number} of {file}: {with_full_stop(reason)}\n  {shown}\nNothing was written. Correct the"
        " line and run again."
    )
