"""Counts of the feature job, and the report of a run that is made of them.

Steps yield counts. The client sums them, compares them with the written files, and refuses the day if too
many records were rejected.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date
from enum import StrEnum
from typing import NamedTuple

from beam_jobs.beam.worker_view import read_written
from beam_jobs.ingest.day_files import SourceFile, Table
from beam_jobs.point_in_time.job import FeatureJob
from twinspire_core import storage
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.features_report import (
    FeaturesReport,
    MisplacedEvents,
    ReadDays,
    SnapshotRows,
    Snapshots,
)
from twinspire_core.errors import BadData

COUNTERS = "counters.json"
"""File below the stage's output with the sums, until the report is made."""
_SHOWN_TYPES = 10


class Counted(StrEnum):
    """The kinds of counts: records of a table, by the day of their folder unless another day is named.

    GOOD: records that break no rule.
    REJECTED: malformed records; detail: the reason.
    LATE, TOO_LATE, EARLY: events of other days than their folder's, see `CheckedRecords`.
    STRAGGLERS: late events that are used, by the day of their time.
    TYPES: events of the job's day; detail: their type, "" for none.
    PARTS: parts of files that were read.
    ABSENT: parts of files without any value of a column; detail: the column's use.
    DUPLICATES: copies that were dropped.
    EXCESS: events beyond `source.max_user_events`, by the day of their time.
    USERS, ITEMS: those with a positive on the job's day.
    EXAMPLES, HELD_OUT_EXAMPLES: by their day.
    LISTED: rows of other tables of items or users; detail: their folder in the output.
    UNLISTED_ITEMS: items with events that the snapshot lacks.
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
    LISTED = "listed"
    UNLISTED_ITEMS = "unlisted items"


class Count(NamedTuple):
    """A count, to be summed with others of the same key.

    Beam sends it field by field, as text and a number, so a StrEnum and a date are stored as text.

    Attributes:
      what: value of a `Counted`.
      day: as 2017-10-16.
      detail: as `Counted` describes it, or empty.
    """

    what: str
    table: str
    day: str
    detail: str
    n: int


def count(kind: Counted, table: Table, day: date, n: int, detail: str = "") -> Count:
    """A count of this kind for a table on a day."""
    return Count(kind.value, table, str(day), detail, n)


def count_of(file: SourceFile, kind: Counted, n: int, detail: str = "") -> Count:
    """A count of the records of a file."""
    return count(kind, file.table, file.day, n, detail)


class Counters:
    """Sums of counts."""

    def __init__(self, counts: Iterable[Count]) -> None:
        """Adds up the counts."""
        self._sums: Counter[tuple[str, ...]] = Counter()
        for *key, n in counts:
            self._sums[tuple(key)] += n

    def of(self, kind: Counted, table: Table, day: date, detail: str = "") -> int:
        """One sum; 0 if nothing was counted."""
        return self._sums[kind.value, table, str(day), detail]

    def by_detail(self, kind: Counted, table: Table, day: date) -> dict[str, int]:
        """The sums of a kind by detail, in order of the details."""
        wanted = (kind.value, table, str(day))
        sums = {detail: n for (*key, detail), n in self._sums.items() if (*key,) == wanted}
        # Sorted, because counts arrive in a different order on each run.
        return dict(sorted(sums.items()))

    def write(self, out: str) -> None:
        """Writes the sums below the stage's output."""
        rows = [(*key, n) for key, n in self._sums.items()]
        storage.write_bytes(storage.join(out, COUNTERS), json.dumps(rows).encode())

    @classmethod
    def take(cls, out: str) -> "Counters":
        """Reads what `write` wrote, and removes the file.

        Raises:
          UsageError: it is not here.
        """
        uri = storage.join(out, COUNTERS)
        counters = cls(Count(*row) for row in json.loads(read_written(uri)))
        # The file is not part of the output: the order of its sums differs between runs, but equal inputs
        # must give equal files.
        storage.delete_file(uri)
        return counters


def make_report(job: FeatureJob, counters: Counters) -> FeaturesReport:
    """The report of a run, without statistics and skew."""
    day = job.plan.day

    def events(kind: Counted, at: date = day) -> int:
        return counters.of(kind, "events", at)

    def listed(table: Table, folder: str) -> int:
        return counters.of(Counted.LISTED, table, day, folder)

    left_out = events(Counted.TOO_LATE) + events(Counted.EARLY)
    rejected = counters.by_detail(Counted.REJECTED, "events", day)
    # Days before the first day with logs are not missing, because the log begins there.
    oldest = min(job.inputs.events, default=day)
    missing = [at for at in job.plan.read if at > oldest and at not in job.inputs.events]
    return FeaturesReport(
        rows=events(Counted.GOOD) + left_out + sum(rejected.values()),
        rejected=rejected,
        late=MisplacedEvents(
            of_earlier_days=events(Counted.LATE),
            of_later_days=events(Counted.EARLY),
            left_out=left_out,
            stragglers=events(Counted.STRAGGLERS),
            digest=job.late.digest,
        ),
        duplicates=events(Counted.DUPLICATES),
        excess=events(Counted.EXCESS),
        positives=events(Counted.EXAMPLES),
        users=events(Counted.USERS),
        items=events(Counted.ITEMS),
        held_out_positives=events(Counted.HELD_OUT_EXAMPLES),
        known_users=listed("users", feature_schema.USERS),
        corpus_end=listed("items", feature_schema.CORPUS_END),
        unlisted_items=counters.of(Counted.UNLISTED_ITEMS, "items", day),
        snapshots=Snapshots(
            items=_snapshots(counters, "items", job.inputs.items),
            users=_snapshots(counters, "users", job.inputs.users),
        ),
        days=ReadDays(first=job.plan.first, read=len(job.inputs.events), missing=missing),
        examples={at: n for at in job.plan.examples if (n := events(Counted.EXAMPLES, at))},
        replayed={
            at: listed("users", f"{feature_schema.replay_folder(at)}/{feature_schema.EVALUATION}")
            for at in job.plan.replay
        },
    )


