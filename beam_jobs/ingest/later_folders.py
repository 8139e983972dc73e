"""Stragglers: a day's events that lie in the folders of later days, as logs that arrive late do.

A day that has been run stays done when more of them come: its next examples would be others, and
all later days would have to be trained again for a few events. They enter later days' histories and
counts; training on them takes a run with --late. docs/decisions/0039-days.md
"""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import date
from typing import NamedTuple

import polars as pl

from beam_jobs import day_plan
from beam_jobs.ingest import columns, record_blocks
from beam_jobs.ingest.day_files import SourceFile, later_files
from beam_jobs.ingest.record_blocks import Rejected
from beam_jobs.ingest.records import ORDER, RecordChecker
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import BadData

_BITS = 256


class Digest:
    """Number and digest of events, in whatever order and files they lie; nothing of them is
    kept.
    """

    def __init__(self) -> None:
        """Of no events."""
        self.events = 0
        self._sum = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Adds events. Hashes are summed, so that their order does not matter, and a copy
        counts.
        """
        # JSON, which is the same for the same values, whatever format and types the file had.
        for line in rows.write_ndjson().encode().splitlines():
            self._sum += int.from_bytes(hashlib.sha256(line).digest())
        self._sum %= 1 << _BITS
        self.events += len(rows)

    def merge(self, other: "Digest") -> None:
        """Adds the events of another."""
        self._sum = (self._sum + other._sum) % (1 << _BITS)
        self.events += other.events

    def __str__(self) -> str:
        """The digest, empty without events."""
        if not self.events:
            return ""
        return f"{self._sum:0{_BITS // 4}x}"


class LateEvents(NamedTuple):
    """What the folders of later days hold of a day, and of those before it.

    Attributes:
      files: those that hold any, by the day of their folder.
      events: how many are of the day.
      digest: of these; empty without any.
      digest_of_all: of these and of those of earlier days.
      unreadable: why a folder is left out, by its day.
    """

    files: Mapping[date, tuple[SourceFile, ...]]
    events: int
    digest: str
    digest_of_all: str
    unreadable: Mapping[date, str]


def look(
    p: Pipeline, day: date, later: Mapping[date, tuple[SourceFile, ...]] | None = None
) -> LateEvents:
    """Finds a day's stragglers. Of files without any, only the column of times is read.

    A folder with a file that cannot be read is left out as a whole: it may be half written, and is
    not the day's own.

    Args:
      later: files of the days after it, if they have been listed.
    """
    if later is None:
        later = later_files(p, day)
    files: dict[date, tuple[SourceFile, ...]] = {}
    unreadable: dict[date, str] = {}
    of_day = Digest()
    of_all = Digest()
    for folder_day, listed in later.items():
        try:
            found = [(file, *_look_into(p, file, day)) for file in listed]
        except BadData as e:
            unreadable[folder_day] = str(e)
            continue
        holding = []
        for file, in_file_of_day, in_file_of_all in found:
            if in_file_of_all.events:
                of_day.merge(in_file_of_day)
                of_all.merge(in_file_of_all)
                holding.append(file)
        if holding:
            files[folder_day] = tuple(holding)
    return LateEvents(files, of_day.events, str(of_day), str(of_all), unreadable)


def _look_into(p: Pipeline, file: SourceFile, day: date) -> tuple[Digest, Digest]:
    """The file's events of the day, and of all days up to it."""
    wanted = columns.events(p)
    time = [column for column in wanted if column.name == "_time"]
    start = day_plan.start_of(day, p.zone)
    of_day = Digest()
    of_all = Digest()
    # Most files of later days hold none, which their column of times tells.
    if any(len(rows) for rows in _until(p, file, time, day)):
        for rows in _until(p, file, wanted, day):
            of_day.add(rows.filter(pl.col("_time") >= start))
            of_all.add(rows)
    return of_day, of_all


def _until(
    p: Pipeline, file: SourceFile, wanted: list[columns.Column], day: date
) -> Iterator[pl.DataFrame]:
    """The file's events up to the end of the day, with some of their columns."""
    checker = RecordChecker(p, file, 0, wanted)
    end = day_plan.start_of(day_plan.after(day), p.zone)
    for part in record_blocks.parts(p.source.format, file):
        for block in record_blocks.read(p.source.format, file, part, wanted):
            if not isinstance(block, Rejected):
                good = checker.take(block).good
                yield good.filter(pl.col("_time") < end).drop(ORDER)
    checker.close()
