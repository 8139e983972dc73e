"""Lays the rows of a query out by day: one day at a time, each as whole as a day of files.

A day's folder appears, or is replaced, when the query of that day has ended. So a scheduler may call it
for yesterday, and again after a failure.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from io import StringIO
from zoneinfo import ZoneInfo

import pyarrow as pa

from beam_jobs.partitioning.calendar_days import Layout
from beam_jobs.partitioning.day_folders import Spill, Summary, put_days
from beam_jobs.partitioning.log_tables import flat
from beam_jobs.partitioning.partition import SPILL_BYTES, collect, scratch_for
from beam_jobs.partitioning.queried_tables import read_query
from beam_jobs.partitioning.set_aside import Aside
from twinspire_core import storage
from twinspire_core.errors import BadData, NothingToDo, TryAgain, UsageError

Progress = Callable[[date, int], None]


def partition_query(
    query: str,
    database: str,
    out: str,
    layout: Layout,
    *,
    replace: bool = False,
    progress: Progress = lambda day, rows: None,
    spill_bytes: int = SPILL_BYTES,
) -> Summary:
    """Asks a database for the rows of each day, and lays them out.

    Args:
      query: `{start}` and `{end}` become the quoted instants between which a day of `layout.time_zone`
        lies. The query of a snapshot needs neither.
      database: where to ask (`read_query`).
      out: folder of a day, with `{date}`. Local or in an object store.
      layout: its `first` and `last` are the days to ask for; without `last`, the first alone.
      replace: an existing day may lose rows that the database does not have.
      progress: called with the day and the rows of it that were read so far.
      spill_bytes: largest size of rows in memory; more go through temporary files.

    Raises:
      UsageError: the arguments do not fit one another, or a day would lose rows.
      BadData: rows have no time, or are of other days.
      TryAgain: a day has not ended, or the database does not answer.
      NothingToDo: no day has rows.
    """
    total = Summary()
    for day in _days(query, layout):
        with scratch_for(out) as scratch:
            spill = Spill(scratch / "rows", spill_bytes)
            _collect_day(total, spill, query, database, layout, day, progress)
            put_days(total, spill, scratch / "out", out, layout, replace)
        if not spill.days():
            total.missing.append(day)
    emptied = _warning_of_emptied(total.missing, out)
    total.warning = total.warning or emptied
    if not total.days:
        days = " and ".join(str(day) for day in (total.missing[0], *total.missing[1:][-1:]))
        raise NothingToDo(
            f"The query returned no rows for {days}, so nothing was written. If there should be some, check"
            f" its condition and --time-zone. {emptied or ''}".rstrip()
        )
    return total


def _warning_of_emptied(days: Sequence[date], out: str) -> str | None:
    """Warns of a day without rows that has a folder. It is not deleted, because the query may be wrong."""
    for day in days:
        if storage.exists(out.replace("{date}", str(day))):
            return (
                f"The folder of {day} stays, although the query has no rows for that day. Delete it if they"
                " are gone."
            )
    return None


def _days(query: str, layout: Layout) -> list[date]:
    if layout.snapshot:
        return [layout.snapshot]
    lacking = [name for name in ("{start}", "{end}") if name not in query]
    if lacking:
        raise UsageError(
            "--query must bound the time of its rows, as in `where at >= {start} and at < {end}`; it lacks"
            f" {' and '.join(lacking)}. Add the bounds."
        )
    if not layout.first:
        raise UsageError(
            "--query needs its day: --from DATE, and --to DATE for more than one. Add --from."
        )
    last = layout.last or layout.first
    end = _bounds(last, layout.time_zone)[1]
    if datetime.now(UTC) < end:
        raise TryAgain(
            f"A day must have ended before it is laid out; {last} ends at {end.isoformat()}. Try again"
            " then, or name earlier days."
        )
    return [layout.first + timedelta(n) for n in range((last - layout.first).days + 1)]


def _bounds(day: date, zone: str) -> tuple[datetime, datetime]:
    """When a day begins and ends: 23 or 25 hours later where clocks change."""
    here = ZoneInfo(zone)
    return datetime.combine(day, time.min, here), datetime.combine(
        day + timedelta(1), time.min, here
    )


def _collect_day(
    total: Summary,
    spill: Spill,
    query: str,
    database: str,
    layout: Layout,
    day: date,
    progress: Progress,
) -> None:
    """Gives the rows of a day to the spill, and adds them to the summary."""
    if not layout.snapshot:
        for name, bound in zip(("start", "end"), _bounds(day, layout.time_zone), strict=True):
            query = query.replace(f"{{{name}}}", f"'{bound.isoformat()}'")
        layout = dataclasses.replace(layout, first=day, last=day)

    def tables() -> Iterator[tuple[str, pa.Table]]:
        rows = 0
        for table in read_query(database, query):
            rows += len(table)
            progress(day, rows)
            yield "the query's result", flat(table)

    aside = Aside(StringIO(), keep_going=False)
    before = total.rows
    collect(total, tables(), layout, spill, aside)
    aside.close(0)
    if total.outside:
        raise BadData(
            f"The query must return rows of {day} only; {total.outside:,} of {total.rows - before:,} are of"
            f" other days in {layout.time_zone}. Compare {layout.time!r} with {{start}} and {{end}}; if"
            " its times have no offset, --time-zone must be their zone. The day was not written."
        )
