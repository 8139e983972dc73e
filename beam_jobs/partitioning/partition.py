"""Lays raw log files out as one folder per day, which is how every other stage reads them.

    OUT/dt=2017-10-15/part-0.parquet      the rows of that day, in the order they came
    OUT/dt=2017-10-15/_SUCCESS            if a done marker is asked for: written after the rows

Columns keep their types, except that a column of a CSV with only numbers becomes numbers, and a nested
column becomes one column for each of its fields (log_tables.py).
The whole input is read before the first folder is changed. A day's file appears whole or not at all,
and is left alone if it holds the same bytes already, so that running twice changes nothing. Where an
existing day would lose rows, nothing is written (day_folders.py).
"""

import dataclasses
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from glob import glob
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa

from beam_jobs.ingest.timestamps import TimeForm, in_form
from beam_jobs.partitioning.calendar_days import (
    OLDEST,
    Layout,
    calendar_days,
    form_advice,
)
from beam_jobs.partitioning.day_folders import Spill, Summary, put_days
from beam_jobs.partitioning.items_of_events import first_known
from beam_jobs.partitioning.log_tables import (
    Format,
    TextNumbers,
    files_below,
    flat,
    format_of,
    read,
)
from beam_jobs.partitioning.set_aside import Aside, Malformed
from twinspire_core import storage
from twinspire_core.errors import BadData, UsageError, did_you_mean

SPILL_BYTES = 256 << 20
_LISTED_DAYS = 100

Progress = Callable[[int, int], None]


def partition(
    sources: Sequence[str],
    out: str,
    layout: Layout,
    *,
    rejected: str | None = None,
    max_rejected: float = 1.0,
    replace: bool = False,
    progress: Progress = lambda done, total: None,
    spill_bytes: int = SPILL_BYTES,
) -> Summary:
    """Lays files out by day.

    Args:
      sources: files, folders or patterns; local, or files and folders of an object store.
      out: folder of a day, with `{date}`. Local or in an object store.
      layout: which row belongs to which day.
      rejected: JSON Lines file for records without a day and lines that are no records; without it,
        one of these is an error.
      max_rejected: share of the records that may be set aside.
      replace: an existing day may lose rows that the files do not have.
      progress: called with the bytes of input read so far, and with all bytes.
      spill_bytes: largest size of rows in memory; more go through temporary files.

    Raises:
      UsageError: the arguments do not fit one another or the files, or a day would lose rows.
      BadData: a file cannot be read, lacks a column, or holds bad records and `rejected` is not
        given.
    """
    summary = Summary()
    with scratch_for(out, rejected) as scratch:
        files = _find(sources, scratch / "in", layout.format)
        # Text becomes numbers only where all files are CSV: in other formats it is meant as text.
        all_csv = {format_of(file, layout.format) for file in files} == {"csv"}
        numbers = TextNumbers(tuple(layout.text)) if all_csv else None
        spill = Spill(scratch / "rows", spill_bytes, numbers)
        with (scratch / "rejected.jsonl").open("w") as written_aside:
            aside = Aside(written_aside, keep_going=rejected is not None)
            collect(summary, _read(files, layout, aside, progress), layout, spill, aside)
            # Raises an error if too many records were set aside; nothing is written then.
            aside.close(0 if rejected is None else int(max_rejected * summary.rows))
        if layout.items_of:
            spill = first_known(spill, layout, scratch / "rows")
            layout = dataclasses.replace(
                layout, items_of=(), time=None, snapshot=min(spill.days(), default=OLDEST)
            )
        if rejected is not None and summary.rejected:
            summary.warning = summary.warning or _rejected_warning(summary, aside.advice)
            storage.write_bytes(rejected, (scratch / "rejected.jsonl").read_bytes())
        put_days(summary, spill, scratch / "out", out, layout, replace)
    days = set(spill.days())
    if summary.first and summary.last:
        span = [summary.first + timedelta(n) for n in range((summary.last - summary.first).days)]
        summary.missing = [day for day in span if day not in days][:_LISTED_DAYS]
    return summary


@contextmanager
def scratch_for(out: str, rejected: str | None = None) -> Iterator[Path]:
    """A folder for temporary files, if the places of the results are right.

    Raises:
      UsageError: one is not. Raised before anything is read, because reading may take hours.
    """
    for uri in (out, rejected or ""):
        storage.is_remote(uri)
    if "{date}" not in out:
        raise UsageError(
            "--out must be the folder of one day and contain {date}, as in"
            f" '{storage.join(out, 'dt={date}')}/'; found {out!r}. Nothing was read."
        )
    with tempfile.TemporaryDirectory(prefix="twinspire-partition-") as folder:
        scratch = Path(folder)
        (scratch / "rows").mkdir()
        yield scratch


def _rejected_warning(summary: Summary, advice: str) -> str | None:
    """A warning if all records were set aside, or if it is known what would read them; else None."""
    if summary.rejected == summary.rows:
        return f"no record has a day: all {summary.rows:,} were set aside. {advice}".rstrip()
    return f"{summary.rejected:,} records were set aside. {advice}" if advice else None


