"""What the day's data was like."""

from collections.abc import Mapping
from typing import Any

from index_builder.report.facts import Facts
from index_builder.report.report_blocks import Section, Table, count, share

_COUNTS = {
    "rows": "events in the logs",
    "duplicates": "exact duplicates, dropped",
    "excess": "events beyond source.max_user_events, left out",
    "positives": "events that count as taken",
    "users": "users",
    "items": "items",
    "held_out_positives": "events of held-out users",
    "known_users": "users known at the end of the day",
    "corpus_end": "items in the catalogue",
    "unlisted_items": "items taken that the items table lacks",
}


def data(facts: Facts) -> Section:
    """Rows, users, items; what was set aside; what was unusual."""
    found = facts.data
    if not found:
        text = ["The working files of the features stage are gone, and its counts with them."]
        return Section(anchor="data", title="The data", text=text, half=True)
    rejected, rows = found.get("rejected") or {}, found.get("rows") or 0
    text = [
        _rejected(rejected, rows),
        *_late(found.get("late") or {}),
        *_days(found.get("days") or {}),
        *_unusual(found.get("statistics") or {}),
    ]
    counts = [
        [label, count(found[name])]
        for name, label in _COUNTS.items()
        if found.get(name) is not None
    ]
    tables = [Table(head=["", str(facts.manifest.date)], rows=counts, caption="Counts")]
    if rejected:
        reasons = sorted(rejected.items(), key=lambda item: -item[1])
        rejects = [[reason, count(n)] for reason, n in reasons]
        tables.append(Table(head=["reason", "records"], rows=rejects, caption="Records set aside"))
    return Section(anchor="data", title="The data", text=text, tables=tables, half=True)


def _rejected(rejected: Mapping[str, int], rows: int) -> str:
    bad = sum(rejected.values())
    return (
        f"{count(bad)} of {count(rows)} records were set aside as malformed"
        f" ({share(bad / max(1, rows), 2)})."
    )


def _late(late: Mapping[str, int]) -> list[str]:
    told = {
        "left_out": "of other days than the folder that they lay in were left out",
        "stragglers": "of the day came late, in folders of later days",
    }
    found = [f"{count(late[name])} events {what}." for name, what in told.items() if late.get(name)]
    return [" ".join(found)] if found else []


def _days(days: Mapping[str, Any]) -> list[str]:
    if not days:
        return []
    missing = days.get("missing") or []
    gaps = f"; without logs: {', '.join(missing)}" if missing else ""
    return [
        f"Histories and counts look back on {count(days.get('read'))} days, from"
        f" {days.get('first')}{gaps}."
    ]


def _unusual(statistics: Mapping[str, Any]) -> list[str]:
    anomalies, compared = statistics.get("anomalies") or [], statistics.get("compared_with")
    beside = f"Beside {compared['day']}" if compared else "With no earlier day to compare with"
    if not anomalies:
        return [f"{beside}, nothing was out of the limits of [statistics]."]
    return [f"{beside}, out of the limits of [statistics]:", *(f"• {text}" for text in anomalies)]
