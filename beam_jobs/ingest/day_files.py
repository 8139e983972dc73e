"""Where a day's logs and snapshots lie. Imports no Beam.

An events folder holds one day's events. A snapshot is valid from its day until the next one: items
as they were at some moment of the day, users as they were after it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from itertools import chain
from typing import Literal, NamedTuple

from beam_jobs import day_plan
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.errors import BadData

Table = Literal["events", "items", "users"]


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
      items_of: snapshot day valid on each day of examples, on replayed ones, and on the day of the run.
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
    template = _template(p, table)
    if template is None:
        return ()
    listed = storage.list_files(folder(template, day))
    return tuple(
        SourceFile(table, day, file.uri, file.path, file.size, file.digest)
        for file in listed
        if not _is_marker(file.path)
    )


def _is_marker(path: str) -> bool:
    """Whether a file or a folder above it begins with `_` or `.`."""
    return any(part[0] in "_." for part in path.split("/"))


def _template(p: Pipeline, table: Table) -> str | None:
    match table:
        case "events":
            return p.source.events
        case "items":
            return p.source.items
        case "users":
            return p.source.users


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
        there = f"where the first is of {first}" if first else "which has no snapshots at all"
        raise BadData(
            f"A day needs an items snapshot of that day or before; for {plan.day} there is none in"
            f" {p.source.items}, {there}."
            " Lay one out there, or remove source.items to recommend whatever has events."
        )
    # A training day older than all snapshots has no item features; that is no reason not to train
    # on it.
    items_of = _valid({day: items.at(day) for day in {*plan.examples, *plan.replay, plan.day}})
    # A snapshot says how users were after its day: for a day's queries it is one of before.
    last = (plan.day, day_plan.after(plan.day))
    days_of_queries = {*plan.examples, *plan.evaluation, *plan.replay, *last}
    users_of = _valid({day: users.at(day - timedelta(days=1)) for day in days_of_queries})
    return Inputs(
        events={day: found for day, found in all_events.items() if found},
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
    """Files of the days after `day` that may hold late events of it, of those days that are
    complete.
    """
    after = (day + timedelta(days=n) for n in range(1, p.source.late_days + 1))
    all_files = {later: files(p, "events", later) for later in after if is_complete(p, later)}
    return {later: found for later, found in all_files.items() if found}


def is_complete(p: Pipeline, day: date) -> bool:
    """Whether a day's folder has its `source.done_marker`, if one is declared."""
    marker = p.source.done_marker
    if marker is None:
        return True
    return storage.exists(storage.join(folder(p.source.events, day), marker))


def input_name(file: SourceFile) -> str:
    """How a file is named among those that a run reads: by table, folder date and name."""
    return f"{file.table}/{file.day}/{file.name}"


def fingerprint(
    p: Pipeline,
    day: date,
    scope: day_plan.Scope,
    known: dict[str, str] | None = None,
    *,
    replays: bool = False,
) -> dict[str, str]:
    """Digests of all files that a run of the day reads, by `input_name`.

    But for the days after it: late events that come when a day has been run leave it done, see
    later_folders.py.

    Args:
      p: the pipeline.
      day: the day.
      scope: of the run.
      known: digests of files by their place, for runs of several days that read the same ones: those
        that are in it are not read, the others are added.
      replays: whether the run replays days before the day.
    """
    if known is None:
        known = {}
    found = inputs(p, day_plan.make_plan(p, day, scope, replays=replays))
    digests = {}
    for table in (found.events, found.items, found.users):
        for file in chain.from_iterable(table.values()):
            if file.uri not in known:
                known[file.uri] = file.digest or storage.file_digest(file.uri)
            digests[input_name(file)] = known[file.uri]
    return digests


class SnapshotDays:
    """A table's snapshots; folders without files do not count."""

    def __init__(self, p: Pipeline, table: Table) -> None:
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
    template = _template(p, table)
    if template is None:
        return []
    head, _, tail = template.partition("{date}")
    parent, _, prefix = head.rpartition("/")
    suffix = re.escape(tail.partition("/")[0]).replace(re.escape("{date}"), "(?P=date)")
    pattern = re.compile(re.escape(prefix) + r"(?P<date>\d{4}-\d{2}-\d{2})" + suffix)
    matches = (pattern.fullmatch(name) for name in storage.list_names(parent))
    days = (_date(match["date"]) for match in matches if match)
    return sorted(day for day in days if day is not None)


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def folder(template: str, day: date) -> str:
    """The folder of a table on a day."""
    return template.replace("{date}", str(day)).rstrip("/")
