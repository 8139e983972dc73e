"""Recommendations for a whole file of requests, in bounded memory."""

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from model.data.prefetch import prefetched
from serving.answers.answer import Answer
from serving.answers.recommend import recommend
from serving.batch import results_file
from serving.batch.request_lines import naming_line, read_requests
from serving.requests.list_request import ListRequest
from serving.requests.query_rows import Requests
from serving.requests.request_model import USER
from serving.version.loaded_version import Version
from twinspire_core import storage
from twinspire_core.config.source_names import RANKED, TWO_TOWER
from twinspire_core.errors import UsageError
from twinspire_core.terminal import console

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
        results_file.output(out) as target,
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
        results_file.writing(target, sources=sources) as append,
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