def _snapshots(
    counters: Counters, table: Table, files: Mapping[date, tuple[SourceFile, ...]]
) -> dict[date, SnapshotRows]:
    return {
        day: SnapshotRows(
            rows=counters.of(Counted.GOOD, table, day),
            rejected=counters.by_detail(Counted.REJECTED, table, day),
            duplicates=counters.of(Counted.DUPLICATES, table, day),
        )
        for day in files
    }


def rows_written(job: FeatureJob, counters: Counters) -> dict[str, int]:
    """Rows that the job wrote, by folder of its output. `worker_view.check_written` compares them with the
    files.
    """
    day = job.plan.day
    rows = {
        f"{feature_schema.EXAMPLES}/dt={at}": counters.of(Counted.EXAMPLES, "events", at)
        for at in job.plan.examples
    }
    for table in ("items", "users"):
        rows |= counters.by_detail(Counted.LISTED, table, day)
    return rows


def refuse_bad_day(job: FeatureJob, counters: Counters, report: FeaturesReport) -> None:
    """Raises BadData if too many records were rejected, a column has no value, or no positive is left."""
    _check_columns(job, counters)
    for day in job.plan.examples:
        _check_rejected(job, counters, "events", day)
    check_snapshots(job, counters)
    if report.positives == 0:
        # The usual cause is a wrong name in columns.positives, so the message lists the types of the log.
        types = counters.by_detail(Counted.TYPES, "events", job.plan.day)
        most_frequent = sorted(types.items(), key=lambda item: -item[1])[:_SHOWN_TYPES]
        listed = ", ".join(f"{event_type or 'none'}: {n:,}" for event_type, n in most_frequent)
        warning = misplaced(job, report)
        raise BadData(
            f"A day needs positives: events of the types {list(job.p.columns.positives)}"
            f" (columns.positives). {job.plan.day} has none. The types of its events are"
            f" {listed or '(it has no valid records)'}. Correct columns.positives, or skip the day."
            + (f" {warning}" if warning else "")
        )


def misplaced(job: FeatureJob, report: FeaturesReport) -> str:
    """A warning if too many events in the day's folder are of other days; else empty."""
    late = report.late
    if late.left_out <= job.p.source.max_rejected * report.rows:
        return ""
    return (
        f"{late.left_out:,} of the {report.rows:,} events in the folder"
        f" ({late.left_out / report.rows:.1%})"
        f" are of other days and left out; {late.of_earlier_days:,} are of earlier days,"
        f" {late.of_later_days:,} of later ones. If events come late, set source.late_days; if"
        " not, check pipeline.time_zone and columns.time_unit."
    )


def check_snapshots(job: FeatureJob, counters: Counters) -> None:
    """Raises BadData if too many rows of a snapshot were rejected."""
    for day in job.inputs.items:
        _check_rejected(job, counters, "items", day)
    for day in job.inputs.users:
        _check_rejected(job, counters, "users", day)


def _check_rejected(job: FeatureJob, counters: Counters, table: Table, day: date) -> None:
    reasons = counters.by_detail(Counted.REJECTED, table, day)
    bad = sum(reasons.values())
    every = bad + counters.of(Counted.GOOD, table, day)
    most = job.p.source.max_rejected
    if bad <= most * every:  # also where there are no records at all
        return
    most_frequent = sorted(reasons.items(), key=lambda item: -item[1])
    listed = "\n".join(f"  - {reason}: {n:,}" for reason, n in most_frequent)
    raise BadData(
        f"At most source.max_rejected = {most:g} of a day's records may be malformed; in"
        f" {table} of {day}, {bad:,} of {every:,} are malformed"
        f" ({bad / every:.1%}):\n{listed}\nThe file and the row of each are in"
        f" {storage.join(job.out, feature_schema.REJECTED)}. Correct them, or raise"
        " source.max_rejected."
    )


def _check_columns(job: FeatureJob, counters: Counters) -> None:
    """Raises BadData for a column that no file of the day has. Lines of JSON may lack a key, but a key
    that all lines lack is a mistake in the pipeline file.
    """
    day = job.plan.day
    parts = counters.of(Counted.PARTS, "events", day)
    absent = counters.by_detail(Counted.ABSENT, "events", day)
    # Each part of a file counts the columns that it lacks. A column is absent if all parts lack it.
    for column in job.columns["events"]:
        if parts and absent.get(column.use) == parts:
            raise BadData(
                f"{column.use} names the column {column.source!r} of events, but no record of {day} has"
                " it. Name another column in the pipeline file, or remove the key."
            )
