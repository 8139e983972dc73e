"""Finds the logs and snapshots of a day, and checks that they are there, complete, and about as large as
usual. Imports no Beam.

A folder of events has the events of one day. A snapshot is valid from its day until the next
snapshot. A snapshot of items is of some moment of its day; a snapshot of users is of the end of
its day.
"""

import os
import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from itertools import chain
from typing import Literal, NamedTuple, get_args

from beam_jobs import day_plan
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import BadData, LogsLate, NothingToDo, did_you_mean
from twinspire_core.records.raw_files import format_of
from twinspire_core.records.record_file import RecordFile
from twinspire_core.terminal import console, doing

Table = Literal["events", "items", "users"]
_LISTED = 5
_DATE_LENGTH = len("2017-10-15")


class SourceFile(NamedTuple):
    """A raw file.

    Attributes:
      day: the date in the name of its folder.
      name: its path below the folder.
      size: in bytes.
      digest: as the store keeps it; None if it keeps none.
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
      events: files of the days that have any, oldest day first.
      later: files of the days after the run's day that may hold late events (`source.late_days`).
      items: files of items snapshots, by the day of the snapshot.
      users: files of users snapshots, by the day of the snapshot.
      items_of: for days of examples, replayed days and the run's day, the snapshot that is valid then.
      users_of: for days of queries, the newest snapshot before the day.
    """

    events: Mapping[date, tuple[SourceFile, ...]]
    later: Mapping[date, tuple[SourceFile, ...]]
    items: Mapping[date, tuple[SourceFile, ...]]
    users: Mapping[date, tuple[SourceFile, ...]]
    items_of: Mapping[date, date]
    users_of: Mapping[date, date]


def declared_tables(p: Pipeline) -> list[Table]:
    """The tables that the pipeline file names."""
    return [table for table in get_args(Table) if getattr(p.source, table)]


def files(p: Pipeline, table: Table, day: date) -> tuple[SourceFile, ...]:
    """Files of a table's folder for `day`, sorted; without markers, which begin with `_` or `.`."""
    template: str | None = getattr(p.source, table)
    if template is None:
        return ()
    return tuple(
        SourceFile(table, day, file.uri, file.path, file.size, file.digest)
        for file in storage.list_files(folder(template, day))
        if all(part[0] not in "_." for part in file.path.split("/"))
    )


def inputs(p: Pipeline, plan: day_plan.Plan) -> Inputs:
    """Finds the files that a run reads.

    Raises:
      BadData: items are declared, and no snapshot is as old as the day.
    """
    all_events = {day: files(p, "events", day) for day in plan.read}
    items = SnapshotDays(p, "items")
    users = SnapshotDays(p, "users")
    if p.source.items and not items.at(plan.day):
        first = min(items.days, default=None)
        snapshots = f"where the first is of {first}" if first else "which has no snapshots at all"
        raise BadData(
            f"A day needs an items snapshot of that day or an earlier day; there is none for"
            f" {plan.day} in {p.source.items}, {snapshots}."
            " Put one there, or remove source.items to recommend all items that have events."
        )
    # A training day older than all snapshots has no item features, and is trained on all the same.
    items_of = _valid({day: items.at(day) for day in {*plan.examples, *plan.replay, plan.day}})
    # A snapshot says how users were after its day: for a day's queries it is one of before.
    last = (plan.day, day_plan.after(plan.day))
    days_of_queries = {*plan.examples, *plan.evaluation, *plan.replay, *last}
    users_of = _valid({day: users.at(day - timedelta(days=1)) for day in days_of_queries})
    return Inputs(
        events={day: of_day for day, of_day in all_events.items() if of_day},
        later=later_files(p, plan.day),
        items={day: files(p, "items", day) for day in sorted(set(items_of.values()))},
        users={day: files(p, "users", day) for day in sorted(set(users_of.values()))},
        items_of=items_of,
        users_of=users_of,
    )


def _valid(snapshot_days: Mapping[date, date | None]) -> dict[date, date]:
    """Without the days on which no snapshot is valid."""
    return {day: at for day, at in snapshot_days.items() if at is not None}


def later_files(p: Pipeline, day: date) -> dict[date, tuple[SourceFile, ...]]:
    """Files of the complete days after `day` that may hold late events of it."""
    after = (day + timedelta(days=n) for n in range(1, p.source.late_days + 1))
    all_files = {later: files(p, "events", later) for later in after if is_complete(p, later)}
    return {later: of_day for later, of_day in all_files.items() if of_day}


