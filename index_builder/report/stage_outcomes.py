"""What the stages of the day had to say of its data, and how the version was made."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from index_builder.gate.skew_rule import describe
from index_builder.report.facts import Facts
from index_builder.report.report_blocks import Section
from twinspire_core.config.tables.gate import GateConfig
from twinspire_core.contracts.features_report import (
    DayStatistics,
    FeatureSkew,
    MisplacedEvents,
    ReadDays,
)
from twinspire_core.display.figures import NONE, count, number, share
from twinspire_core.display.table import Row, Style, Table, in_style

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
    report = facts.data
    if report is None:
        text = ["The working files of the features stage are gone, and its counts with them."]
        return Section(anchor="data", title="The data", text=text, half=True)
    text = [
        _rejected(report.rejected, report.rows),
        *_late(report.late),
        *_days(report.days),
        *_unusual(report.statistics),
    ]
    counts = [[label, count(getattr(report, name))] for name, label in _COUNTS.items()]
    tables = [Table(head=["", str(facts.manifest.date)], rows=counts, title="Counts")]
    if report.skew:
        tables.append(_skew(report.skew, facts.limits))
    if report.rejected:
        reasons = sorted(report.rejected.items(), key=lambda item: -item[1])
        rejects = [[reason, count(records)] for reason, records in reasons]
        tables.append(Table(head=["reason", "records"], rows=rejects, title="Records set aside"))
    return Section(anchor="data", title="The data", text=text, tables=tables, half=True)


def _rejected(rejected: Mapping[str, int], rows: int) -> str:
    bad = sum(rejected.values())
    return (
        f"{count(bad)} of {count(rows)} records were set aside as malformed"
        f" ({share(bad / max(1, rows), 2)})."
    )


def _late(late: MisplacedEvents) -> list[str]:
    sentences = []
    if late.left_out:
        sentences.append(
            f"{count(late.left_out)} events of other days than the folder that they lay in were"
            " left out."
        )
    if late.stragglers:
        sentences.append(
            f"{count(late.stragglers)} events of the day came late, in folders of later days."
        )
    return [" ".join(sentences)] if sentences else []


def _days(days: ReadDays | None) -> list[str]:
    if days is None:
        return []
    text = f"Histories and counts look back on {count(days.read)} days, from {days.first}"
    if days.missing:
        text += f"; without logs: {', '.join(map(str, days.missing))}"
    return [f"{text}."]


def _skew(features: Sequence[FeatureSkew], limits: GateConfig) -> Table:
    """Each feature in training beside what is served."""
    rows: list[Row] = []
    for one in features:
        row = [one.feature, number(one.distance, 2), share(one.outside), describe(one)]
        beyond = one.distance > limits.max_skew or one.outside > limits.max_outside
        rows.append(in_style(row, Style.WARNING if beyond else None))
    return Table(
        head=["feature", "distance", "outside", "values"],
        rows=rows,
        title=(
            "Features of what is served, beside those of the rows trained on; the gate notes a"
            f" distance above {limits.max_skew:g}, and more than {limits.max_outside:.0%} outside"
            " the range trained on"
        ),
        prose=(3,),
        folded=True,
    )


def _unusual(statistics: DayStatistics | None) -> list[str]:
    compared = statistics.compared_with if statistics else None
    beside = f"Beside {compared.day}" if compared else "With no earlier day to compare with"
    if statistics is None or not statistics.anomalies:
        return [f"{beside}, nothing was out of the limits of [statistics]."]
    anomalies = [f"• {text}" for text in statistics.anomalies]
    return [f"{beside}, out of the limits of [statistics]:", *anomalies]


def origin(facts: Facts) -> Section:
    """What the version was made from and with."""
    manifest = facts.manifest
    rows = [
        ["version", manifest.version],
        ["parent", manifest.parent or "none: trained from scratch"],
    ]
    if manifest.refreshes:
        rows.append(["towers of", manifest.refreshes])
        rows.append(["catalogue of", str(manifest.corpus_date)])
    rows += [[f"{stage}, working files", place] for stage, place in manifest.sources.items()]
    rows += [[name, text] for name, text in manifest.software.items()]
    settings = settings_by_path(manifest.settings)
    return Section(
        anchor="origin",
        title="How it was made",
        tables=[
            Table(head=["", ""], rows=rows, title="Working files and software"),
            Table(
                head=["setting", "value"],
                rows=[[name, setting_text(value)] for name, value in settings.items()],
                title="Settings of the pipeline file",
                folded=True,
            ),
        ],
        half=True,
    )


def settings_by_path(settings: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    """The settings of a manifest by their names with dots, as `train.epochs`."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        path = f"{start}{name}"
        if isinstance(value, Mapping) and value:
            found |= settings_by_path(value, f"{path}.")
        else:
            found[path] = value
    return found


def setting_text(value: Any) -> str:
    """A setting as people read it; what is no text is written as JSON."""
    if value is None:
        return NONE
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
