"""One published version: all about it, and its report."""

import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel
from rich.text import Text

from index_builder.registry.registry import Registry
from twinspire.cli.list_versions import STYLES, verdict_text
from twinspire.cli.options import (
    AsJson,
    OneVersion,
    PipelineFile,
    VersionOption,
    console,
    open_pipeline,
    print_json,
)
from twinspire.cli.terminal_tables import LOOKS, terminal_table
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.artifact_files import REPORT
from twinspire_core.contracts.manifest import Manifest
from twinspire_core.display.measured_lists import (
    describe_order,
    describe_ranker,
    held_out,
    on_the_next_day,
)
from twinspire_core.display.quality_tables import headline, sets_table
from twinspire_core.display.served_figure import THIS, ServedFigure
from twinspire_core.display.table import Style, Table
from twinspire_core.errors import UsageError
from twinspire_core.terminal import out

if TYPE_CHECKING:  # its figures are NumPy's, which few commands need
    from index_builder.registry.quality_history import NextDay, VersionQuality
    from twinspire_core.fusion.fixed_order import FixedOrder


def show(
    pipeline: PipelineFile,
    version: OneVersion = None,
    named: VersionOption = None,
    as_json: AsJson = False,
) -> None:
    """Show one version: how good what it serves is, the gate's verdict, where its report is."""
    p = open_pipeline(pipeline)
    registry = Registry(p.registry.root, p.name)
    chosen = registry.find(version or named)
    manifest = registry.manifest(chosen)
    log = registry.log()
    status = next(one.status for one in registry.statuses() if one.version == chosen)
    from index_builder.registry.quality_history import quality_of
    from twinspire_core.fusion.fixed_order import FixedOrder

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
    look = LOOKS[STYLES.get(status, Style.STRONG)]
    out.print(Text(f"{p.name} {chosen}, {status}", style=f"bold {look}"))
    if figure:
        _line("quality", figure.text)
        for line in _own_figure(quality, figure):
            _line("", line)
    for name, text in _about(manifest, quality, order):
        _line(name, text)
    _line("report", report or "none: published before versions had one")
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


def _own_figure(quality: "VersionQuality", figure: ServedFigure) -> Iterator[str]:
    """What is known of the version itself, where the figure in front is not its own on a next day."""
    if figure.whose == THIS and not figure.held_out:
        return
    own = quality.served(figure.metric)
    if own and own != figure:
        yield own.text
    yield "The next day's run measures this version on all users."


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
    yield "gate", verdict_text(quality.gate) or "its verdict is not there"
    for reason in quality.gate.refused:
        yield "", f"- {reason}"
    for note in quality.gate.notes:
        yield "", f"note: {note}"


def _line(name: str, text: str) -> None:
    # One line, however long: places are to be copied.
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
    # By the manifest: a file that it does not name is none of the version's.
    if REPORT not in registry.manifest(chosen).files:
        raise UsageError(f"{chosen} has no report. Run its day again to make one.")
    content = registry.read(chosen, REPORT)
    if not to and browse and storage.is_remote(place):  # a browser reads no object store
        to = str(Path.home() / ".cache" / "twinspire" / p.name / f"{chosen}.html")
    if to:
        place = str(Path(to) / f"{p.name}-{chosen}.html") if Path(to).is_dir() else to
        storage.write_bytes(place, content)
    print(place, flush=True)
    if browse and not webbrowser.open(Path(place).resolve().as_uri()):
        console.print("No browser was found; open the file in one.", highlight=False)
