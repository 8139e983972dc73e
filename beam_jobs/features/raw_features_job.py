"""The first job of the stage `features`: everything that needs no transform graph; what it found, for
people and for later stages; and whether the day is refused. Imports no TensorFlow.
"""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Literal

import apache_beam as beam
import pyarrow as pa

from beam_jobs.beam import batches, engine, written_rows
from beam_jobs.features.counters import Counted, Counters
from beam_jobs.features.job_graph import RawFeatures, Rows
from beam_jobs.ingest import columns
from beam_jobs.ingest.day_files import SourceFile, Table
from beam_jobs.point_in_time.job import FeatureJob, plan_job
from twinspire_core import storage
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.attempts import StageContext
from twinspire_core.contracts.features_report import (
    CorpusReport,
    FeaturesReport,
    MisplacedEvents,
    ReadDays,
    SnapshotRows,
    Snapshots,
)
from twinspire_core.errors import BadData, NothingToDo
from twinspire_core.sources.candidate_sources import fits_of
from twinspire_core.sources.sequences import Sequences
from twinspire_core.storage import parquet_files
from twinspire_core.terminal import console

_SHOWN_TYPES = 10

SnapshotTable = Literal["items", "users"]


def make_report(job: FeatureJob, counters: Counters) -> FeaturesReport:
    """The report of a run, without the day's statistics."""
    day = job.plan.day
    other_days = [read for read in job.inputs.events if read != day]

    def events(what: Counted, at: date = day) -> int:
        return counters.of(what, "events", at)

    def left_out(at: date) -> int:
        return events(Counted.TOO_LATE, at) + events(Counted.EARLY, at)

    def rejected(at: date) -> dict[str, int]:
        return counters.by_detail(Counted.REJECTED, "events", at)

    def listed(folder: str) -> int:
        return counters.of(Counted.LISTED, "items", day, folder)

    def replayed(at: date) -> int:
        folder = f"{feature_schema.replay_folder(at)}/{feature_schema.EVALUATION}"
        return counters.of(Counted.LISTED, "users", day, folder)

    examples = {at: events(Counted.EXAMPLES, at) for at in job.plan.examples}
    return FeaturesReport(
        rows=events(Counted.GOOD) + left_out(day) + sum(rejected(day).values()),
        rejected=rejected(day),
        late=MisplacedEvents(
            of_earlier_days=events(Counted.LATE),
            of_later_days=events(Counted.EARLY),
            left_out=left_out(day),
            left_out_of_other_days=sum(map(left_out, other_days)),
            stragglers=events(Counted.STRAGGLERS),
            digest=job.late.digest,
        ),
        duplicates=events(Counted.DUPLICATES),
        excess=events(Counted.EXCESS),
        positives=events(Counted.EXAMPLES),
        users=events(Counted.USERS),
        items=events(Counted.ITEMS),
        held_out_positives=events(Counted.HELD_OUT_EXAMPLES),
        queries=events(Counted.QUERIES),
        held_out_queries={at: events(Counted.HELD_OUT_QUERIES, at) for at in job.plan.evaluation},
        known_users=events(Counted.KNOWN_USERS),
        corpus_start=listed(feature_schema.CORPUS_START),
        corpus_end=listed(feature_schema.CORPUS_END),
        unlisted_items=counters.of(Counted.UNLISTED_ITEMS, "items", day),
        unlisted_events=counters.of(Counted.UNLISTED_EVENTS, "items", day),
        snapshots=Snapshots(
            items=_snapshots(counters, "items", job.inputs.items),
            users=_snapshots(counters, "users", job.inputs.users),
        ),
        days=ReadDays(first=job.plan.first, read=len(job.inputs.events), missing=_missing(job)),
        examples={at: n for at, n in examples.items() if n},
        replayed={at: replayed(at) for at in job.plan.replay},
        rejected_of_other_days={
            at: sum(rejected(at).values()) for at in other_days if rejected(at)
        },
        duplicates_of_other_days=sum(events(Counted.DUPLICATES, at) for at in other_days),
    )


