"""Published versions: `versions` lists them, `show` describes one, `report` opens its report."""

import webbrowser
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel
from rich.text import Text

from index_builder.registry.registry import Registry
from index_builder.registry.versions import Status
from twinspire.cli.shared import (
    LOOKS,
    STATES,
    AsJson,
    OneVersion,
    PipelineFile,
    open_pipeline,
    print_json,
    terminal_table,
)
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.day_metrics import HeldOutMeasures
from twinspire_core.contracts.gate_verdict import GateVerdict
from twinspire_core.contracts.measures import value_of
from twinspire_core.contracts.version_manifest import REPORT, Manifest, counts_otherwise
from twinspire_core.display.quality_tables import (
    describe_order,
    describe_ranker,
    headline,
    held_out,
    on_the_next_day,
    sets_table,
)
from twinspire_core.display.served_figure import THIS, ServedFigure
from twinspire_core.display.table import NONE, Style, Table, count, in_style, number
from twinspire_core.errors import UsageError
from twinspire_core.terminal import console, out

if TYPE_CHECKING:  # they load NumPy, which few commands need
    from index_builder.registry.quality_history import NextDay, VersionQuality
    from twinspire_core.fusion.rank_fusion import FixedOrder

_NOTES = (
    "The figures are {metric} of the lists that each version serves. Next day: measured on all users of"
    " the next day that was run, before training on it. Held out: measured on users of the version's own"
    " day that are never trained on; shown until a next day is run. Best simple: the best of three simple"
    " lists (most popular, popular lately, purchase history) for the same users."
)


def versions(pipeline: PipelineFile, as_json: AsJson = False) -> None:
    """List all versions. Show which one is live, and how good the lists of each version are."""
    p = open_pipeline(pipeline)
    registry = Registry(p.registry.root, p.name)
    statuses = registry.statuses()
    from index_builder.registry.quality_history import quality_of

    stored = [status.version for status in statuses if status.stored]
    qualities = quality_of(registry, registry.log(), stored)
    metric = p.gate.metric
    if as_json:
        items = {version: registry.manifest(version).items for version in qualities}
        rows = [
            {
                **_as_json(status, qualities.get(status.version), metric),
                "items": items.get(status.version),
            }
            for status in statuses
        ]
        print_json(rows)
        return
    if not statuses:
        out.print(f"{p.name} has no version in {p.registry.root} yet.", soft_wrap=True)
        return
    breaks = dict(_breaks(statuses, qualities, metric))
    out.print(terminal_table(_table(statuses, qualities, metric, list(breaks))))
    for text in breaks.values():
        out.print(text, soft_wrap=True)
    out.print(_NOTES.format(metric=metric), style="dim")
    for status in statuses:
        # An ordinary acceptance needs no explanation.
        if status.status != "accepted" and not status.reason.startswith("accepted"):
            out.print(f"{status.version} {status.status}: {status.reason}")


def _as_json(one: Status, quality: "VersionQuality | None", metric: str) -> dict[str, Any]:
    """A version of the list, as JSON has it."""
    held = quality.holdout if quality else HeldOutMeasures()
    gate = quality.gate if quality else GateVerdict()
    figure = quality.served(metric) if quality else None
    return {
        "version": one.version,
        "day": str(one.date),
        "corpus_date": str(one.corpus_date),
        "live": one.status == "live",
        "status": one.status,
        "gate": verdict_text(gate),
        "metric": metric,
        "served": figure.as_json() if figure else None,
        "value": value_of(held.candidate, metric),
        "baseline": value_of(held.baseline, metric),
        "seen": held.candidate.kind if held.candidate else None,
        # Null where there is no metrics.json: 0 would say that there were no users
        "users": held.users if held.model_fields_set else None,
        "refused": gate.refused,
        "notes": gate.notes,
        "pinned": one.pinned,
        "stored": one.stored,
        "reason": one.reason,
    }


def verdict_text(gate: GateVerdict) -> str | None:
    """`accepted` or `refused`; None where there is no verdict."""
    if gate.accepted is None:
        return None
    return "accepted" if gate.accepted else "refused"


