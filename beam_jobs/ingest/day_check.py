"""Whether a day is fit to be processed: there, complete, and about as large as usual.

Imports no Beam.
"""

import os
import statistics
import time
from collections.abc import Iterable
from datetime import date, timedelta

from beam_jobs import day_plan
from beam_jobs.ingest import day_files
from beam_jobs.ingest.day_files import SourceFile
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import BadData, LogsLate, NothingToDo
from twinspire_core.records.raw_files import Kind, format_of, readable
from twinspire_core.records.record_file import RecordFile
from twinspire_core.terminal import console, doing

_COMPARED_WEEKS = 7
_POLL_SECONDS = 5.0
_PARQUET = b"PAR1"
"""Begins and ends a Parquet file."""


def check(p: Pipeline, day: date) -> dict[str, float | None]:
    """Tells a day that can be processed from a late, an empty and a suspicious one; waits for a
    late one.

    Returns: `rows` of the day, and `usual_rows`: the median of the last 7 same weekdays that have
      any, or None.

    Raises:
      LogsLate: the day is not there, or not complete, after `source.wait`.
      NothingToDo: it is there, and has no rows.
      BadData: it has fewer rows than `source.min_share` of the usual number, or cannot be read.
    """
    found = _await(p, day)
    rows = count_rows(p.source.format, found)
    if rows == 0:
        folder = day_files.folder(p.source.events, day)
        raise NothingToDo(f"{day} has no events: {folder} holds no rows. It is skipped.")
    # The same weekday of earlier weeks: shops are not alike on Sundays and Mondays.
    earlier = [day - timedelta(weeks=week) for week in range(1, _COMPARED_WEEKS + 1)]
    all_counts = {
        at: count_rows(p.source.format, day_files.files(p, "events", at)) for at in earlier
    }
    counts = {at: n for at, n in all_counts.items() if n}
    usual = statistics.median(counts.values()) if counts else None
    if usual is not None and rows < p.source.min_share * usual:
        listed = ", ".join(f"{at}: {n:,}" for at, n in counts.items())
        raise BadData(
            f"A day has at least source.min_share = {p.source.min_share:g} of the rows usual on its"
            f" weekday; {day} has {rows:,} of {usual:,.0f} ({rows / usual:.0%}; {listed}). If part"
            " of the day is missing, deliver it and run the day again; if the day is right as it"
            " is, run it with a lower source.min_share."
        )
    # Raises if there is no items snapshot for the day, before hours of work.
    day_files.inputs(p, day_plan.make_plan(p, day, "incremental"))
    return {"rows": rows, "usual_rows": usual}


def count_rows(given: str, files: Iterable[SourceFile]) -> int:
    """Records in all the files, counted cheaply: footers of Parquet, line ends of text.

    CSV header lines are left out; a line break inside quotes counts as an end.

    Args:
      given: `source.format`.
      files: what to count.

    Raises:
      BadData: a file cannot be read.
    """
    return sum(_count(file, format_of(file.uri, given)) for file in files)


def _count(file: SourceFile, kind: Kind) -> int:
    with readable(file.uri, kind):
        return RecordFile(file.uri, kind).count()


def _await(p: Pipeline, day: date) -> tuple[SourceFile, ...]:
    """The day's files, as soon as it is complete."""
    folder = day_files.folder(p.source.events, day)
    marker = p.source.done_marker
    awaited = folder if marker is None else storage.join(folder, marker)
    deadline = time.monotonic() + p.source.wait.total_seconds()
    if p.source.wait and not storage.exists(folder):
        console.print(f"Waiting up to {p.source.wait} for {folder}")
    with doing(f"waiting for {folder}") as update:
        while True:
            half = None
            # The marker is looked for before the files: it is written after them.
            if marker is None or storage.exists(awaited):
                found = day_files.files(p, "events", day)
                # With a marker the day is complete: what is cut off then stays so.
                half = _half_copied(p, found) if marker is None else None
                if half is None and (found or marker is not None):
                    return found
            left = deadline - time.monotonic()
            if left <= 0:
                raise _not_there(p, day, awaited, half)
            update(f"waiting for {half or awaited}, {left:.0f} s at the most")
            time.sleep(min(_POLL_SECONDS, left))


def _half_copied(p: Pipeline, files: Iterable[SourceFile]) -> str | None:
    """A Parquet file that has begun and not ended, as while it is copied. Objects appear whole."""
    for file in files:
        if storage.is_remote(file.uri) or format_of(file.uri, p.source.format) != "parquet":
            continue
        with storage.open_bytes(file.uri) as raw:
            first = raw.read(len(_PARQUET))
            # What is whole begins and ends with it, and has some bytes between.
            raw.seek(max(len(_PARQUET), raw.seek(0, os.SEEK_END) - len(_PARQUET)))
            if _PARQUET.startswith(first) and raw.read() != _PARQUET:
                return file.uri
    return None


def _not_there(p: Pipeline, day: date, awaited: str, half: str | None) -> LogsLate:
    waited = f" after a wait of {p.source.wait}" if p.source.wait else ""
    if half:
        return LogsLate(
            f"The events of {day} are not all there yet: {half} begins as a Parquet file and does not"
            f" end as one{waited}; it is being copied, or was cut off. Run the day again later; if the"
            " file does not grow any more, deliver it again."
        )
    newest = day_files.SnapshotDays(p, "events").at(date.max)
    there = f"the newest day that is there is {newest}" if newest else "no day is there"
    return LogsLate(
        f"The events of {day} are not there yet: {awaited} does not exist or is empty{waited};"
        f" {there}. Run the day again later, or set source.wait to wait for it in the stage."
        " If this day will never come, leave it out: gaps are allowed."
    )
