"""Published versions: which there are, which is live, how good they are."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from index_builder.registry.registry import Registry
from index_builder.registry.versions import Status
from twinspire.cli.options import AsJson, PipelineFile, open_pipeline, print_json
from twinspire.cli.terminal_tables import terminal_table
from twinspire_core.contracts.day_metrics import HeldOutMeasures
from twinspire_core.contracts.gate_verdict import GateVerdict
from twinspire_core.contracts.manifest import counts_otherwise
from twinspire_core.contracts.measures import value_of
from twinspire_core.display.figures import NONE, count, number
from twinspire_core.display.table import Style, Table, in_style
from twinspire_core.terminal import out

if TYPE_CHECKING:  # its figures are NumPy's, which few commands need
    from index_builder.registry.quality_history import VersionQuality
    from twinspire_core.display.served_figure import ServedFigure


STYLES = {"live": Style.GOOD, "refused": Style.BAD, "rolled back": Style.WARNING}
"""Of a version, by its status."""
_NOTES = (
    "{metric} of what each version serves. Next day: all measured users of the next day that was"
    " run, before it was trained on. Held out: users of the version's own day that no version was"
    " trained on, until a next day is run. Best simple: the best of most popular, popular lately and"
    " purchase history for the same users."
)


def versions(pipeline: PipelineFile, as_json: AsJson = False) -> None:
    """List the versions: which is live, and how good the lists are that each serves."""
    p = open_pipeline(pipeline)
    registry = Registry(p.registry.root, p.name)
    statuses = registry.statuses()
    from index_builder.registry.quality_history import quality_of

    stored = [one.version for one in statuses if one.stored]
    qualities = quality_of(registry, registry.log(), stored)
    metric = p.gate.metric
    if as_json:
        items = {version: registry.manifest(version).items for version in qualities}
        rows = [_as_json(one, qualities.get(one.version), metric) for one in statuses]
        print_json([{**row, "items": items.get(row["version"])} for row in rows])
        return
    if not statuses:
        out.print(f"{p.name} has no version in {p.registry.root} yet.", soft_wrap=True)
        return
    breaks = dict(_breaks(statuses, qualities, metric))
    out.print(terminal_table(_table(statuses, qualities, metric, list(breaks))))
    for text in breaks.values():
        out.print(text, soft_wrap=True)
    out.print(_NOTES.format(metric=metric), style="dim")
    for one in statuses:
        if one.status != "accepted" and not one.reason.startswith("accepted"):
            out.print(f"{one.version} {one.status}: {one.reason}")


def _as_json(one: Status, quality: "VersionQuality | None", metric: str) -> dict[str, Any]:
    """What JSON says of a version in a list."""
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
    """Places of the rows whose figures do not compare with those above them, and why."""
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
                f"Figures measured on {newer.day} and later do not compare with earlier ones:"
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
        quality = qualities.get(one.version)
        cells = [one.version, _status(one), *_cells(quality.served(metric) if quality else None)]
        rows.append(in_style(cells, STYLES.get(one.status)))
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


def _status(one: Status) -> str:
    marks = [one.status]
    if one.pinned:
        marks.append("pinned")
    if not one.stored:
        marks.append("deleted")
    if one.corpus_date != one.date:
        marks.append(f"catalogue {one.corpus_date:%m-%d}")
    return ", ".join(marks)
