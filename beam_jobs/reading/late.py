"""Stragglers: a day's events that lie in the folders of later days, as logs that arrive late do.

A day that has been run stays done when more of them come: its next examples would be others, and all later days would
have to be trained again for a few events. They enter later days' histories and counts; training on them takes a run
with --force. docs/decisions/0039-late-events.md
"""

import hashlib
from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

import polars as pl

from beam_jobs import days
from beam_jobs.reading import blocks, columns
from beam_jobs.reading.records import ORDER, Judge
from beam_jobs.reading.rejected import Rejected
from beam_jobs.reading.source import SourceFile, later_files
from twinspire.pipeline import Pipeline


class Stragglers(NamedTuple):
    """A day's events in the folders of later days.

    Attributes:
      events: how many.
      digest: of their values, in whatever order and files they lie; empty without any.
    """

    events: int
    digest: str


def stragglers(p: Pipeline, day: date) -> Stragglers:
    """Finds a day's stragglers. Of files without any, only the column of times is read.

    Raises:
      BadData: a file cannot be read, or lacks a column.
    """
    wanted = columns.events(p)
    time = [column for column in wanted if column.name == "_time"]
    lines: list[bytes] = []
    for files in later_files(p, day).values():
        for file in files:
            if any(len(rows) for rows in _of_day(p, file, time, day)):
                lines += [line for rows in _of_day(p, file, wanted, day) for line in _lines(rows)]
    digest = hashlib.sha256(b"".join(sorted(lines))).hexdigest() if lines else ""
    return Stragglers(len(lines), digest)


def _of_day(p: Pipeline, file: SourceFile, wanted: list[columns.Column], day: date) -> Iterator[pl.DataFrame]:
    """The file's events of the day, with some of their columns."""
    judge = Judge(p, file, 0, wanted)
    start, end = days.start_of(day, p.zone), days.start_of(days.after(day), p.zone)
    for part in blocks.parts(p.source.format, file):
        for block in blocks.read(p.source.format, file, part, wanted, p.beam.batch_rows):
            if not isinstance(block, Rejected):
                good = judge.take(block).good
                yield good.filter(good["_time"].is_between(start, end, closed="left")).drop(ORDER)


def _lines(rows: pl.DataFrame) -> list[bytes]:
    return rows.write_ndjson().encode().splitlines(keepends=True)