def _find(sources: Sequence[str], downloads: Path, format: Format) -> list[Path]:
    """The files that the sources name: local files, and downloads of remote ones."""
    files: list[Path] = []
    for number, source in enumerate(sources):
        path = Path(source)
        if storage.is_remote(source):
            path = storage.localize(source, downloads / str(number))
        is_pattern = not path.exists()
        of_source = (
            sorted(map(Path, glob(source, recursive=True))) if is_pattern else files_below(path)
        )
        if not of_source:
            raise UsageError(
                f"There is no file at {source}. Give the paths of existing files or folders, or a pattern."
            )
        files += of_source
    for file in files:
        format_of(file, format)  # raises an error for an unknown ending, before hours of work
    return files


def _read(
    files: list[Path], layout: Layout, aside: Aside, progress: Progress
) -> Iterator[tuple[str, pa.Table]]:
    """The rows of files in tables, each with the path of its file."""
    total = sum(path.stat().st_size for path in files)
    done = 0
    for path in files:
        size = path.stat().st_size

        # Bound as defaults: a closure would see the values of a later round.
        def show(share: float, done: int = done, size: int = size) -> None:
            progress(done + int(share * size), total)

        for raw in read(path, aside.take, layout.format, layout.csv, show):
            yield str(path), flat(raw)
        done += size


def collect(
    summary: Summary,
    tables: Iterable[tuple[str, pa.Table]],
    layout: Layout,
    spill: Spill,
    aside: Aside,
) -> None:
    """Gives the rows of tables to the spill, each with its day, and adds them to the summary. Tables come
    with the name of their source.
    """
    first = layout.first or date.min
    last = layout.last or date.max
    rows_of: Counter[str] = Counter()
    for source, table in tables:
        _check_names(table, layout, source)
        days, table = _days(table, layout, source, rows_of[source], aside)
        inside = (days >= first) & (days <= last)
        summary.outside += int((~inside).sum())  # a null is neither inside nor outside
        spill.add(table, days, inside.fill_null(False))
        rows_of[source] += len(table)
    summary.rows += rows_of.total() + aside.lines
    summary.rejected += aside.count


def _check_names(table: pa.Table, layout: Layout, path: str) -> None:
    """Refuses a table that has a name twice, or no column of the time."""
    names = table.column_names
    if len(set(names)) < len(names):
        (repeated, _), *_ = Counter(names).most_common(1)
        raise UsageError(
            f"Column names must be unique; {path} has {repeated!r} twice. Rename one of them in the file."
        )
    name = layout.time
    if name is None or name in names:
        return
    delimiter = next((c for c in "\t;|," if c in names[0]), None) if len(names) == 1 else None
    if delimiter:
        written = "$'\\t'" if delimiter == "\t" else f"'{delimiter}'"
        raise BadData(
            f"{path} has no column {name!r}. It has a single column, {names[0]!r}, probably"
            f" because its delimiter is another character. Add --delimiter {written}."
        )
    hint = did_you_mean(name, names, "; ") or "."
    raise BadData(
        f"{path} has no column {name!r}. Its columns are {', '.join(names)}{hint}"
        " Name another column, or leave the file out."
    )


def _days(
    table: pa.Table, layout: Layout, path: str, row: int, aside: Aside
) -> tuple[pl.Series, pa.Table]:
    """The day of each row, [N] Date, null for rows that are set aside; and the table, with timestamps if
    its times have a format.
    """
    if layout.snapshot:
        return pl.Series([layout.snapshot], dtype=pl.Date).new_from_index(0, len(table)), table
    assert layout.time is not None
    given = times = table[layout.time]
    if layout.time_format:
        form, zone = TimeForm(format=layout.time_format), ZoneInfo(layout.time_zone)
        times = in_form(pl.Series(given), form, zone).to_arrow()
        table = table.set_column(table.column_names.index(layout.time), layout.time, times)
    try:
        days = calendar_days(times, layout.time_unit, layout.time_zone)
    except UsageError as e:
        raise UsageError(f"{path}, column {layout.time!r}: {e}") from e
    # A wrong clock, unit or year: such a day would be the first or the newest of the log
    tomorrow = datetime.now(ZoneInfo(layout.time_zone)).date() + timedelta(days=1)
    is_late, is_early = (days > tomorrow).fill_null(False), (days < OLDEST).fill_null(False)
    days = days.set(is_late | is_early, None)
    bad = days.is_null().arg_true()
    wrong = pl.Series("time", given).filter(days.is_null() & ~is_late).drop_nulls()
    if len(wrong) and not aside.advice and (advice := form_advice(wrong)):
        aside.advice = f"Times such as {wrong[0]!r} need their form: {advice}"
    for at in bad:
        value = given[at].as_py()
        reason = "is null" if value is None else f"= {value!r} is no time"
        if is_late[at]:
            reason = f"= {value!r} is after tomorrow"
        if is_early[at]:
            reason = f"= {value!r} is before {OLDEST}"
        # The time as the file has it: with a format, the table now holds a null in its place.
        record = json.dumps({**table.slice(at, 1).to_pylist()[0], layout.time: value}, default=str)
        aside.take(
            Malformed(path, f"row {row + at + 1}", f"{layout.time} {reason}", record),
            is_row=True,
        )
    return days, table