def _breaks(
    statuses: Sequence[Status], qualities: "dict[str, VersionQuality]", metric: str
) -> Iterator[tuple[int, str]]:
    """Numbers of the rows whose figures cannot be compared with those above them, and why."""
    measured = [
        (row, figure, qualities[one.version].settings_of(figure))
        for row, one in enumerate(statuses)
        if one.stored and (figure := qualities[one.version].served(metric))
    ]
    for (_, newer, after), (row, _, before) in pairwise(measured):
        if changes := counts_otherwise(before, after):
            texts = [f"{name} was {old!r}, is {new!r}" for name, (old, new) in changes.items()]
            yield (
                row,
                f"Do not compare figures measured on {newer.day} and later with earlier ones:"
                f" {'; '.join(texts)}.",
            )


def _table(
    statuses: Sequence[Status],
    qualities: "dict[str, VersionQuality]",
    metric: str,
    sections: Sequence[int],
) -> Table:
    rows = []
    for one in statuses:
        marks = (
            one.status,
            "pinned" if one.pinned else "",
            "" if one.stored else "deleted",
            f"catalogue {one.corpus_date:%m-%d}" if one.corpus_date != one.date else "",
        )
        quality = qualities.get(one.version)
        figures = _cells(quality.served(metric) if quality else None)
        rows.append(
            in_style(
                [one.version, ", ".join(filter(None, marks)), *figures], STATES.get(one.status)
            )
        )
    return Table(
        head=["version", "status", "users", "served", "best simple", "two-tower", "measured on"],
        rows=rows,
        names=(0, 6),
        prose=(1,),
        sections=sections,
    )


def _cells(figure: "ServedFigure | None") -> list[str]:
    if figure is None:
        return [NONE, NONE, NONE, NONE, ""]
    values = [figure.value, figure.simple_value, figure.two_tower]
    return [
        count(figure.users),
        *map(number, values),
        "held out" if figure.held_out else "next day",
    ]


def show(pipeline: PipelineFile, version: OneVersion = None, as_json: AsJson = False) -> None:
    """Show one version: how good its lists are, the gate's verdict, and where its report is."""
    p = open_pipeline(pipeline)
    registry = Registry(p.registry.root, p.name)
    chosen = registry.find(version)
    manifest = registry.manifest(chosen)
    log = registry.log()
    status = next(one.status for one in registry.statuses() if one.version == chosen)
    from index_builder.registry.quality_history import quality_of
    from twinspire_core.fusion.rank_fusion import FixedOrder

    quality = quality_of(registry, log, [chosen])[chosen]
    figure = quality.in_front(p.gate.metric)
    report = registry.place(chosen, REPORT) if REPORT in manifest.files else None
    entries = [entry for entry in log if chosen in (entry.version, *entry.rolled_back)]
    order = FixedOrder.find(registry.folder(chosen))
    if as_json:
        ranker = quality.metrics.ranker
        print_json(
            {
                **manifest.model_dump(mode="json"),
                "status": status,
                "report": report,
                "served": figure.as_json() if figure else None,
                "gate": quality.gate.model_dump(),
                "holdout": quality.holdout.model_dump(),
                "fixed_order": quality.metrics.fixed_order.holdout.model_dump(),
                "weights": _dump(order),
                "ranker": _dump(ranker.fitted if ranker else None),
                "next_day": _all_of_next_day(quality.next_day),
                "log": [entry.model_dump(mode="json") for entry in entries],
            }
        )
        return
    look = LOOKS[STATES.get(status, Style.STRONG)]
    out.print(Text(f"{p.name} {chosen}, {status}", style=f"bold {look}"))
    if figure:
        _line("quality", figure.text)
        own = quality.served(figure.metric)
        if own and own != figure:
            _line("", own.text)
        if figure.whose != THIS or figure.held_out:
            _line("", "The run of the next day will measure this version on all users.")
    for name, text in _about(manifest, quality, order):
        _line(name, text)
    _line("report", report or "none: this version was published before versions had reports")
    out.print(terminal_table(_quality(p, manifest, quality)))
    for name, text in manifest.sources.items():
        _line(name, text)
    _line("made by", ", ".join(f"{name} {text}" for name, text in manifest.software.items()))
    for entry in entries:
        _line(f"log {entry.number}", f"{entry.at:%Y-%m-%d %H:%M} {entry.action}: {entry.reason}")


