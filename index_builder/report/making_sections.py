"""How the version was made: changes since the previous version, the day's data, the index, the settings."""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from index_builder.gate.limits import MAX_SKEW, MOST_OUTSIDE, describe_skew
from index_builder.report.facts import Facts, Previous, Section
from twinspire_core.contracts.features_report import DayStatistics, FeatureSkew, FeaturesReport
from twinspire_core.contracts.version_manifest import IndexFigures, SettingsOrigin
from twinspire_core.display.table import (
    NONE,
    Row,
    Style,
    Table,
    change,
    count,
    in_style,
    number,
    share,
)

_NAMED = 8
_COUNTS = {
    "rows": "events in the logs",
    "duplicates": "exact duplicates, dropped",
    "excess": "events beyond source.max_user_events, left out",
    "positives": "positive events",
    "users": "users",
    "items": "items",
    "held_out_positives": "events of held-out users",
    "known_users": "users known at the end of the day",
    "corpus_end": "items in the catalogue",
    "unlisted_items": "items with events but no row in the items snapshot",
}


def changes(facts: Facts) -> Section:
    """The differences from the version that was live, or from the parent."""
    before = facts.previous
    if before is None:
        text = "This is the first published version, so there is nothing to compare it with."
        return Section(anchor="changes", title="What changed", text=[text])
    name = "the version that was live" if before.live else "its parent"
    return Section(
        anchor="changes",
        title="What changed",
        text=[f"Compared with {before.manifest.version}, {name} when this version was published."],
        tables=[_compared(facts, before), _settings(facts, before), *_items(facts, before)],
    )


def _compared(facts: Facts, before: Previous) -> Table:
    old = before.manifest
    new = facts.manifest
    # A version that was judged by another measure has no figure to compare
    quality = [
        version.quality.candidate if version.quality.metric == facts.metric else None
        for version in (old, new)
    ]
    rows = [
        ["day", str(old.date), str(new.date), NONE],
        [
            f"{facts.metric} of the two-tower, held-out users of each version's own day",
            *map(number, quality),
            _relative(*quality),
        ],
        ["index recall", *(number(x.quality.index_recall, 4) for x in (old, new)), NONE],
        ["items", count(old.items), count(new.items), _relative(old.items, new.items)],
        ["width of vectors", str(old.dimension), str(new.dimension), NONE],
        *(
            [name, old.software.get(name, NONE), new.software.get(name, NONE), NONE]
            for name in sorted({*old.software, *new.software})
            if old.software.get(name) != new.software.get(name)
        ),
    ]
    return Table(
        head=["", "before", "now", "change"],
        rows=rows,
        title=(
            "The two days have different held-out users. Only the gate compares both versions on the"
            " same users"
        ),
    )


def _relative(old: float | None, new: float | None) -> str:
    return NONE if not old or new is None else change(new / old - 1)


def _settings(facts: Facts, before: Previous) -> Table:
    old = settings_by_path(before.manifest.settings)
    new = settings_by_path(facts.manifest.settings)
    # Without the settings of the version before, every setting would look changed
    rows = [
        [name, setting_text(old.get(name)), setting_text(new.get(name))]
        for name in dict.fromkeys([*new, *old])
        if old and old.get(name) != new.get(name)
    ]
    title = "Settings that changed" if rows else "Settings: none changed."
    if not old:
        title = "Settings: the previous version does not store its settings."
    return Table(head=["setting", "before", "now"], rows=rows, title=title)


def _items(facts: Facts, before: Previous) -> list[Table]:
    """The items that are new and those that are gone, the most popular ones by name."""
    tables = []
    for how, items_of, others in (
        ("new in", facts.items, before.items),
        ("gone from", before.items, facts.items),
    ):
        # The most popular items come first
        if items := [item for item in items_of if item not in others]:
            title = f"{count(len(items))} items are {how} the catalogue"
            if len(items) > _NAMED:
                title += f"; the {_NAMED} most popular are"
            rows = [[item, items_of[item] or NONE] for item in items[:_NAMED]]
            tables.append(Table(head=["item", "name"], rows=rows, title=title))
    return tables or [Table(head=[], rows=[], title="The catalogue has the same items.")]


def data(facts: Facts) -> Section:
    """Counts of the day's data, malformed records, and anomalies."""
    report = facts.data
    text = ["There are no counts, because the working files of the features stage were deleted."]
    tables = []
    if report:
        text = [*_read(report), *_unusual(report.statistics)]
        counts = [[label, count(getattr(report, name))] for name, label in _COUNTS.items()]
        tables = [Table(head=["", str(facts.manifest.date)], rows=counts, title="Counts")]
        if report.skew:
            tables.append(_skew(report.skew))
        if report.rejected:
            reasons = sorted(report.rejected, key=lambda reason: -report.rejected[reason])
            rejects = [[reason, count(report.rejected[reason])] for reason in reasons]
            tables.append(
                Table(head=["reason", "records"], rows=rejects, title="Malformed records")
            )
    return Section(anchor="data", title="The data", text=text, tables=tables, half=True)


