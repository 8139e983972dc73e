"""Where a day's logs and snapshots lie, and whether a day is fit to be processed. Imports no Beam.

An events folder holds one day's events. A snapshot is valid from its day until the next one: items
as they were at some moment of the day, users as they were after it.
"""

import re
import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from typing import Any, Literal, NamedTuple

from rich.console import Console

from beam_jobs import day_plan
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import BadData, NothingToDo, TryAgain
from twinspire_core.records.raw_files import Kind, format_of, readable
from twinspire_core.records.record_file import RecordFile

Table = Literal["events", "items", "users"]

_COMPARED_WEEKS = 7
_POLL_SECONDS = 5.0


class SourceFile(NamedTuple):
    """A raw file.

    Attributes:
      table: `events`, `items` or `users`.
      day: the date in its folder's name.
      uri: where it is.
      name: its path below the folder.
      size: in bytes.
      digest: as the store keeps it, or None.
    """

    table: Table
    day: date
    uri: str
    name: str
    size: int
    digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """All files that a run reads.

    Attributes:
      events: files of the days that are read and have any, oldest first.
      later: files of the days after these that may hold late events of them (`source.late_days`).
      items: snapshots by their day.
      users: the same.
      items_of: snapshot day valid on each day of examples, and on the day of the run.
      users_of: snapshot day whose rows are used for queries on a day: the newest before it.
    """

    events: Mapping[date, tuple[SourceFile, ...]]
    later: Mapping[date, tuple[SourceFile, ...]]
    items: Mapping[date, tuple[SourceFile, ...]]
    users: Mapping[date, tuple[SourceFile, ...]]
    items_of: Mapping[date, date]
    users_of: Mapping[date, date]


def files(p: Pipeline, table: Table, day: date) -> tuple[SourceFile, ...]:
    """Files of a table's folder for `day`, sorted; those that begin with `_` or `.` are markers,
    not data.
    """
    template = getattr(p.source, table)
    found = storage.list_files(_folder(template, day)) if template else []
    data = (f for f in found if not any(part[0] in "_." for part in f.path.split("/")))
    return tuple(SourceFile(table, day, f.uri, f.path, f.size, f.digest) for f in data)


def inputs(p: Pipeline, plan: day_plan.Plan) -> Inputs:
    """Finds the files that a run reads.

    Raises:
      BadData: items are declared, and no snapshot is as old as the day.
    """
    events = {day: found for day in plan.read if (found := files(p, "events", day))}
    items, users = Snapshots(p, "items"), Snapshots(p, "users")
    if p.source.items and not items.at(plan.day):
        first = min(items.days, default=None)
        raise BadData(
            f"A day needs an items snapshot of that day or before; for {plan.day} there is none in"
            f" {p.source.items},"
            f" {f'where the first is of {first}' if first else 'which has no snapshots at all'}."
            " Lay one out there, or remove source.items to recommend whatever has events."
        )
    asked = {*plan.examples, *plan.evaluation, plan.day, day_plan.after(plan.day)}
    # A training day older than all snapshots has no item features; that is no reason not to train
    # on it.
    items_of = {day: at for day in {*plan.examples, plan.day} if (at := items.at(day))}
    users_of = {day: at for day in asked if (at := users.at(day - timedelta(days=1)))}
    return Inputs(
        events=events,
        later=later_files(p, plan.day),
        items={at: files(p, "items", at) for at in sorted(set(items_of.values()))},
        users={at: files(p, "users", at) for at in sorted(set(users_of.values()))},
        items_of=items_of,
        users_of=users_of,
    )


def later_files(p: Pipeline, day: date) -> dict[date, tuple[SourceFile, ...]]:
    """Files of the days after `day` that may hold late events of it, of those days that are
    complete.
    """
    after = (day + timedelta(days=n) for n in range(1, p.source.late_days + 1))
    return {
        later: found
        for later in after
        if is_complete(p, later) and (found := files(p, "events", later))
    }


def is_complete(p: Pipeline, day: date) -> bool:
    """Whether a day's folder has its `source.done_marker`, if one is declared."""
    marker = p.source.done_marker
    return marker is None or storage.exists(storage.join(_folder(p.source.events, day), marker))