def _dump(part: BaseModel | None) -> dict[str, Any] | None:
    return part.model_dump() if part else None


def _all_of_next_day(later: "NextDay | None") -> dict[str, Any] | None:
    if later is None:
        return None
    measured = later.metrics
    lists = {"fixed_order": measured.fixed_order.progressive, "ranked": measured.ranked_progressive}
    return {
        "day": later.day,
        "version": later.version,
        **(_dump(measured.progressive) or {}),
        **{name: _dump(one) for name, one in lists.items()},
        "baselines": {name: one.model_dump() for name, one in measured.baselines.items()},
    }


def _about(
    manifest: Manifest, quality: "VersionQuality", order: "FixedOrder | None"
) -> Iterator[tuple[str, str]]:
    size = sum(file.size for file in manifest.files.values()) / 1e6
    yield "day", f"{manifest.date:%A %Y-%m-%d}"
    yield "parent", manifest.parent or "none: trained from scratch"
    if manifest.refreshes:
        yield (
            "refresh",
            f"catalogue of {manifest.corpus_date:%A %Y-%m-%d}, towers of {manifest.refreshes}",
        )
    yield "holds", f"{manifest.items:,} items, {manifest.dimension} numbers each, in {size:,.1f} MB"
    if order:
        yield "order", describe_order(order.kind, order.weights)
    ranker = quality.metrics.ranker
    if ranker and ranker.fitted:
        yield "ranker", describe_ranker(ranker.fitted, quality.gate.serves)
    yield "gate", verdict_text(quality.gate) or "it left no verdict"
    for reason in quality.gate.refused:
        yield "", f"- {reason}"
    for note in quality.gate.notes:
        yield "", f"note: {note}"


def _line(name: str, text: str) -> None:
    # Never broken into lines, so that paths can be copied
    out.print(f"{name:8} {text}", soft_wrap=True)


def _quality(pipeline: Pipeline, manifest: Manifest, quality: "VersionQuality") -> Table:
    serves = quality.gate.serves
    sets = [held_out(quality.metrics, manifest.date, serves)]
    if later := quality.next_day:
        sets.insert(0, on_the_next_day(later.metrics, later.day, serves))
    return sets_table(sets, headline(pipeline.evaluation.ks))


def report(
    pipeline: PipelineFile,
    version: OneVersion = None,
    to: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE", help="Copy the report to this file or folder."),
    ] = None,
    browse: Annotated[bool, typer.Option("--open", help="Open the report in a browser.")] = False,
) -> None:
    """Print the path of a version's report. Options copy the report, or open it.

    The report is one page that needs no network: quality by day and by group of users, example lists,
    what changed, and the gate's verdict.
    """
    p = open_pipeline(pipeline)
    registry = Registry(p.registry.root, p.name)
    chosen = registry.find(version)
    place = registry.place(chosen, REPORT)
    # The manifest lists a version's files: another file in its folder does not belong to it
    if REPORT not in registry.manifest(chosen).files:
        raise UsageError(f"{chosen} has no report. Run its day again to make one.")
    content = registry.read(chosen, REPORT)
    if not to and browse and storage.is_remote(place):  # a browser cannot read a store
        to = str(Path.home() / ".cache" / "twinspire" / p.name / f"{chosen}.html")
    if to:
        place = str(Path(to) / f"{p.name}-{chosen}.html") if Path(to).is_dir() else to
        storage.write_bytes(place, content)
    print(place, flush=True)
    if browse and not webbrowser.open(Path(place).resolve().as_uri()):
        console.print("No browser was found. Open the file in one.", highlight=False)