def _read(report: FeaturesReport) -> list[str]:
    """How many records were read, and how many were left out."""
    bad = sum(report.rejected.values())
    text = [
        f"{count(bad)} of {count(report.rows)} records were malformed and left out"
        f" ({share(bad / max(1, report.rows), 2)})."
    ]
    late = []
    if report.late.left_out:
        late.append(
            f"{count(report.late.left_out)} events were left out, because they happened on another day"
            " than that of their folder."
        )
    if report.late.stragglers:
        late.append(
            f"{count(report.late.stragglers)} events of the day arrived late, in folders of later days."
        )
    if late:
        text.append(" ".join(late))
    if days := report.days:
        missing = f"; without logs: {', '.join(map(str, days.missing))}" if days.missing else ""
        text.append(
            f"Histories and counts use {count(days.read)} days of events, from {days.first}{missing}."
        )
    return text


def _skew(features: Sequence[FeatureSkew]) -> Table:
    """Each feature's values in training and in serving."""
    rows: list[Row] = []
    for skew in features:
        row = [skew.feature, number(skew.distance, 2), share(skew.outside), describe_skew(skew)]
        beyond = skew.distance > MAX_SKEW or skew.outside > MOST_OUTSIDE
        rows.append(in_style(row, Style.WARNING if beyond else None))
    return Table(
        head=["feature", "distance", "outside", "values"],
        rows=rows,
        title=(
            "Features in serving and in training. The gate writes a note if the distance is above"
            f" {MAX_SKEW:g}, or if more than {MOST_OUTSIDE:.0%} of the values are outside the training"
            " range"
        ),
        prose=(3,),
        folded=True,
    )


def _unusual(statistics: DayStatistics | None) -> list[str]:
    compared = statistics.compared_with if statistics else None
    against = (
        f"Compared with {compared.day}" if compared else "Without an earlier day to compare with"
    )
    if statistics is None or not statistics.anomalies:
        return [f"{against}, all statistics are within the limits of [statistics]."]
    return [
        f"{against}, these are outside the limits of [statistics]:",
        *(f"• {text}" for text in statistics.anomalies),
    ]


def search(facts: Facts) -> Section:
    """The index: recall against exact search, and the settings that were tried."""
    index = facts.index
    speed = facts.speed
    text = [
        f"The kind of index is “{index.kind}”: {'; '.join(index.reasons)}. It finds"
        f" {number(index.recall, 4)} of the {index.k} exact neighbours; the target is"
        f" {index.recall_target}.",
        *_origin(index.tuning),
    ]
    if speed:
        text.append(
            f"On the machine that built it: {speed.single_ms_median:.2f} ms for one query"
            f" (99th percentile {speed.single_ms_p99:.2f} ms);"
            f" {count(round(speed.batch_queries_per_s))} queries a second in batches,"
            f" {count(round(speed.exact_queries_per_s))} by exact search."
        )
    if not index.tried:
        text.append("No settings were tried, because every query is compared with all items.")
    return Section(
        anchor="index",
        title="Search: recall against latency",
        text=text,
        tables=[_tried(index)] if index.tried else [],
        half=True,
    )


def _origin(tuning: SettingsOrigin) -> list[str]:
    """Whether the index's settings were inherited or searched for."""
    if not tuning.kinds or tuning.searched is None:
        return []
    searched = f"searched for on {date.fromisoformat(tuning.searched):%-d %B %Y}"
    if tuning.how == "inherited":
        text = (
            f"are inherited from {tuning.version}; they were {searched}, and still reach the target"
        )
    elif tuning.version:
        text = f"were {searched} and tuned again for this version: {tuning.why}"
    else:
        text = f"were searched for again: {tuning.why}"
    return [f"Its settings {text}."]


def _tried(index: IndexFigures) -> Table:
    rows = [
        in_style(
            [
                str(point.code_dimensions),
                f"{point.leaves_searched} of {point.leaves}" if point.leaves else "all",
                count(point.rescored),
                number(point.recall, 4),
                count(point.work),
            ],
            Style.STRONG if point.key == index.settings.key else None,
        )
        for point in index.tried
    ]
    return Table(
        head=["code", "leaves", "rescored", "recall", "work"],
        rows=rows,
        title=(
            f"Settings in the order in which they were tried, with recall@{index.k} on half of the sampled"
            " users; the recall above is of the other half. The chosen settings are in bold. Code:"
            " dimensions per 4-bit code. Work, by which settings are chosen: in scans of one code"
        ),
        folded=True,
    )


def origin(facts: Facts) -> Section:
    """The working files, software and settings of the version."""
    manifest = facts.manifest
    rows = {
        "version": manifest.version,
        "parent": manifest.parent or "none: trained from scratch",
    }
    if manifest.refreshes:
        rows |= {"towers of": manifest.refreshes, "catalogue of": str(manifest.corpus_date)}
    rows |= {f"{stage}, working files": location for stage, location in manifest.sources.items()}
    rows |= manifest.software
    return Section(
        anchor="origin",
        title="How it was made",
        tables=[
            Table(
                head=["", ""],
                rows=list(map(list, rows.items())),
                title="Working files and software",
            ),
            Table(
                head=["setting", "value"],
                rows=[
                    [name, setting_text(value)]
                    for name, value in settings_by_path(manifest.settings).items()
                ],
                title="Settings of the pipeline file",
                folded=True,
            ),
        ],
        half=True,
    )


def settings_by_path(settings: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    """The settings of a manifest by dotted names, such as `train.epochs`."""
    by_path: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            by_path |= settings_by_path(value, f"{start}{name}.")
        else:
            by_path[f"{start}{name}"] = value
    return by_path


def setting_text(value: Any) -> str:
    """A setting as text: strings unchanged, other values as JSON."""
    if value is None:
        return NONE
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
