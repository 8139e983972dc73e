"""Lays raw log files out as one folder per day, which is how every other stage reads them.

    OUT/dt=2017-10-15/part-0.parquet      the rows of that day, in the order they came
    OUT/dt=2017-10-15/_SUCCESS            if a done marker is asked for: written after the rows

Columns keep their types; one of a CSV becomes numbers where it holds nothing else, see column_types.py.
The whole input is read before the first folder is touched. A day's file appears whole or not at
all, and is left alone when it holds the same bytes already, so that running twice changes nothing.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, timedelta
from difflib import get_close_matches
from glob import glob
from itertools import islice
from pathlib import Path

import polars as pl
import pyarrow as pa

from beam_jobs.partitioning.calendar_days import Layout, calendar_days, unit_warning
from beam_jobs.partitioning.column_types import TextNumbers
from beam_jobs.partitioning.log_tables import Aside, Format, Malformed, format_of, read
from beam_jobs.partitioning.spill import Spill
from twinspire_core import storage
from twinspire_core.errors import BadData, UsageError

PART = "part-0.parquet"
SPILL_BYTES = 256 << 20

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Summary:
    """What became of the input.

    Attributes:
      rows: records read.
      days: days that have rows.
      first: the first of them.
      last: the last of them.
      written: days written that were not there.
      replaced: days that were there with other rows, which these took the place of.
      unchanged: days that were there with the same bytes.
      outside: rows of days before `first` or after `last` of the layout.
      rejected: records set aside.
      missing: days without rows between the first and the last, the first hundred.
      warning: what looks wrong about the days, or None.
    """

    rows: int = 0
    days: int = 0
    first: date | None = None
    last: date | None = None
    written: int = 0
    replaced: int = 0
    unchanged: int = 0
    outside: int = 0
    rejected: int = 0
    missing: list[date] = field(default_factory=list)
    warning: str | None = None


def partition(
    sources: Sequence[str],
    out: str,
    layout: Layout,
    *,
    rejected: str | None = None,
    progress: Progress = lambda done, total: None,
    spill_bytes: int = SPILL_BYTES,
) -> Summary:
    """Lays files out by day.

    Args:
      sources: files, folders or patterns; local, or `gs://` files and folders.
      out: folder of a day, with `{date}`; without it, `dt={date}` is added. Local or `gs://`.
      layout: which row belongs to which day.
      rejected: JSON Lines file for records that have no day or are none; without it, one such
        record is an error.
      progress: called with bytes of input read and in all.
      spill_bytes: rows kept in memory; more go through temporary files.

    Raises:
      UsageError: the arguments do not fit one another or the files.
      BadData: a file cannot be read, lacks a column, or holds bad records and `rejected` is not
      given.
    """
    template = out if "{date}" in out else storage.join(out, "dt={date}")
    with ExitStack() as stack:
        scratch = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="twinspire-partition-"))
        )
        files = _find(sources, scratch / "in", layout.format)
        aside = Aside(
            stack.enter_context((scratch / "rejected.jsonl").open("w")),
            keep_going=rejected is not None,
        )
        (scratch / "rows").mkdir()
        # Only where all is CSV: text of other formats was meant as text.
        all_csv = {format_of(file, layout.format) for file in files} == {"csv"}
        spill = Spill(
            scratch / "rows", spill_bytes, TextNumbers(tuple(layout.text)) if all_csv else None
        )
        summary = _collect(files, layout, spill, aside, progress)
        aside.close()
        if rejected is not None and summary.rejected:
            storage.write_bytes(rejected, (scratch / "rejected.jsonl").read_bytes())
        _publish(spill, scratch / "out", template, layout.done_marker, summary)
    return summary


def _find(sources: Sequence[str], downloads: Path, format: Format) -> list[Path]:
    files: list[Path] = []
    for number, source in enumerate(sources):
        place = (
            storage.localize(source, downloads / str(number))
            if storage.is_remote(source)
            else Path(source)
        )
        if place.is_dir():
            found = sorted(
                p for p in place.rglob("*") if p.is_file() and not p.name.startswith((".", "_"))
            )
        else:
            found = (
                [place] if place.exists() else sorted(Path(p) for p in glob(source, recursive=True))
            )
        if not found:
            raise UsageError(
                f"No file found at {source}. Give files, folders or patterns that are there."
            )
        files += found
    for path in files:
        format_of(path, format)  # an unknown ending is told before hours of work
    return files


def _collect(
    files: list[Path], layout: Layout, spill: Spill, aside: Aside, progress: Progress
) -> Summary:
    summary, done, total = Summary(), 0, sum(path.stat().st_size for path in files)
    for path in files:
        row, size = 0, path.stat().st_size

        def tell(share: float, done: int = done, size: int = size) -> None:
            progress(done + int(share * size), total)

        for raw in read(path, aside.take, layout.format, layout.csv, tell):
            table = _rename(raw, layout, path)
            days = _days(table, layout, path, row, aside)
            if layout.time and not summary.warning:
                summary.warning = unit_warning(table[layout.time], layout.time_unit, days)
            inside = (days >= (layout.first or date.min)) & (days <= (layout.last or date.max))
            summary.outside += int((~inside).sum())  # a null is neither inside nor outside
            spill.add(table, days, inside.fill_null(False))
            row += len(table)
        summary.rows += row
        done += size
    summary.rows += aside.lines
    summary.rejected = aside.count
    return summary


def _rename(table: pa.Table, layout: Layout, path: Path) -> pa.Table:
    for name in [
        *layout.rename,
        *([layout.time] if layout.time and layout.time not in layout.rename.values() else []),
    ]:
        _require(name, table, path)
    names = [layout.rename.get(name, name) for name in table.column_names]
    doubles = sorted(name for name, times in Counter(names).items() if times > 1)
    if doubles:
        raise UsageError(
            f"Column names are unique, but {path} would have {doubles[0]!r} twice. Check --rename"
            " and the file."
        )
    return table.rename_columns(names)


def _require(name: str, table: pa.Table, path: Path) -> None:
    if name in table.column_names:
        return
    near = get_close_matches(name, table.column_names, 1, cutoff=0.5)
    cut = next(
        (c for c in "\t;|," if len(table.column_names) == 1 and c in table.column_names[0]), None
    )
    if cut:
        written = "$'\\t'" if cut == "\t" else f"'{cut}'"
        raise BadData(
            f"{path} has no column {name!r}, but a single one, {table.column_names[0]!r}: it is"
            f" probably cut at another character. Say it with --delimiter {written}."
        )
    raise BadData(
        f"{path} has no column {name!r}; it has {', '.join(table.column_names)}. "
        + (f"Did you mean {near[0]!r}? " if near else "")
        + "Name another column, or leave the file out."
    )


def _days(table: pa.Table, layout: Layout, path: Path, row: int, aside: Aside) -> pl.Series:
    """[N] the day of each row; null for those that have none, which go aside."""
    if layout.snapshot:
        return pl.Series([layout.snapshot], dtype=pl.Date).new_from_index(0, len(table))
    assert layout.time is not None
    try:
        days = calendar_days(table[layout.time], layout.time_unit, layout.time_zone)
    except UsageError as e:
        raise UsageError(f"{path}, column {layout.time!r}: {e}") from e
    for bad in days.is_null().arg_true():
        value = table[layout.time][bad].as_py()
        reason = (
            f"{layout.time} is null" if value is None else f"{layout.time} = {value!r} is no time"
        )
        record = json.dumps(table.slice(bad, 1).to_pylist()[0], default=str)
        aside.take(Malformed(str(path), f"row {row + bad + 1}", reason, record), is_row=True)
    return days


def _publish(
    spill: Spill, staging: Path, template: str, marker: str | None, summary: Summary
) -> None:
    days = spill.days()
    for day in days:
        home, folder = template.replace("{date}", str(day)), staging / str(day)
        folder.mkdir(parents=True)
        spill.write(day, folder / PART)
        target = storage.join(home, PART)
        there = storage.exists(target)
        if there and storage.file_digest(target) == storage.file_digest(str(folder / PART)):
            summary.unchanged += 1
        else:
            storage.upload_tree(folder, home)
            summary.replaced += there
            summary.written += not there
        (folder / PART).unlink()
        if marker and not storage.exists(storage.join(home, marker)):
            storage.write_bytes(storage.join(home, marker), b"")
    summary.days = len(days)
    if days:
        summary.first, summary.last = days[0], days[-1]
        known = set(days)
        span = (days[0] + timedelta(n) for n in range((days[-1] - days[0]).days))
        summary.missing = list(islice((day for day in span if day not in known), 100))
