"""Each source of candidates alone, and how the version mixes or ranks them."""

from collections.abc import Iterator

from index_builder.report import charts
from index_builder.report.charts import Series
from index_builder.report.facts import Facts
from index_builder.report.report_blocks import Figure, Section
from twinspire_core.config.source_names import MIX
from twinspire_core.contracts.measures import interval_of
from twinspire_core.display.figures import number, share
from twinspire_core.display.measured_lists import (
    PARENT,
    MeasuredLists,
    describe_ranker,
    describe_weights,
    list_name,
)
from twinspire_core.display.quality_tables import interval_text
from twinspire_core.display.table import Table

_SHOWN_FEATURES = 12
"""Features of the ranker that the page lists, those that say most."""


def sources(facts: Facts) -> Section:
    """Each source of candidates alone, and their mix."""
    evaluated = facts.of_the_model
    listed = [one for one in evaluated.lists if one.kind != PARENT]
    text = [
        "Each source of candidates alone: what a list of its items only would have found.",
        evaluated.text,
    ]
    if not any(one.kind == MIX for one in listed):
        text.append("No mix of the sources was measured on them.")
    return Section(
        anchor="sources",
        title="Each source alone, and the mix",
        text=text,
        figures=[_sources(facts, listed)] if listed else [],
        tables=[_weights(facts), *_ranker(facts)],
        half=True,
    )


def _sources(facts: Facts, listed: list[MeasuredLists]) -> Figure:
    listed = sorted(listed, key=lambda one: -(one.measures.value(facts.metric) or 0))
    names = [list_name(one.kind) for one in listed]
    values = [one.measures.value(facts.metric) for one in listed]
    spans = [interval_of(one.measures, facts.metric) for one in listed]
    rows = [
        [name, interval_text(one.measures, facts.metric)]
        for name, one in zip(names, listed, strict=True)
    ]
    return Figure(
        title=f"{facts.metric} by source",
        svg=charts.dots(
            "sources", names, [Series(colour="two_tower", values=values, spans=spans)], facts.metric
        ),
        alt="; ".join(" ".join(row) for row in rows),
        caption="Lines are 95% intervals over users.",
        table=Table(
            head=["source", facts.metric],
            rows=rows,
            title=f"{facts.metric} by source, with 95% intervals",
        ),
    )


def _weights(facts: Facts) -> Table:
    """How this version mixes its sources."""
    mix = facts.mix
    if mix is None:
        return Table(
            head=[], rows=[], title="This version serves the two-tower alone: it carries no mix."
        )
    # A row per source, so that a phone has room for it
    rows = [
        [_with_constant(facts, name), *(number(row[name], 2) for row in mix.weights.values())]
        for name in mix.sources
    ]
    title = (
        "Weights of the sources in the mix that this version serves, by the user’s earlier events:"
        f" {describe_weights(mix.fitted)}"
    )
    return Table(
        head=["source", *(name.replace("-", "–") for name in mix.weights)],
        rows=rows,
        title=title,
    )


def _with_constant(facts: Facts, source: str) -> str:
    """A source's name, and the half-life that it goes by, if it has one."""
    choices = facts.constants.choices if facts.constants else {}
    if source not in choices:
        return list_name(source)
    return f"{list_name(source)} ({choices[source]})"


def _ranker(facts: Facts) -> Iterator[Table]:
    """What this version's ranker goes by."""
    measured = facts.metrics.ranker
    if measured is None or measured.fitted is None:
        return
    fitted = measured.fitted
    largest = list(fitted.importance.items())[:_SHOWN_FEATURES]
    yield Table(
        head=["feature", "share of what its trees gain"],
        rows=[[name, share(value)] for name, value in largest],
        title=f"The ranker {describe_ranker(fitted, facts.gate.serves)}. What it goes by most:",
        folded=True,
    )
