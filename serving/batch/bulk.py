"""Recommendations for a whole file of requests, in bounded memory.

The file that the lists for a file of requests go to: it appears when it is complete.

A file of requests, as JSON lines, becomes tables of rows, thousands of lines at a time.
"""

import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from model.data.prefetch import prefetched
from serving.answers.answer import Answer
from serving.answers.recommend import recommend
from serving.requests.query_rows import Requests, distinct, surely_distinct
from serving.requests.request_model import USER, ListRequest, Refused
from serving.version.loaded_version import Version
from twinspire_core import storage
from twinspire_core.config.source_names import RANKED, TWO_TOWER
from twinspire_core.errors import BadData, UsageError, with_full_stop
from twinspire_core.records.csv_lines import CONTENT_ERRORS
from twinspire_core.records.json_lines import NumberedLines
from twinspire_core.records.record_file import RecordFile
from twinspire_core.terminal import console

BATCH = 2048  # lines answered at a time
_SHOWN = 200  # characters of a line in a message


def read_requests(
    requests: Requests, source: Path, file: str
) -> Iterator[tuple[NumberedLines, pa.Table]]:
    """Lines, and the rows of their requests, thousands at a time.

    Args:
      requests: what they may hold.
      source: the file.
      file: its name, for messages.

    Raises:
      BadData: a line is no request, or the file cannot be unzipped.
    """
    for lines in _batches(source):
        yield lines, _parse(requests, lines, file)


def _parse(requests: Requests, lines: NumberedLines, file: str) -> pa.Table:
    try:
        return requests.table([_read(text) for text in lines.texts])
    except (ValueError, Refused):
        return _parse_one_by_one(requests, lines, file)


def _read(text: bytes) -> dict[str, Any]:
    """The object in a line.

    Raises:
      ValueError: there is none, or a key may be given twice.
    """
    value = orjson.loads(text)
    if not isinstance(value, dict):
        raise ValueError("no object")
    members = len(value) + sum(len(one) for one in value.values() if isinstance(one, dict))
    if not surely_distinct(text, members, [value]):
        raise ValueError("a key may be given twice")
    return value


def _parse_one_by_one(requests: Requests, lines: NumberedLines, file: str) -> pa.Table:
    """The same by Python's own reader: it is slow, but sees keys given twice and says what is wrong."""
    objects: list[Any] = []
    for number, text in zip(lines.numbers, lines.texts, strict=True):
        try:
            objects.append(json.loads(text, object_pairs_hook=distinct))
        except (ValueError, RecursionError) as e:
            raise _malformed(file, number, f"it is not JSON ({e})", text) from e
        except Refused as e:
            raise _malformed(file, number, str(e), text) from e
    with naming_line(lines, file):
        return requests.table(objects)


@contextmanager
def naming_line(lines: NumberedLines, file: str) -> Iterator[None]:
    """Names the line of a request that is refused."""
    try:
        yield
    except Refused as e:
        raise _malformed(file, lines.numbers[e.row], str(e), lines.texts[e.row]) from e


def _malformed(file: str, number: int, reason: str, text: bytes) -> BadData:
    shown = text.decode(errors="replace").strip()
    if len(shown) > _SHOWN:
        shown = shown[:_SHOWN] + "…"
    return BadData(
        f"Every line of the queries is one JSON object, as in serving requests; line {number} of"
        f" {file}: {with_full_stop(reason)}\n  {shown}\nNothing was written. Mend the line and run"
        " again."
    )


def _batches(source: Path) -> Iterator[NumberedLines]:
    try:
        yield from RecordFile(str(source), "jsonl").lines(BATCH)
    except CONTENT_ERRORS as e:
        raise BadData(
            f"{source} cannot be unzipped: {e}. It was cut off or altered, probably: copy it again."
        ) from e


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


_WARNINGS = 5  # the most that are kept
_MANY = 100  # lines that make it worth compiling a ranker


@dataclass(slots=True)
class _Counts:
    """What is told of all lists in the end.

    Attributes:
      queries: lines that were answered.
      short: lists with fewer items than were asked for.
      few_new: lists with fewer new items than `new_share` asks for.
      widened: lists that took a wider search.
      unknown_users: users who are not among the version's.
    """

    queries: int = 0
    short: int = 0
    few_new: int = 0
    widened: int = 0
    unknown_users: int = 0

    def add(self, answer: Answer, users: pa.ChunkedArray, k: int) -> None:
        """Counts the lists of an answer for these users, [B] ids."""
        self.queries += len(answer.rows)
        self.short += int((answer.counts < k).sum())
        self.few_new += answer.warnings.few_new
        self.widened += int(answer.widened.sum())
        if answer.known is not None:
            named = users.is_valid().to_numpy()
            self.unknown_users += int((named & ~answer.known).sum())