def is_complete(p: Pipeline, day: date) -> bool:
    """Whether a day's folder has its `source.done_marker`, if one is declared."""
    marker = p.source.done_marker
    if marker is None:
        return True
    return storage.exists(storage.join(folder(p.source.events, day), marker))


def input_name(file: SourceFile) -> str:
    """Name of a file among those that a run reads: table, date of its folder, and path below it."""
    return f"{file.table}/{file.day}/{file.name}"


def fingerprint(
    p: Pipeline,
    day: date,
    scope: day_plan.Scope,
    digests_by_uri: dict[str, str] | None = None,
    *,
    replays: bool = False,
) -> dict[str, str]:
    """Digests of all files that a run of the day reads, by `input_name`. Files of later days are left
    out: late events that arrive after a run leave it done (point_in_time/job.py).

    Args:
      p: the parsed pipeline file.
      day: the day of the run.
      scope: what the run makes.
      known: digests of files by URI, shared by runs of several days: files in it are not read again,
        and others are added.
      replays: whether the run replays days before the day.
    """
    if digests_by_uri is None:
        digests_by_uri = {}
    read = inputs(p, day_plan.make_plan(p, day, scope, replays=replays))
    digests = {}
    for table in (read.events, read.items, read.users):
        for file in chain.from_iterable(table.values()):
            if file.uri not in digests_by_uri:
                digests_by_uri[file.uri] = file.digest or storage.file_digest(file.uri)
            digests[input_name(file)] = digests_by_uri[file.uri]
    return digests


class SnapshotDays:
    """A table's snapshots; folders without files do not count."""

    def __init__(self, p: Pipeline, table: Table) -> None:
        # Listing a folder may be a request to a store, and many days have the same snapshot.
        self._files = cache(lambda day: files(p, table, day))
        self.days = folder_days(p, table)

    def at(self, day: date) -> date | None:
        """Day of the newest snapshot at or before `day`."""
        for snapshot_day in reversed(self.days):
            if snapshot_day <= day and self._files(snapshot_day):
                return snapshot_day
        return None


def folder_days(p: Pipeline, table: Table) -> list[date]:
    """Days for which a table has a folder, which may be empty, oldest first."""
    template: str | None = getattr(p.source, table)
    if template is None:
        return []
    head, _, tail = template.partition("{date}")
    parent, _, prefix = head.rpartition("/")
    # The date may come again in the same folder's name, and is the same then.
    name = f"{prefix}{{date}}{tail.partition('/')[0]}"
    listed = set(storage.list_names(parent))
    dates = {_date(folder_name[len(prefix) :][:_DATE_LENGTH]) for folder_name in listed}
    return sorted(day for day in dates if day and name.replace("{date}", str(day)) in listed)


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def folder(template: str, day: date) -> str:
    """The folder of a table on a day."""
    return template.replace("{date}", str(day)).rstrip("/")


_COMPARED_WEEKS = 7
_POLL_SECONDS = 5.0
# The first and last bytes of a Parquet file. Without them at its end, a file is not complete.
_PARQUET = b"PAR1"


def check(p: Pipeline, day: date) -> dict[str, float | None]:
    """Checks that the logs of a day are there, complete, and about as large as usual; waits for late logs.

    Returns: `rows` of the day, and `usual_rows`: the median of the same weekday of the last 7 weeks,
      without days that have no rows, or None.

    Raises:
      LogsLate: the day is not there, or not complete, after `source.wait`.
      NothingToDo: it is there, and has no rows.
      BadData: it has fewer rows than `source.min_share` of the usual number, or cannot be read.
    """
    rows = count_rows(p.source.format, _await(p, day))
    if rows == 0:
        raise NothingToDo(
            f"{day} has no events: {folder(p.source.events, day)} holds no rows. It is skipped."
        )
    # The same weekday of earlier weeks: a shop's Sundays differ from its Mondays.
    earlier = [day - timedelta(weeks=week) for week in range(1, _COMPARED_WEEKS + 1)]
    all_counts = {at: count_rows(p.source.format, files(p, "events", at)) for at in earlier}
    counts = {at: n for at, n in all_counts.items() if n}
    usual = statistics.median(counts.values()) if counts else None
    if usual is not None and rows < p.source.min_share * usual:
        listed = ", ".join(f"{at}: {n:,}" for at, n in counts.items())
        raise BadData(
            f"A day must have at least source.min_share = {p.source.min_share:g} of the usual rows of"
            f" its weekday; {day} has {rows:,} of {usual:,.0f} ({rows / usual:.0%}; {listed}). If logs"
            " of the day are missing, deliver them and run the day again. If the day is complete,"
            " lower source.min_share and run it again."
        )
    # Raises if there is no items snapshot for the day, before hours of work.
    inputs(p, day_plan.make_plan(p, day, "incremental"))
    return {"rows": rows, "usual_rows": usual}


