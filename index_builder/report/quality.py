"""How good the lists are: side by side, source by source, slice by slice."""

from collections.abc import Iterator, Mapping

from index_builder.report import charts
from index_builder.report.charts import Series
from index_builder.report.facts import Facts
from index_builder.report.report_blocks import Figure, Mark, Section
from twinspire_core.config.source_names import MIX
from twinspire_core.contracts.measures import SliceMeasures
from twinspire_core.display.figures import count, number, share
from twinspire_core.display.measured_lists import (
    PARENT,
    EvaluatedSet,
    MeasuredLists,
    baselines,
    heading,
    held_out,
    interval_of,
    interval_text,
    kind_text,
    list_name,
    lists_table,
    of_other_kind,
    on_the_day,
)
from twinspire_core.display.table import Table
from twinspire_core.display.weights import describe_ranker, describe_weights
from twinspire_core.metrics.measure_names import ITEMS, USERS, key

_SHOWN_FEATURES = 12
"""Features of the ranker that the page lists, those that say most."""
_VARIETY = {
    "coverage": "items reached",
    "gini": "Gini",
    "overlap": "overlap",
    "popular_share": "popular share",
}


def lists(facts: Facts) -> Section:
    """Every list that was measured, by several measures."""
    sets = [one for one in _sets(facts) if one.lists]
    text = [
        "Variety is of all lists together. Items reached: the part of the catalogue that is in any"
        " list. Gini: 0% when all items are shown alike. Overlap: what two users’ lists have in"
        " common. Popular share: of the few items that have half of all earlier events between"
        " them."
    ]
    counted = facts.metrics.counted_lists
    text.append(
        f"What counts are lists {kind_text(counted)}, by serving.exclude_seen of the pipeline file:"
        " the mix is fitted for them, the gate judges them, and all figures of this page are theirs"
        " where nothing else is said. The other kind follows below."
    )
    if facts.metrics.holdout.baseline is None:
        text.append("There is no version before this one to compare with.")
    tables = [table for one in sets for table in (_found(one), _variety(one))]
    return Section(
        anchor="lists",
        title="The lists, side by side",
        text=text,
        tables=[*tables, *_next_click(facts), *_other_kind(sets)],
    )


def _ks(evaluated: EvaluatedSet) -> list[int]:
    """The lengths of lists at which recall was measured."""
    names = {name for one in evaluated.lists for name in one.measures.values}
    return sorted(int(name.removeprefix("recall@")) for name in names if name.startswith("recall@"))


def _found(evaluated: EvaluatedSet) -> Table:
    title = f"What is found: {evaluated.title}. {evaluated.text}"
    return lists_table(evaluated.lists, _accuracy(evaluated), title=title)


def _accuracy(evaluated: EvaluatedSet) -> dict[str, str]:
    """Measures of what is found, with their headings."""
    ks = _ks(evaluated)
    names = [*(f"recall@{k}" for k in ks), *(f"ndcg@{k}" for k in ks[:1]), "mrr"]
    return {name: heading(name) for name in names}


def _variety(evaluated: EvaluatedSet) -> Table:
    k = max(_ks(evaluated), default=0)
    measures = {f"{name}@{k}": label for name, label in _VARIETY.items()}
    title = f"How varied the first {k} are: {evaluated.title}. {evaluated.text}"
    return lists_table(evaluated.lists, measures, title=title)


def _other_kind(sets: list[EvaluatedSet]) -> Iterator[Table]:
    """The same of the lists that do not count: with or without what the user had before."""
    for evaluated in sets:
        other = of_other_kind(evaluated)
        if other.lists:
            kind = kind_text(other.lists[0].measures.kind)
            title = f"What is found by lists {kind}: {evaluated.title}"
            yield lists_table(other.lists, _accuracy(evaluated), title=title, folded=True)


def _next_click(facts: Facts) -> Iterator[Table]:
    clicks = facts.metrics.next_click
    lists = [
        ("two-tower of the day before, all events", clicks.progressive),
        *((f"{one.label}, all events", one.measures) for one in baselines(clicks.baselines)),
        ("this version, held-out users", clicks.holdout.candidate),
        ("the version before, held-out users", clicks.holdout.baseline),
    ]
    # Rows of different queries: none of them is set off against the others
    known = [MeasuredLists(PARENT, label, measures) for label, measures in lists if measures]
    if not known:
        return
    names = [name for name in known[0].measures.values if name.startswith("recall@")]
    if names:
        yield lists_table(
            known,
            {name: heading(name) for name in names},
            title="The next click: one query per event, with all that happened before it",
            folded=True,
        )


def sources(facts: Facts) -> Section:
    """Each source of candidates alone, and their mix."""
    evaluated = _with_the_model(facts)
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


def _with_the_model(facts: Facts) -> EvaluatedSet:
    """All users of the day; those held out where no two-tower was there before the day."""
    of_all, of_held_out = _sets(facts)
    if of_all.of_model:
        return of_all
    return of_held_out


def _sets(facts: Facts) -> tuple[EvaluatedSet, EvaluatedSet]:
    day = facts.manifest.date
    return on_the_day(facts.metrics, day), held_out(facts.metrics, day)


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


def _with_constant(facts: Facts, source: str) -> str:
    """A source's name, and the half-life that it goes by, if it has one."""
    choices = facts.constants.choices if facts.constants else {}
    if source not in choices:
        return list_name(source)
    return f"{list_name(source)} ({choices[source]})"


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


def slices(facts: Facts) -> Section:
    """Recall by slice of users and of items."""
    evaluated = _with_the_model(facts)
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
    facts: Facts, found: Mapping[str, SliceMeasures], series: list[Series], side: str
) -> Table:
    names = [name for name in found if name != "outside"]
    if side == USERS:
        counted = "users"
        counts: list[int | None] = [found[name].users for name in names]
    else:
        counted = "taken"
        counts = [found[name].true for name in names]
    rows = [
        [name, count(counts[place]), *(number(one.values[place]) for one in series)]
        for place, name in enumerate(names)
    ]
    return Table(
        head=["events", counted, *(list_name(one.colour) for one in series)],
        rows=rows,
        title=f"{facts.metric} by earlier events of the {side.removesuffix('s')}",
    )