def fingerprint(p: Pipeline, day: date, mode: day_plan.Scope) -> dict[str, Any]:
    """Digests of all files that a run of the day reads, by table, folder date and name.

    But for the days after it: late events that come when a day has been run leave it done, see
    later_folders.py.
    """
    found = inputs(p, day_plan.make_plan(p, day, mode))
    tables = [found.events, found.items, found.users]
    used = (file for table in tables for group in table.values() for file in group)
    return {f"{f.table}/{f.day}/{f.name}": f.digest or storage.file_digest(f.uri) for f in used}


def check(p: Pipeline, day: date) -> dict[str, Any]:
    """Tells a day that can be processed from a late, an empty and a suspicious one; waits for a
    late one.

    Returns: `rows` of the day, and `usual_rows`: the median of the last 7 same weekdays that have
      any, or None.

    Raises:
      TryAgain: the day is not there, or not complete, after `source.wait`.
      NothingToDo: it is there, and has no rows.
      BadData: it has fewer rows than `source.min_share` of the usual number, or cannot be read.
    """
    found = _await(p, day)
    rows = count_rows(p.source.format, found)
    if rows == 0:
        raise NothingToDo(
            f"{day} has no events: {_folder(p.source.events, day)} holds no rows. It is skipped."
        )
    earlier = [day - timedelta(weeks=week) for week in range(1, _COMPARED_WEEKS + 1)]
    counts = {d: count_rows(p.source.format, files(p, "events", d)) for d in earlier}
    usual = statistics.median(known) if (known := [n for n in counts.values() if n]) else None
    if usual is not None and rows < p.source.min_share * usual:
        listed = ", ".join(f"{d}: {n:,}" for d, n in counts.items() if n)
        raise BadData(
            f"A day has at least source.min_share = {p.source.min_share:g} of the rows usual on its"
            f" weekday; {day} has {rows:,} of {usual:,.0f} ({rows / usual:.0%}; {listed}). If part"
            " of the day is missing, deliver it and run the day again; if the day is right as it"
            " is, run it with a lower source.min_share."
        )
    inputs(p, day_plan.make_plan(p, day, "incremental"))
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
    folder = _folder(p.source.events, day)
    console, deadline = Console(stderr=True), time.monotonic() + p.source.wait.total_seconds()
    if p.source.wait and not storage.exists(folder):
        console.print(f"Waiting up to {p.source.wait} for {folder}")
    with console.status(f"Waiting for {folder}") as status:
        while True:
            if p.source.done_marker is None:
                found, missing = files(p, "events", day), folder
                complete = bool(found)
            else:
                missing = storage.join(folder, p.source.done_marker)
                complete = storage.exists(missing)
                found = files(p, "events", day) if complete else ()
            if complete:
                return found
            left = deadline - time.monotonic()
            if left <= 0:
                newest = Snapshots(p, "events").at(date.max)
                raise TryAgain(
                    f"The events of {day} are not there yet: {missing} does not exist or is empty"
                    + (f" after a wait of {p.source.wait}" if p.source.wait else "")
                    + (
                        f"; the newest day that is there is {newest}"
                        if newest
                        else "; no day is there"
                    )
                    + ". Run the day again later, or set source.wait to wait for it in the stage."
                    " If this day will never come, leave it out: gaps are allowed."
                )
            status.update(f"Waiting for {missing}, {left:.0f} s at the most")
            time.sleep(min(_POLL_SECONDS, left))


class Snapshots:
    """A table's snapshots; folders without files do not count."""

    def __init__(self, p: Pipeline, table: Table) -> None:
        self._files = cache(lambda day: files(p, table, day))
        template = getattr(p.source, table)
        self.days = _dates(template) if template else []

    def at(self, day: date) -> date | None:
        """Day of the newest snapshot at or before `day`."""
        return next((at for at in reversed(self.days) if at <= day and self._files(at)), None)


def _dates(template: str) -> list[date]:
    """Dates for which there is a folder, oldest first."""
    head, _, tail = template.partition("{date}")
    parent, _, prefix = head.rpartition("/")
    suffix = re.escape(tail.partition("/")[0]).replace(re.escape("{date}"), "(?P=date)")
    pattern = re.compile(re.escape(prefix) + r"(?P<date>\d{4}-\d{2}-\d{2})" + suffix)
    found = (pattern.fullmatch(name) for name in storage.list_names(parent))
    return sorted(day for match in found if match and (day := _date(match["date"])))


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _folder(template: str, day: date) -> str:
    return template.replace("{date}", str(day)).rstrip("/")