def _snapshots(
    counters: Counters, table: SnapshotTable, files: Mapping[date, tuple[SourceFile, ...]]
) -> dict[date, SnapshotRows]:
    return {
        day: SnapshotRows(
            rows=counters.of(Counted.GOOD, table, day),
            rejected=counters.by_detail(Counted.REJECTED, table, day),
            duplicates=counters.of(Counted.DUPLICATES, table, day),
        )
        for day in files
    }


def _missing(job: FeatureJob) -> list[date]:
    """Days without logs, between the first that has any and the day."""
    oldest = min(job.inputs.events, default=job.plan.day)
    return [day for day in job.plan.read if day > oldest and day not in job.inputs.events]


def check(job: FeatureJob, counters: Counters, report: FeaturesReport) -> None:
    """Raises BadData if too much was set aside, a column was never there, or nothing is left."""
    _check_columns(job, counters)
    for day in job.plan.examples:
        _check_rejected(job, counters, "events", day)
    check_snapshots(job, counters)
    if report.positives == 0:
        types = counters.by_detail(Counted.TYPES, "events", job.plan.day)
        most_frequent = sorted(types.items(), key=lambda item: -item[1])[:_SHOWN_TYPES]
        found = ", ".join(f"{event_type or 'none'}: {n:,}" for event_type, n in most_frequent)
        warning = misplaced(job, report)
        raise BadData(
            f"A day has positives: events of the types {list(job.p.columns.positives)}"
            f" (columns.positives). {job.plan.day} has none; its events are of the types"
            f" {found or '(it has no good records)'}. Mend columns.positives, or skip the day."
            + (f" {warning}" if warning else "")
        )


def misplaced(job: FeatureJob, report: FeaturesReport) -> str:
    """What is odd about the times of a day's events, empty if nothing: more of them are of other
    days than may be.
    """
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
    """Raises BadData if too many of their rows were set aside."""
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
        f"At most source.max_rejected = {most:g} of a day's records may be malformed; of"
        f" {table} of {day} {bad:,} of {every:,} are"
        f" ({bad / every:.1%}):\n{listed}\nFile and row of each are in"
        f" {storage.join(job.out, feature_schema.REJECTED)}. Mend them, or raise"
        " source.max_rejected."
    )


def _check_columns(job: FeatureJob, counters: Counters) -> None:
    """JSON Lines may leave keys out; but one that no file of the day has is a mistake in the
    pipeline file.
    """
    day = job.plan.day
    parts = counters.of(Counted.PARTS, "events", day)
    absent = counters.by_detail(Counted.ABSENT, "events", day)
    # Every part of a file says what it lacks; a column is absent if all of them do.
    for column in columns.events(job.p):
        if parts and absent.get(column.use) == parts:
            raise BadData(
                f"{column.use} names the column {column.source!r} of events; no record of {day} has"
                " it. Name another column in the pipeline file, or remove what uses it."
            )


def write_source_tables(job: FeatureJob) -> None:
    """Fits what the pipeline's sources need, and writes it to `NAME/start`, `NAME/end` and the folders of
    replayed days.
    """
    fits = fits_of(job.p.sources.use)
    if not fits:
        return
    plan = job.plan
    for moment in plan.table_days:
        folder = storage.join(job.out, plan.folder(feature_schema.SEQUENCES, moment))
        if not storage.list_files(folder):
            continue  # nobody has any event
        # By name of the file: the same order on every run.
        events = parquet_files.read_folder(folder)
        corpus = storage.join(job.out, plan.folder(feature_schema.CORPUS, moment))
        rows = parquet_files.read_folder(corpus, ["_item"])
        items = rows.sort_by("_item")["_item"].combine_chunks()
        sequences = Sequences.of(events, items)
        for name, fit in fits.items():
            console.print(f"features {plan.day}: fitting {name} as of the start of {moment}")
            table = fit(sequences, items)
            _write(storage.join(job.out, plan.folder(name, moment), "00000.parquet"), table)


