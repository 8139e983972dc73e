"""Late events: those of a day that lie in the folders of later days, since their logs arrived late.

A day that has been run stays done when more of them arrive. Its examples would change, and all later
days would have to be trained again for a few events. Late events enter the histories and counts of
later days; `--late` runs the day again with them. docs/decisions/0039-days.md
"""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import date
from typing import NamedTuple

import polars as pl

from beam_jobs import day_plan
from beam_jobs.ingest import columns, records
from beam_jobs.ingest.day_files import SourceFile, later_files
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import BadData

_BITS = 256


class Digest:
    """Number and digest of events, whatever their order and files; the events are not kept."""

    def __init__(self) -> None:
        self.events = 0
        self._sum = 0

    def add(self, rows: pl.DataFrame) -> None:
        """Adds events. Hashes are summed, so that the order does not matter, and a copy counts."""
        # As JSON, which is the same for the same values, whatever format and types the file had.
        for line in rows.write_ndjson().encode().splitlines():
            self._sum += int.from_bytes(hashlib.sha256(line).digest())
        self._sum %= 1 << _BITS
        self.events += len(rows)

    def merge(self, other: "Digest") -> None:
        """Adds the events of another digest."""
        self._sum = (self._sum + other._sum) % (1 << _BITS)
        self.events += other.events

    def __str__(self) -> str:
        """The digest, empty without events."""
        return f"{self._sum:0{_BITS // 4}x}" if self.events else ""


class LateEvents(NamedTuple):
    """Events of a day, and of days before it, in the folders of later days.

    Attributes:
      files: files that hold any, by the day of their folder.
      events: number of those of the day.
      digest: of the events of the day; empty without any.
      digest_of_all: of the events of the day and of earlier days.
      unreadable: why the folder of a day is left out.
    """

    files: Mapping[date, tuple[SourceFile, ...]]
    events: int
    digest: str
    digest_of_all: str
    unreadable: Mapping[date, str]


def look(
    p: Pipeline, day: date, later: Mapping[date, tuple[SourceFile, ...]] | None = None
) -> LateEvents:
    """Finds the late events of a day. Of files without any, only the column of times is read.

    A folder with a file that cannot be read is left out as a whole: it may be half written, and it is
    the folder of another day.

    Args:
      p: the parsed pipeline file.
      day: the day that the events belong to.
      later: files of the days after it; listed now by default.
    """
    if later is None:
        later = later_files(p, day)
    files: dict[date, tuple[SourceFile, ...]] = {}
    unreadable: dict[date, str] = {}
    wanted = columns.events(p)
    of_day = Digest()
    # Catalogue refreshes depend on the events of all earlier days, the day's own run on the day's.
    of_all = Digest()
    for folder_day, listed in later.items():
        try:
            digests = [(file, *_look_into(p, file, wanted, day)) for file in listed]
        except BadData as e:
            # The day itself is complete without these events, so it does not fail.
            unreadable[folder_day] = str(e)
            continue
        holding = []
        for file, in_file_of_day, in_file_of_all in digests:
            if in_file_of_all.events:
                of_day.merge(in_file_of_day)
                of_all.merge(in_file_of_all)
                holding.append(file)
        if holding:
            files[folder_day] = tuple(holding)
    return LateEvents(files, of_day.events, str(of_day), str(of_all), unreadable)


def _look_into(
    p: Pipeline, file: SourceFile, wanted: list[columns.Column], day: date
) -> tuple[Digest, Digest]:
    """The file's events of the day, and of all days up to it."""
    time = [column for column in wanted if column.name == "_time"]
    start = day_plan.start_of(day, p.zone)
    of_day = Digest()
    of_all = Digest()
    # Most files of later days hold no late event: reading their times is enough to know.
    if any(len(rows) for rows in _until(p, file, time, day)):
        for rows in _until(p, file, wanted, day):
            of_day.add(rows.filter(pl.col("_time") >= start))
            of_all.add(rows)
    return of_day, of_all


def _until(
    p: Pipeline, file: SourceFile, wanted: list[columns.Column], day: date
) -> Iterator[pl.DataFrame]:
    """The file's events up to the end of the day, with some of their columns."""
    checker = records.RecordChecker(p, file, 0, wanted)
    end = day_plan.start_of(day_plan.after(day), p.zone)
    for part in records.file_parts(p.source.format, file):
        for block in records.read_blocks(p.source.format, file, part, wanted):
            if not isinstance(block, records.Rejected):
                yield checker.take(block).good.filter(pl.col("_time") < end).drop(records.ORDER)
    checker.close()
