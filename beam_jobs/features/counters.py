"""What the steps of the feature job count, added up into one table for the report."""

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from enum import StrEnum
from typing import NamedTuple

from beam_jobs.beam.written_rows import read_written
from beam_jobs.ingest.day_files import SourceFile, Table
from twinspire_core import storage

COUNTERS = "counters.json"
"""Where the sums wait, below the stage's output, until the job has ended and the report is made."""


class Counted(StrEnum):
    """What is counted: records of a table, by the day of their folder unless another day is said.

    GOOD: records that break no rule.
    REJECTED: malformed records; detail: the reason.
    LATE, TOO_LATE, EARLY: events of other days than their folder's, see `CheckedRecords`.
    STRAGGLERS: late events that are used, by the day of their time.
    TYPES: events of the job's day; detail: their type, "" for none.
    PARTS: parts of files.
    ABSENT: parts of files no record of which had some column; detail: the column's use.
    DUPLICATES: copies that were dropped.
    EXCESS: events beyond `source.max_user_events`, by the day of their time.
    USERS, ITEMS: those with a positive on the job's day.
    EXAMPLES, HELD_OUT_EXAMPLES: by their day.
    QUERIES, HELD_OUT_QUERIES: by the day that they measure.
    KNOWN_USERS: users as of the end of the job's day.
    LISTED: rows of the items; detail: the folder of the output that they are in.
    UNLISTED_ITEMS, UNLISTED_EVENTS: items that the snapshot lacks, and their events.
    """

    GOOD = "good"
    REJECTED = "rejected"
    LATE = "late"
    TOO_LATE = "too late"
    EARLY = "early"
    STRAGGLERS = "stragglers"
    TYPES = "types"
    PARTS = "parts"
    ABSENT = "absent"
    DUPLICATES = "duplicates"
    EXCESS = "excess"
    USERS = "users"
    ITEMS = "items"
    EXAMPLES = "examples"
    HELD_OUT_EXAMPLES = "held out examples"
    QUERIES = "queries"
    HELD_OUT_QUERIES = "held out queries"
    KNOWN_USERS = "known users"
    LISTED = "listed"
    UNLISTED_ITEMS = "unlisted items"
    UNLISTED_EVENTS = "unlisted events"


class Count(NamedTuple):
    """One count, to be added to others of the same thing.

    Beam sends it field by field, as text and a number: a StrEnum and a date are text by then.

    Attributes:
      what: a `Counted`.
      table: `events`, `items` or `users`.
      day: as 2017-10-16.
      detail: what `Counted` says, or empty.
      n: how many.
    """

    what: str
    table: str
    day: str
    detail: str
    n: int


def count(what: Counted, table: Table, day: date, n: int, detail: str = "") -> Count:
    """A count."""
    return Count(what.value, table, str(day), detail, n)


def count_of(file: SourceFile, what: Counted, n: int, detail: str = "") -> Count:
    """A count of the records of a file."""
    return count(what, file.table, file.day, n, detail)


class Counters:
    """Sums of counts."""

    def __init__(self, counts: Iterable[Count]) -> None:
        """Adds up."""
        # By what is counted, table and day; of these, by detail.
        self._sums: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
        for what, table, day, detail, n in counts:
            sums = self._sums[what, table, day]
            sums[detail] = sums.get(detail, 0) + n

    def of(self, what: Counted, table: Table, day: date, detail: str = "") -> int:
        """One sum."""
        return self.by_detail(what, table, day).get(detail, 0)

    def by_detail(self, what: Counted, table: Table, day: date) -> dict[str, int]:
        """The sums of a thing that is counted by detail, in order of that."""
        # Not in the order in which they came, which differs between runs.
        return dict(sorted(self._sums.get((what.value, table, str(day)), {}).items()))

    def write(self, out: str) -> None:
        """Writes the sums below the stage's output."""
        rows = [
            Count(*thing, detail, n)
            for thing, sums in self._sums.items()
            for detail, n in sums.items()
        ]
        storage.write_bytes(storage.join(out, COUNTERS), json.dumps(rows).encode())

    @classmethod
    def take(cls, out: str) -> "Counters":
        """Reads what `write` wrote, and removes the file.

        Raises:
          UsageError: it is not here.
        """
        place = storage.join(out, COUNTERS)
        counters = cls(Count(*row) for row in json.loads(read_written(place)))
        storage.delete_file(place)
        return counters
