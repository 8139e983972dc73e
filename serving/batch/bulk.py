"""Recommendations for a whole file of requests, in bounded memory."""

import gzip
import io
import json
import tempfile
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Unpack

import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from model.data.prefetch import prefetched
from serving.answers.recommend import Answer, Asked, recommend
from serving.answers.retrieval import chosen
from serving.batch import list_output
from serving.requests.query_rows import USER, Refused, Requests, distinct
from serving.requests.request_lines import PlainLines
from serving.version.loaded_version import Version
from twinspire_core import storage
from twinspire_core.errors import BadData, UsageError
from twinspire_core.messages import with_full_stop
from twinspire_core.sources.candidate_sources import TWO_TOWER

BATCH = 2048  # lines answered at a time
_NOTES = 5  # the most that are kept
_GZIP = b"\x1f\x8b"


class Lines(NamedTuple):
    """Some lines of a file.

    Attributes:
      numbers: from 1.
      offset: bytes of the file read when they were.
    """

    numbers: list[int]
    texts: list[bytes]
    offset: int


def recommend_lines(
    version: Version,
    queries: str,
    out: str | None,
    k: int,
    *,
    now: datetime | None = None,
    **asked: Unpack[Asked],
) -> dict[str, Any]:
    """Answers every line of a file: `{"user", "items", "scores"}` each, in the file's order.

    Where the items are not all the two-tower's, `sources` says of each which source gave most to
    its score.

    Args:
      version: what answers.
      queries: JSON Lines, also gzipped, local or `gs://`; a request per line
        (serving/requests/query_rows.py).
      out: `.jsonl` or `.parquet`, local or `gs://`; None is standard output, as JSON lines. It
        appears when it is complete.
      k: items per line.
      now: see `recommend`.
      asked: see `recommend`.

    Returns: counts and speed, and notes on filters.

    Raises:
      BadData: a line is malformed; nothing is written. UsageError: a file cannot be used as asked.
    """
    started = time.monotonic()
    counts, notes = {"queries": 0, "short": 0, "widened": 0, "unknown_users": 0}, dict[str, None]()
    requests, source = Requests(version.pipeline), chosen(version, asked.get("source"))
    now = now or datetime.now(version.pipeline.zone)
    ids = version.items["_item"].combine_chunks()
    with (
        _local(queries) as file,
        list_output.target(out) as target,
        _progress(file) as tell,
        closing(list_output.opened(target, sources=source != TWO_TOWER)) as writer,
        ThreadPoolExecutor(1) as aside,  # it writes one batch while the next is answered
    ):
        written: Future | None = None
        for lines, table in prefetched(_parsed(requests, file, queries), 1):
            with _naming(lines, queries):
                answer = recommend(version, table, k, now=now, **asked)
            if written:
                written.result()
            written = aside.submit(_write, writer, table[USER], answer, ids)
            _count(counts, answer, table[USER], k)
            notes |= dict.fromkeys(answer.told.of_values) if len(notes) < _NOTES else {}
            tell(lines.offset, counts["queries"])
        if written:
            written.result()
    seconds = time.monotonic() - started
    speed = {
        "seconds": round(seconds, 1),
        "users_per_s": round(counts["queries"] / max(seconds, 1e-9)),
    }
    told = {"version": version.id, "source": source, "out": out or "standard output", "k": k}
    return {**told, **counts, **speed, "notes": list(notes)[:_NOTES]}


def _write(
    writer: list_output.Writer, users: pa.ChunkedArray, answer: Answer, ids: pa.Array
) -> None:
    items, scores = answer.lists(ids)
    columns = {"user": users, "items": items, "scores": scores}
    columns |= {"sources": answer.main_sources()} if answer.shares is not None else {}
    writer.write(pa.table(columns))


def _parsed(requests: Requests, source: Path, file: str) -> Iterator[tuple[Lines, pa.Table]]:
    """Lines, and the requests that they are, thousands at a time."""
    plain = PlainLines(requests)
    for lines in _batches(source):
        table = plain.table(lines.texts)
        yield lines, table if table is not None else _looked_at(requests, lines, file)


def _looked_at(requests: Requests, lines: Lines, file: str) -> pa.Table:
    """Checks the lines one by one; see `Requests.table`."""
    objects = []
    for number, text in zip(lines.numbers, lines.texts, strict=True):
        try:
            objects.append(json.loads(text, object_pairs_hook=distinct))
        except (ValueError, RecursionError) as e:
            raise _malformed(file, number, f"it is not JSON ({e})", text) from e
        except Refused as e:
            raise _malformed(file, number, str(e), text) from e
    with _naming(lines, file):
        return requests.table(objects)


@contextmanager
def _naming(lines: Lines, file: str) -> Iterator[None]:
    """Names the line of a request that is refused."""
    try:
        yield
    except Refused as e:
        raise _malformed(file, lines.numbers[e.row], str(e), lines.texts[e.row]) from e


def _malformed(file: str, number: int, reason: str, text: bytes) -> BadData:
    shown = text.decode(errors="replace").strip()
    shown = shown if len(shown) <= 200 else shown[:200] + "…"
    return BadData(
        f"Every line of the queries is one JSON object, as in serving requests; line {number} of"
        f" {file}: {with_full_stop(reason)}\n  {shown}\nNothing was written. Mend the line and run"
        " again."
    )


def _count(counts: dict[str, int], answer: Answer, users: pa.ChunkedArray, k: int) -> None:
    counts["queries"] += len(answer.rows)
    counts["widened"] += int(answer.widened.sum())
    counts["short"] += int((answer.counts < k).sum())
    if answer.known is not None:
        counts["unknown_users"] += int((users.is_valid().to_numpy() & ~answer.known).sum())


def _batches(source: Path) -> Iterator[Lines]:
    with source.open("rb") as raw:
        zipped = raw.read(2) == _GZIP
        raw.seek(0)
        text: Any = gzip.GzipFile(fileobj=raw) if zipped else raw
        numbered = ((number, line) for number, line in enumerate(text, 1) if line.strip())
        try:
            while batch := list(islice(numbered, BATCH)):
                numbers, texts = map(list, zip(*batch, strict=True))
                yield Lines(numbers, texts, _offset(raw))
        except (EOFError, gzip.BadGzipFile, zlib.error) as e:
            raise BadData(
                f"{source} cannot be unzipped: {e}. It was cut off or altered, probably: copy it"
                " again."
            ) from e


def _offset(raw: BinaryIO) -> int:
    return raw.seek(0, io.SEEK_CUR)


@contextmanager
def _local(uri: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="twinspire-queries-") as scratch:
        path = storage.localize(uri, Path(scratch)) if storage.exists(uri) else Path(uri)
        if not path.is_file():
            raise UsageError(
                f"Queries are a file of JSON lines; {uri} is"
                f" {'a folder' if path.is_dir() else 'not there'}."
            )
        yield path


@contextmanager
def _progress(source: Path) -> Iterator[Any]:
    columns = (
        TextColumn("recommend"),
        BarColumn(),
        TextColumn("{task.fields[done]:,} lines"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=source.stat().st_size, done=0)
        yield lambda offset, done: progress.update(task, completed=offset, done=done)