def recommend_lines(
    version: Version,
    queries: str,
    out: str | None,
    options: ListRequest,
    *,
    now: datetime | None = None,
) -> dict[str, Any]:
    """Answers every line of a file: `{"user", "items", "scores"}` each, in the file's order.

    Where the items may not all be the two-tower's, `sources` says of each which source gave most to
    its score.

    Args:
      version: what answers.
      queries: JSON Lines, also gzipped, local or `gs://`; a request per line
        (serving/requests/request_model.py).
      out: `.jsonl` or `.parquet`, local or `gs://`; None is standard output, as JSON lines. It
        appears when it is complete.
      options: for all lines.
      now: see `recommend`.

    Returns: counts and speed, and warnings about filters.

    Raises:
      BadData: a line is malformed; nothing is written.
      UsageError: a file cannot be used as asked.
    """
    started = time.monotonic()
    counts = _Counts()
    warnings: dict[str, None] = {}  # distinct, in their order
    requests = Requests(version.pipeline)
    source = version.choose_source(options.source)
    # By default the two-tower leaves unknown users to another source.
    several = options.source != TWO_TOWER
    now = now or datetime.now(version.pipeline.zone)
    ids = version.items["_item"].combine_chunks()
    with (
        _local(queries) as file,
        output(out) as target,
        _progress(file) as show_progress,
        _writing_aside(target, ids, sources=several) as write,
    ):
        for lines, table in prefetched(read_requests(requests, file, queries), 1):
            if source == RANKED and version.ranker is not None and len(table) > _MANY:
                version.ranker.compile()
            with naming_line(lines, queries):
                answer = recommend(version, table, options, now=now)
            write(table[USER], answer)
            counts.add(answer, table[USER], options.k)
            if len(warnings) < _WARNINGS:
                warnings |= dict.fromkeys(answer.warnings.of_values())
            show_progress(lines.offset, counts.queries)
    seconds = time.monotonic() - started
    return {
        "version": version.id,
        "source": source,
        "exclude_seen": version.leaves_out_seen(options.exclude_seen),
        "out": out or "standard output",
        "k": options.k,
        **asdict(counts),
        "seconds": round(seconds, 1),
        "users_per_s": round(counts.queries / max(seconds, 1e-9)),
        "notes": list(warnings)[:_WARNINGS],
    }


@contextmanager
def _writing_aside(
    target: Path, ids: pa.Array, *, sources: bool
) -> Iterator[Callable[[pa.ChunkedArray, Answer], None]]:
    """A thread writes one batch while the next is answered; what it yields takes the batches."""
    written: Future[None] | None = None
    with (
        writing(target, sources=sources) as append,
        ThreadPoolExecutor(1) as aside,
    ):

        def write(users: pa.ChunkedArray, answer: Answer) -> None:
            nonlocal written
            # One batch at the most waits to be written: memory stays bounded.
            if written:
                written.result()
            written = aside.submit(_write, append, users, answer, ids, sources=sources)

        yield write
        if written:
            written.result()


def _write(
    append: Callable[[pa.Table], None],
    users: pa.ChunkedArray,
    answer: Answer,
    ids: pa.Array,
    *,
    sources: bool,
) -> None:
    items, scores = answer.lists(ids)
    columns = {"user": users, "items": items, "scores": scores}
    if sources:
        columns["sources"] = answer.main_sources()
    append(pa.table(columns))


@contextmanager
def _local(uri: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="twinspire-queries-") as scratch:
        path = Path(uri)
        if storage.exists(uri):
            path = storage.localize(uri, Path(scratch))
        if not path.is_file():
            found = "a folder" if path.is_dir() else "not there"
            raise UsageError(f"Queries are a file of JSON lines; {uri} is {found}.")
        yield path


@contextmanager
def _progress(source: Path) -> Iterator[Any]:
    columns = (
        TextColumn("recommend"),
        BarColumn(),
        TextColumn("{task.fields[done]:,} lines"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=source.stat().st_size, done=0)
        yield lambda offset, done: progress.update(task, completed=offset, done=done)
