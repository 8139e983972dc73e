"""Published versions: which there are, which is live, how good they are."""

from typing import TYPE_CHECKING, Any

from rich.console import Console

from index_builder.registry.registry import Registry
from index_builder.registry.versions import Status
from twinspire.cli.options import AsJson, PipelineFile, open_pipeline, print_json
from twinspire.cli.terminal_tables import terminal_table
from twinspire_core.contracts.day_metrics import HeldOutMeasures
from twinspire_core.contracts.gate_verdict import GateVerdict
from twinspire_core.contracts.measures import value_of
from twinspire_core.display.figures import number
from twinspire_core.display.measured_lists import kind_text
from twinspire_core.display.table import Style, Table, in_style

if TYPE_CHECKING:  # its figures are NumPy's, which few commands need
    from index_builder.registry.quality_history import NextDay, VersionQuality


out = Console(highlight=False)
STYLES = {"live": Style.GOOD, "refused": Style.BAD, "rolled back": Style.WARNING}
"""Of a version, by its status."""
_NOTES = (
    "{metric} of lists {kind} (serving.exclude_seen); `show` also has the other kind. Held out:"
    " users of the day that no version was trained on, by this version and by its parent. Next day:"
    " all users of the next day that was run, before it was trained on, by this version, its mix of"
    " sources, its ranker, the best baseline."
)


def versions(pipeline: PipelineFile, as_json: AsJson = False) -> None:
    """List the versions: which is live, the gate's verdict, quality on held-out users and on the
    next day.
    """
    p = open_pipeline(pipeline)
    registry = Registry(p.registry.root, p.name)
    statuses = registry.statuses()
    from index_builder.registry.quality_history import quality_of

    stored = [one.version for one in statuses if one.stored]
    kind = p.serving.counted_lists
    qualities = quality_of(registry, registry.log(), stored, kind)
    rows = [_row(one, qualities.get(one.version), p.gate.metric) for one in statuses]
    if as_json:
        items = {version: registry.manifest(version).items for version in qualities}
        print_json([{**row, "items": items.get(row["version"])} for row in rows])
        return
    if not rows:
        out.print(f"{p.name} has no version in {p.registry.root} yet.", soft_wrap=True)
        return
    out.print(terminal_table(_table(rows)))
    out.print(_NOTES.format(metric=p.gate.metric, kind=kind_text(kind)), style="dim")
    for row in rows:
        if row["status"] != "accepted" and not row["reason"].startswith("accepted"):
            out.print(f"{row['version']} {row['status']}: {row['reason']}", markup=False)


def _row(one: Status, quality: "VersionQuality | None", metric: str) -> dict[str, Any]:
    """What JSON says of a version in a list."""
    held = HeldOutMeasures()
    gate = GateVerdict()
    next_day = None
    if quality:
        held = quality.holdout
        gate = quality.gate
        next_day = _next_day(quality.next_day, metric)
    return {
        "version": one.version,
        "day": str(one.date),
        "corpus_date": str(one.corpus_date),
        "live": one.status == "live",
        "status": one.status,
        "gate": verdict_text(gate),
        "metric": metric,
        "value": value_of(held.candidate, metric),
        "baseline": value_of(held.baseline, metric),
        "seen": held.candidate.kind if held.candidate else None,
        "other_kind": value_of(held.candidate.other, metric) if held.candidate else None,
        # Null where there is no metrics.json: 0 would say that there were no users
        "users": held.users if held.model_fields_set else None,
        "next_day": next_day,
        "refused": gate.refused,
        "notes": gate.notes,
        "pinned": one.pinned,
        "stored": one.stored,
        "reason": one.reason,
    }


def _next_day(later: "NextDay | None", metric: str) -> dict[str, Any] | None:
    """How a version did on the next day that was run."""
    if later is None:
        return None
    return {
        "day": str(later.day),
        "version": later.version,
        "value": later.measures.value(metric),
        "mix": value_of(later.mix, metric),
        "ranked": value_of(later.ranked, metric),
        "users": later.measures.users,
        "best_baseline": later.best_baseline(metric),
    }


def verdict_text(gate: GateVerdict) -> str | None:
    """`accepted` or `refused`; None where there is no verdict."""
    if gate.accepted is None:
        return None
    return "accepted" if gate.accepted else "refused"


def _table(rows: list[dict[str, Any]]) -> Table:
    # Where no version has a ranker, its column would take the room of others.
    ranked = any((row["next_day"] or {}).get("ranked") is not None for row in rows)
    figures = ["held out", "its parent", "next day", "its mix"]
    if ranked:
        figures.append("ranked")
    return Table(
        head=["version", "status", "gate", *figures, "best other"],
        rows=[in_style(_cells(row, ranked), STYLES.get(row["status"])) for row in rows],
        names=(0, 2),
        prose=(1,),
    )


def _cells(row: dict[str, Any], ranked: bool) -> list[str]:
    later = row["next_day"] or {}
    figures = [row["value"], row["baseline"], later.get("value"), later.get("mix")]
    if ranked:
        figures.append(later.get("ranked"))
    _, best = later.get("best_baseline") or (None, None)
    figures.append(best)
    return [row["version"], _status(row), row["gate"] or "", *map(number, figures)]


def _status(row: dict[str, Any]) -> str:
    marks = [row["status"]]
    if row["pinned"]:
        marks.append("pinned")
    if not row["stored"]:
        marks.append("deleted")
    if row["corpus_date"] != row["day"]:
        marks.append(f"catalogue {row['corpus_date'][5:]}")
    return ", ".join(marks)
