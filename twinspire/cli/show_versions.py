"""Published versions: which there are, all about one, and its report."""

import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from index_builder.registry.registry import Registry
from index_builder.registry.versions import Status
from twinspire.cli.metric_tables import lists_table
from twinspire.cli.options import (
    AsJson,
    OneVersion,
    PipelineFile,
    VersionOption,
    console,
    open_pipeline,
    print_json,
)
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.day_metrics import HeldOutMeasures
from twinspire_core.contracts.gate_verdict import GateVerdict
from twinspire_core.contracts.manifest import Manifest
from twinspire_core.contracts.measures import Measures, value_of
from twinspire_core.errors import UsageError

if TYPE_CHECKING:  # its figures are NumPy's, which few commands need
    from index_builder.registry.quality_history import VersionQuality

REPORT = "report.html"

out = Console(highlight=False)
_STYLES = {"live": "bold green", "refused": "red", "rolled back": "yellow"}
_NOTES = (
    "{metric}. Held out: users of the day that no version was trained on, by this version and by"
    " its parent. Next day: all users of the next day that was run, before it was trained on, by"
    " this version, its mix of sources, the best baseline."
)


def versions(pipeline: PipelineFile, as_json: AsJson = False) -> None:
    """List the versions: which is live, the gate's verdict, quality on held-out users and on the
    next day.
    """
    p = open_pipeline(pipeline)
    registry = Registry(p.registry.root, p.name)
    statuses = registry.statuses()
    from index_builder.registry.quality_history import quality_of

    found = quality_of(registry, registry.log(), [one.version for one in statuses if one.stored])
    rows = [_row(one, found.get(one.version), p.gate.metric) for one in statuses]
    if as_json:
        items = {version: registry.manifest(version).items for version in found}
        print_json([{**row, "items": items.get(row["version"])} for row in rows])
        return
    if not rows:
        out.print(f"{p.name} has no version in {p.registry.root} yet.", soft_wrap=True)
        return
    out.print(_table(rows))
    out.print(_NOTES.format(metric=p.gate.metric), style="dim")
    for row in rows:
        if row["status"] != "accepted" and not row["reason"].startswith("accepted"):
            out.print(f"{row['version']} {row['status']}: {row['reason']}", markup=False)


def _row(one: Status, found: "VersionQuality | None", metric: str) -> dict[str, Any]:
    """What JSON says of a version in a list."""
    held = found.holdout if found else HeldOutMeasures()
    gate = found.gate if found else GateVerdict()
    later = found.next_day if found else None
    return {
        "version": one.version,
        "day": str(one.date),
        "corpus_date": str(one.corpus_date),
        "live": one.status == "live",
        "status": one.status,
        "gate": _verdict(gate),
        "metric": metric,
        "value": value_of(held.candidate, metric),
        "baseline": value_of(held.baseline, metric),
        # Null where there is no metrics.json: 0 would say that nobody was asked
        "users": held.users if held.model_fields_set else None,
        "next_day": (
            {
                "day": str(later.day),
                "version": later.version,
                "value": later.measures.value(metric),
                "mix": value_of(later.mix, metric),
                "users": later.measures.users,
                "best_baseline": later.best_baseline(metric),
            }
            if later
            else None
        ),
        "refused": gate.refused,
        "notes": gate.notes,
        "pinned": one.pinned,
        "stored": one.stored,
        "reason": one.reason,
    }