def count_rows(given: str, files: Iterable[SourceFile]) -> int:
    """Records in all the files, counted cheaply: footers of Parquet, line ends of text.

    CSV header lines are left out; a line break inside quotes counts as an end.

    Raises:
      BadData: a file cannot be read.
    """
    return sum(RecordFile.of(file.uri, given).count() for file in files)


def _await(p: Pipeline, day: date) -> tuple[SourceFile, ...]:
    """The day's files, as soon as it is complete."""
    day_folder = folder(p.source.events, day)
    marker = p.source.done_marker
    awaited = day_folder if marker is None else storage.join(day_folder, marker)
    deadline = time.monotonic() + p.source.wait.total_seconds()
    if p.source.wait and not storage.exists(day_folder):
        console.print(f"Waiting up to {p.source.wait} for {day_folder}")
    with doing(f"waiting for {day_folder}") as update:
        while True:
            half = None
            # The marker first, then the files: it is written after them.
            if marker is None or storage.exists(awaited):
                day_files = files(p, "events", day)
                # With a marker the day is complete: a file that is cut off will stay so.
                half = _half_copied(p, day_files) if marker is None else None
                if half is None and (day_files or marker is not None):
                    return day_files
            left = deadline - time.monotonic()
            if left <= 0:
                raise _not_there(p, day, awaited, half)
            update(f"waiting for {half or awaited}, {left:.0f} s at most")
            time.sleep(min(_POLL_SECONDS, left))


def _half_copied(p: Pipeline, files: Iterable[SourceFile]) -> str | None:
    """A local Parquet file with its beginning but not its end, as while it is copied; objects in a store
    appear whole.
    """
    for file in files:
        if storage.is_remote(file.uri) or format_of(file.uri, p.source.format) != "parquet":
            continue
        with storage.open_bytes(file.uri) as raw:
            first = raw.read(len(_PARQUET))
            # A whole file begins and ends with these bytes, and has some between.
            raw.seek(max(len(_PARQUET), raw.seek(0, os.SEEK_END) - len(_PARQUET)))
            if _PARQUET.startswith(first) and raw.read() != _PARQUET:
                return file.uri
    return None


def _not_there(p: Pipeline, day: date, awaited: str, half: str | None) -> LogsLate:
    waited = f" after a wait of {p.source.wait}" if p.source.wait else ""
    if half:
        return LogsLate(
            f"The events of {day} are not complete yet: {half} is a Parquet file without its end"
            f"{waited}. It is still being copied, or it is truncated. Run the day again later. If the"
            " file no longer grows, deliver it again."
        )
    missing = f"{awaited} does not exist or is empty{waited}"
    days = SnapshotDays(p, "events")
    newest = days.at(date.max)
    if newest is None:
        return LogsLate(f"There are no events of {day}: {missing}; {no_days(p, 'events')}")
    if day < days.days[0]:
        return LogsLate(
            f"There are no events of {day}: {missing}. The log begins on {days.days[0]}. Choose a later day,"
            " or deliver the logs of earlier days."
        )
    return LogsLate(
        f"The events of {day} are not there yet: {missing}; the newest day with events is {newest}. Run the"
        " day again later, or set source.wait, so that the stage waits for it."
        " If the logs will never come, leave the day out: gaps are allowed."
    )


def no_days(p: Pipeline, table: Table) -> str:
    """What a table without any day has instead, and what to do: the rest of a message."""
    parent = getattr(p.source, table).partition("{date}")[0].rpartition("/")[0]
    name = ""
    while not storage.exists(parent) and "/" in parent.rstrip("/"):
        parent, _, name = parent.rstrip("/").rpartition("/")
    names = storage.list_names(parent)
    holds = f"{parent} holds {', '.join(names[:_LISTED]) or 'nothing'}{', …' if names[_LISTED:] else ''}"
    hint = did_you_mean(name, names, " ")
    return (
        f"no day has {table}: {holds}.{hint} Correct source.{table}, or write the days' files with"
        " `twinspire partition`."
    )