def _write(place: str, table: pa.Table) -> None:
    whole = table.combine_chunks().to_batches()
    if not whole:
        whole = [pa.RecordBatch.from_pylist([], schema=table.schema)]
    storage.write_bytes(place, batches.parquet(whole))


def write_raw(ctx: StageContext, look: Callable[[Rows], None]) -> FeaturesReport:
    """Writes examples, corpora, queries, users and rejected records.

    Args:
      look: adds the steps that look at the rows on their way.

    Returns:
      The report, without the day's statistics. It is not written yet, unless the day is refused.

    Raises:
      NothingToDo: the day has no events.
      BadData: input breaks a rule of the pipeline file.
    """
    job = plan_job(ctx)
    days = job.inputs.events
    if ctx.day not in days:
        raise NothingToDo(f"{ctx.day} has no files of events ({ctx.pipeline.source.events}).")
    console.print(
        f"features {ctx.day}: {len(days)} days of events from {min(days)} on, "
        f"examples of {len(days.keys() & set(job.plan.examples))}"
        + (f", {len(job.plan.replay)} replayed" if job.plan.replay else "")
    )
    counters = _run(job, look)
    report = make_report(job, counters)
    try:
        check(job, counters, report)
    except BadData:
        # What was found in a day that is refused is the first thing that people look at.
        report.write(ctx.out)
        raise
    if warning := misplaced(job, report):
        console.print(f"features {ctx.day}: {warning}", soft_wrap=True)
    if report.excess:
        most = ctx.pipeline.source.max_user_events
        console.print(
            f"features {ctx.day}: {report.excess:,} events beyond source.max_user_events ="
            f" {most:,} left out"
        )
    return report


def write_served(ctx: StageContext) -> CorpusReport:
    """Writes only what is served after the day and needs no training: corpus, co-occurrence, users,
    as of its end.

    Days of events that are not there, the last one included, are done without.

    Returns:
      The report, as far as it is about these.

    Raises:
      BadData: a snapshot breaks a rule of the pipeline file, or there is none that is old enough.
    """
    job = plan_job(ctx, "served")
    console.print(
        f"catalogue of {ctx.day}: {len(job.inputs.events)} days of events from {job.plan.first} on"
    )
    counters = _run(job, lambda rows: None)
    check_snapshots(job, counters)
    report = make_report(job, counters).of_corpus()
    report.write(ctx.out)
    return report


def _run(job: FeatureJob, look: Callable[[Rows], None]) -> Counters:
    """Runs the job. Batches that went through it by file are removed, however it ends."""

    def build(pipeline: beam.Pipeline) -> None:
        look(pipeline | "Raw features" >> RawFeatures(job))

    try:
        engine.run_job(job.p.beam.options, build, job.out)
    finally:
        batches.clear_spilled(job.out)
    counters = Counters.take(job.out)
    written_rows.check(job.out, _written(job, counters))
    write_source_tables(job)
    return counters


def _written(job: FeatureJob, counters: Counters) -> dict[str, int]:
    """Rows that the job wrote, by folder of its output."""
    day = job.plan.day
    rows = {
        f"{feature_schema.EXAMPLES}/dt={at}": counters.of(Counted.EXAMPLES, "events", at)
        for at in job.plan.examples
    }
    queries = [counters.of(Counted.QUERIES, "events", at) for at in job.plan.evaluation]
    rows[feature_schema.EVALUATION] = sum(queries)
    rows[feature_schema.USERS] = counters.of(Counted.KNOWN_USERS, "events", day)
    for table in ("items", "users"):
        rows |= counters.by_detail(Counted.LISTED, table, day)
    return rows
