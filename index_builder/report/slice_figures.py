"""Recall by slice: of users and items with few earlier events, and with many."""

from collections.abc import Mapping

from index_builder.report import charts
from index_builder.report.charts import Series
from index_builder.report.facts import Facts
from index_builder.report.report_blocks import Figure, Mark, Section
from twinspire_core.contracts.measures import SliceMeasures, interval_of
from twinspire_core.display.figures import count, number
from twinspire_core.display.measured_lists import MeasuredLists, list_name
from twinspire_core.display.table import Table
from twinspire_core.metrics.measure_names import ITEMS, USERS, key


def slices(facts: Facts) -> Section:
    """Recall by slice of users and of items."""
    evaluated = facts.of_the_model
    sliced = [one for one in evaluated.lists if one.measures.slices]
    text = [
        (
            "Users and items are told apart by their events before the day; 0 is new. The farther"
            " right a dot, the better; lines are 95% intervals over users."
        ),
        f"{evaluated.text} Newcomers were asked too: they count in their slice alone.",
    ]
    figures = [_sliced(facts, sliced, side) for side in (USERS, ITEMS) if sliced]
    if not sliced:
        text = [
            "Nothing was measured by slice: evaluation.slices is empty, or there was no user to"
            " ask."
        ]
    return Section(
        anchor="slices",
        title="New and old users, new and old items",
        text=text,
        figures=figures,
    )


def _sliced(facts: Facts, listed: list[MeasuredLists], side: str) -> Figure:
    # All lists were measured for the same users, so that the first one's slices are everyone's
    first = listed[0].measures
    found = first.slices.on_side(side) if first.slices else {}
    names = [name for name in found if name != "outside"]
    one_of = side.removesuffix("s")
    series = [
        Series(
            colour=one.kind,
            values=[one.measures.value(key(facts.metric, side, name)) for name in names],
            spans=[interval_of(one.measures, key(facts.metric, side, name)) for name in names],
        )
        for one in listed
    ]
    values = zip(names, series[0].values, strict=True)
    alt = "; ".join(f"{name} {number(value)}" for name, value in values)
    caption = ""
    outside = found.get("outside")
    if outside and outside.true:
        caption = (
            f"{count(outside.true)} items taken were not in the catalogue: nothing can find them."
        )
    return Figure(
        title=f"By earlier events of the {one_of}",
        svg=charts.dots(
            f"slices-{side}", [name.replace("-", "–") for name in names], series, facts.metric
        ),
        alt=f"{listed[0].label}, by earlier events of the {one_of}: {alt}",
        caption=caption,
        legend=[Mark(one.kind, one.label, "dot") for one in listed],
        table=_sliced_table(facts, found, series, side),
    )


def _sliced_table(
    facts: Facts, by_slice: Mapping[str, SliceMeasures], series: list[Series], side: str
) -> Table:
    names = [name for name in by_slice if name != "outside"]
    if side == USERS:
        counted = "users"
        counts: list[int | None] = [by_slice[name].users for name in names]
    else:
        counted = "taken"
        counts = [by_slice[name].true for name in names]
    rows = [
        [name, count(counts[place]), *(number(one.values[place]) for one in series)]
        for place, name in enumerate(names)
    ]
    return Table(
        head=["events", counted, *(list_name(one.colour) for one in series)],
        rows=rows,
        title=f"{facts.metric} by earlier events of the {side.removesuffix('s')}",
    )