def _verdict(gate: GateVerdict) -> str | None:
    if gate.accepted is None:
        return None
    return "accepted" if gate.accepted else "refused"


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("version", no_wrap=True)
    table.add_column("status")
    table.add_column("gate", no_wrap=True)
    for name in ("held\nout", "its\nparent", "next\nday", "its\nmix", "best\nother"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        later = row["next_day"] or {}
        marks = [
            row["status"],
            *(["pinned"] if row["pinned"] else []),
            *([] if row["stored"] else ["deleted"]),
        ]
        if row["corpus_date"] != row["day"]:
            marks.append(f"catalogue {row['corpus_date'][5:]}")
        best = (later.get("best_baseline") or (None, None))[1]
        figures = [row["value"], row["baseline"], later.get("value"), later.get("mix"), best]
        cells = ["" if x is None else f"{x:.3f}" for x in figures]
        style = _STYLES.get(row["status"])
        table.add_row(row["version"], ", ".join(marks), row["gate"] or "", *cells, style=style)
    return table


def show(
    pipeline: PipelineFile,
    version: OneVersion = None,
    named: VersionOption = None,
    as_json: AsJson = False,
) -> None:
    """Show one version: the gate's verdict, its quality on held-out users and on the next day,
    where its report is.
    """
    p = open_pipeline(pipeline)
    registry = Registry(p.registry.root, p.name)
    chosen = registry.find(version or named)
    manifest, log = registry.manifest(chosen), registry.log()
    status = next(one.status for one in registry.statuses() if one.version == chosen)
    from index_builder.registry.quality_history import quality_of

    found = quality_of(registry, log, [chosen])[chosen]
    report = registry.place(chosen, REPORT) if REPORT in manifest.files else None
    entries = [e for e in log if chosen == e.version or chosen in e.rolled_back]
    if as_json:
        later = found.next_day
        told = {
            "status": status,
            "report": report,
            "gate": found.gate.model_dump(),
            "holdout": found.holdout.model_dump(),
            "mix": found.metrics.mix.holdout.model_dump(),
            "next_day": None,
        }
        if later:
            of_day = {"day": later.day, "version": later.version}
            told["next_day"] = {
                **of_day,
                **later.measures.model_dump(),
                "mix": later.mix.model_dump() if later.mix else None,
                "baselines": {
                    name: measures.model_dump() for name, measures in later.baselines.items()
                },
            }
        print_json(
            {
                **manifest.model_dump(mode="json"),
                **told,
                "log": [e.model_dump(mode="json") for e in entries],
            }
        )
        return
    out.print(Text(f"{p.name} {chosen}, {status}", style=_STYLES.get(status, "bold")))
    for name, text in _about(manifest, found):
        _line(name, text)
    _line("report", report or "none: published before versions had one")
    out.print(_quality(p, manifest, found))
    for name, text in manifest.sources.items():
        _line(name, text)
    _line("made by", ", ".join(f"{name} {text}" for name, text in manifest.software.items()))
    for e in entries:
        _line(f"log {e.number}", f"{e.at:%Y-%m-%d %H:%M} {e.action}: {e.reason}")


def _about(manifest: Manifest, found: "VersionQuality") -> Iterator[tuple[str, str]]:
    size = sum(file.size for file in manifest.files.values()) / 1e6
    yield "day", f"{manifest.date:%A %Y-%m-%d}"
    yield "parent", manifest.parent or "none: trained from scratch"
    if manifest.refreshes:
        yield (
            "refresh",
            f"catalogue of {manifest.corpus_date:%A %Y-%m-%d}, towers of {manifest.refreshes}",
        )
    yield "holds", f"{manifest.items:,} items, {manifest.dimension} numbers each, in {size:,.1f} MB"
    yield "gate", _verdict(found.gate) or "its verdict is not there"
    for reason in found.gate.refused:
        yield "", f"- {reason}"
    for note in found.gate.notes:
        yield "", f"note: {note}"
    figures = found.gate.figures
    if lift := figures.lead:
        before = ", ".join(f"{x:.2f}" for x in lift.before) or "none known"
        told = (
            f"{lift.lead:.2f} times the {lift.popular_today:.4f} of what the day's other"
            " users took most"
        )
        yield "lead", f"{figures.metric} is {told}; versions before: {before}"


def _line(name: str, text: str) -> None:
    # One line, however long: places are to be copied.
    out.print(f"{name:8} {text}", markup=False, soft_wrap=True)


def _quality(pipeline: Pipeline, manifest: Manifest, found: "VersionQuality") -> Table:
    held, later = found.holdout, found.next_day
    splits: dict[str, dict[str, Measures | None]] = {
        "held out": {
            "this version": held.candidate,
            "its mix": found.metrics.comparable_fusion,
            "the parent": held.baseline,
            **held.baselines,
        }
    }
    told = [f"held out: {held.users:,} users of {manifest.date} that no version was trained on"]
    if later:
        splits["next day"] = {
            "this version": later.measures,
            "its mix": later.mix,
            **later.baselines,
        }
        asked = later.measures.users
        users = "all users" if asked is None else f"{asked:,} users"
        told.append(f"next day: {users} of {later.day} with a past, before that day was trained on")
    else:
        told.append("The next day's run will measure it on all users of that day.")
    return lists_table(splits, pipeline.evaluation.ks, "\n".join(told))


def report(
    pipeline: PipelineFile,
    version: OneVersion = None,
    named: VersionOption = None,
    to: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE", help="Copy it there; into it, if that is a folder."),
    ] = None,
    browse: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
) -> None:
    """Tell where a version's report is, copy it, or open it.

    The report is one page that needs no network: quality by day and by slice, example lists, what
    changed, the gate's verdict. It was made when the version was published. Standard output is its
    place.
    """
    p = open_pipeline(pipeline)
    registry = Registry(p.registry.root, p.name)
    chosen = registry.find(version or named)
    place = registry.place(chosen, REPORT)
    if REPORT not in registry.manifest(chosen).files:
        raise UsageError(
            f"Versions carry a report since {REPORT} became a part of them; {chosen} was published"
            " before. Later ones have it."
        )
    content = registry.read(chosen, REPORT)
    if to:
        place = str(Path(to) / f"{p.name}-{chosen}.html") if Path(to).is_dir() else to
    elif browse and storage.is_remote(place):
        place = str(Path.home() / ".cache" / "twinspire" / p.name / f"{chosen}.html")
    if place != registry.place(chosen, REPORT):
        storage.write_bytes(place, content)
    print(place, flush=True)
    if browse and not webbrowser.open(Path(place).resolve().as_uri()):
        console.print("No browser was found; open the file in one.", highlight=False)
