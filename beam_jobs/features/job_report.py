"""What the feature job found, for people and for the next stages; and whether it can be put up
with.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from beam_jobs.ingest.record_blocks import Rejected, to_json_lines
from beam_jobs.point_in_time.job import FeatureJob
from twinspire_core import storage
from twinspire_core.contracts import feature_schema
from twinspire_core.errors import BadData

Numbers = dict[tuple[str, str, str], dict[str, int]]
"""(what, table, day) -> detail -> how many, as the steps count them."""


def write_numbers(job: FeatureJob, numbers: Iterable[tuple[str, int]]) -> None:
    """Adds numbers of the same name up and writes them, for `read_numbers`."""
    sums: dict[str, int] = {}
    for name, n in numbers:
        sums[name] = sums.get(name, 0) + n
    storage.write_bytes(storage.join(job.out, feature_schema.REPORT), json.dumps(sums).encode())


def write_rejected(job: FeatureJob, records: Iterable[Rejected]) -> None:
    """Writes down what was set aside."""
    storage.write_bytes(
        storage.join(job.out, feature_schema.REJECTED, "records.jsonl"), to_json_lines(records)
    )


def read_numbers(job: FeatureJob) -> Numbers:
    """What the job's steps counted."""
    flat = json.loads(storage.read_bytes(storage.join(job.out, feature_schema.REPORT)))
    numbers: Numbers = defaultdict(dict)
    for name, n in flat.items():
        what, table, day, detail = name.split("|", 3)
        numbers[what, table, day][detail] = n
    return numbers


def make_report(job: FeatureJob, numbers: Numbers) -> dict[str, Any]:
    """The contents of report.json."""
    day = str(job.plan.day)
    read = [str(d) for d in job.inputs.events]

    def of(what: str, table: str = "events", at: str = day) -> int:
        return numbers.get((what, table, at), {}).get("", 0)

    rejected = {d: reasons for d in read if (reasons := numbers.get(("rejected", "events", d)))}
    left_out = of("too late") + of("early")
    return {
        "rows": of("good") + left_out + sum(numbers.get(("rejected", "events", day), {}).values()),
        "rejected": numbers.get(("rejected", "events", day), {}),
        "late": {
            "of_earlier_days": of("late"),
            "of_later_days": of("early"),
            "left_out": left_out,
            "left_out_of_other_days": sum(
                of("too late", at=d) + of("early", at=d) for d in read if d != day
            ),
            "stragglers": of("stragglers"),
        },
        "duplicates": of("doubles"),
        "excess": of("excess"),
        "positives": of("examples"),
        "users": of("users"),
        "items": of("items"),
        "held_out_positives": of("held out examples"),
        "queries": of("queries"),
        "held_out_queries": {
            str(d): of("held out queries", at=str(d)) for d in job.plan.evaluation
        },
        "known_users": of("known users"),
        "corpus_start": of(feature_schema.CORPUS_START, "items"),
        "corpus_end": of(feature_schema.CORPUS_END, "items"),
        "unlisted_items": of("unlisted", "items"),
        "unlisted_events": of("unlisted events", "items"),
        "snapshots": {table: _snapshots(job, numbers, table) for table in ("items", "users")},
        "days": {"first": str(job.plan.first), "read": len(read), "missing": _missing(job)},
        "examples": {
            str(d): of("examples", at=str(d))
            for d in job.plan.examples
            if of("examples", at=str(d))
        },
        "rejected_of_other_days": {
            d: sum(reasons.values()) for d, reasons in rejected.items() if d != day
        },
        "duplicates_of_other_days": sum(of("doubles", at=d) for d in read if d != day),
    }


def _snapshots(job: FeatureJob, numbers: Numbers, table: str) -> dict[str, Any]:
    found = getattr(job.inputs, table)
    return {
        str(at): {
            "rows": numbers.get(("good", table, str(at)), {}).get("", 0),
            "rejected": numbers.get(("rejected", table, str(at)), {}),
            "duplicates": numbers.get(("doubles", table, str(at)), {}).get("", 0),
        }
        for at in found
    }


def _missing(job: FeatureJob) -> list[str]:
    """Days without logs, between the first that has any and the day."""
    oldest = min(job.inputs.events, default=job.plan.day)
    return [str(d) for d in job.plan.read if d > oldest and d not in job.inputs.events]


def check(job: FeatureJob, numbers: Numbers) -> None:
    """Raises BadData if too much was set aside, a column was never there, or nothing is left."""
    day = str(job.plan.day)
    _check_columns(job, numbers)
    for example_day in job.plan.examples:
        _check_rejected(job, numbers, "events", str(example_day))
    check_snapshots(job, numbers)
    if not numbers.get(("examples", "events", day)):
        types: Mapping[str, int] = numbers.get(("type", "events", day), {})
        found = ", ".join(
            f"{kind or 'none'}: {n:,}"
            for kind, n in sorted(types.items(), key=lambda t: -t[1])[:10]
        )
        raise BadData(
            f"A day has positives: events of the types {list(job.p.columns.positives)}"
            f" (columns.positives). {day} has none; its events are of the types"
            f" {found or '(it has no good records)'}. Mend columns.positives, or skip the day."
            + (f" {warning}" if (warning := misplaced(job, make_report(job, numbers))) else "")
        )


def misplaced(job: FeatureJob, found: Mapping[str, Any]) -> str:
    """What is odd about the times of a day's events, empty if nothing: more of them are of other
    days than may be.
    """
    late, rows = found["late"], found["rows"]
    if late["left_out"] <= job.p.source.max_rejected * rows:
        return ""
    return (
        f"{late['left_out']:,} of the {rows:,} events in the folder ({late['left_out'] / rows:.1%})"
        f" are of other days and left out; {late['of_earlier_days']:,} are of earlier days,"
        f" {late['of_later_days']:,} of later ones. If events come late, set source.late_days; if"
        " not, check pipeline.time_zone and columns.time_unit."
    )


def check_snapshots(job: FeatureJob, numbers: Numbers) -> None:
    """Raises BadData if too many of their rows were set aside."""
    for table in ("items", "users"):
        for at in getattr(job.inputs, table):
            _check_rejected(job, numbers, table, str(at))


def _check_rejected(job: FeatureJob, numbers: Numbers, table: str, at: str) -> None:
    reasons = numbers.get(("rejected", table, at), {})
    bad, good = sum(reasons.values()), numbers.get(("good", table, at), {}).get("", 0)
    most = job.p.source.max_rejected
    if bad > most * (bad + good):
        listed = "\n".join(
            f"  - {reason}: {n:,}" for reason, n in sorted(reasons.items(), key=lambda r: -r[1])
        )
        raise BadData(
            f"At most source.max_rejected = {most:g} of a day's records may be malformed; of"
            f" {table} of {at} {bad:,} of {bad + good:,} are"
            f" ({bad / (bad + good):.1%}):\n{listed}\nFile and row of each are in"
            f" {storage.join(job.out, feature_schema.REJECTED)}. Mend them, or raise"
            " source.max_rejected."
        )


def _check_columns(job: FeatureJob, numbers: Numbers) -> None:
    """JSON Lines may leave keys out; but one that no file of the day has is a mistake in the
    pipeline file.
    """
    day = str(job.plan.day)
    parts = numbers.get(("parts", "events", day), {}).get("", 0)
    for column, n in numbers.get(("absent", "events", day), {}).items():
        if n == parts:
            use, source = column.split("\t")
            raise BadData(
                f"{use} names the column {source!r} of events; no record of {day} has it. Name"
                " another column in the pipeline file, or remove what uses it."
            )
