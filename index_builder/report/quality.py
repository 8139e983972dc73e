"""How good the lists are: side by side, source by source, slice by slice."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from index_builder.report import charts
from index_builder.report.charts import Series
from index_builder.report.evaluation_sets import (
    EvaluatedSet,
    MeasuredLists,
    baselines,
    held_out,
    on_the_day,
)
from index_builder.report.facts import Facts
from index_builder.report.report_blocks import (
    Figure,
    Mark,
    Section,
    Table,
    called,
    count,
    interval,
    measured,
    number,
    share,
)
from twinspire_core.contracts.measures import SliceMeasures
from twinspire_core.metrics.measure_names import key

_VARIETY = {
    "coverage": "items reached",
    "gini": "Gini",
    "overlap": "overlap",
    "popular_share": "popular share",
}


def lists(facts: Facts) -> Section:
    """Every list that was measured, by several measures."""
    exams = [exam for exam in (on_the_day(facts), held_out(facts)) if exam.lists]
    text = [
        "Variety is of all lists together. Items reached: the part of the catalogue that is in any"
        " list. Gini: 0% when all items are shown alike. Overlap: what two users’ lists have in"
        " common. Popular share: of the few items that have half of all earlier events between"
        " them."
    ]
    if facts.metrics.holdout.baseline is None:
        text.append("There is no version before this one to compare with.")
    tables = [table for exam in exams for table in (_found(exam), _variety(exam))]
    return Section(
        anchor="lists",
        title="The lists, side by side",
        text=text,
        tables=[*tables, *_next_click(facts), *_fresh(exams)],
    )


def _ks(exam: EvaluatedSet) -> list[int]:
    return sorted(
        {
            int(name.partition("@")[2])
            for one in exam.lists
            for name in one.measures.values
            if name.startswith("recall@")
        }
    )


def _own(exam: EvaluatedSet) -> list[int]:
    return [n for n, one in enumerate(exam.lists) if one.colour == "two_tower"]


def _found(exam: EvaluatedSet) -> Table:
    names = {f"recall@{k}": f"recall@{k}" for k in _ks(exam)} | {
        f"ndcg@{k}": f"nDCG@{k}" for k in _ks(exam)[:1]
    }
    names["mrr"] = "MRR"
    return Table(
        head=["", *names.values()],
        rows=[
            [one.label, *(number(one.measures.value(name)) for name in names)] for one in exam.lists
        ],
        caption=f"What is found: {exam.title}. {exam.text}",
        strong=_own(exam),
    )


def _variety(exam: EvaluatedSet) -> Table:
    k = max(_ks(exam), default=0)
    return Table(
        head=["", *_VARIETY.values()],
        rows=[
            [one.label, *(share(one.measures.value(f"{name}@{k}")) for name in _VARIETY)]
            for one in exam.lists
        ],
        caption=f"How varied the first {k} are: {exam.title}. {exam.text}",
        strong=_own(exam),
    )


def _fresh(exams: list[EvaluatedSet]) -> Iterator[Table]:
    """The same without what the user had before."""
    for exam in exams:
        found = [
            one._replace(measures=one.measures.excluded)
            for one in exam.lists
            if one.measures.excluded
        ]
        if found:
            caption = f"What is found without items that the user had before: {exam.title}"
            yield replace(_found(exam._replace(lists=found)), caption=caption, folded=True)


def _next_click(facts: Facts) -> Iterator[Table]:
    clicks = facts.metrics.next_click
    lists = [
        ("two-tower of the day before, all events", clicks.progressive),
        *((f"{one.label}, all events", one.measures) for one in baselines(clicks.baselines)),
        ("this version, held-out users", clicks.holdout.candidate),
        ("the version before, held-out users", clicks.holdout.baseline),
    ]
    known = [(label, measures) for label, measures in lists if measures]
    first = known[0][1].values if known else {}
    names = [name for name in first if name.startswith("recall@")]
    if names:
        yield Table(
            head=["", *names],
            rows=[
                [label, *(number(measures.value(name)) for name in names)]
                for label, measures in known
            ],
            caption="The next click: one query per event, with all that happened before it",
            folded=True,
        )


def sources(facts: Facts) -> Section:
    """Each source of candidates alone, and their mix."""
    exam = on_the_day(facts) if on_the_day(facts).of_model else held_out(facts)
    listed = [one for one in exam.lists if one.colour != "parent"]
    text = [
        "Each source of candidates alone: what a list of its items only would have found.",
        exam.text,
    ]
    if not any(one.colour == "mix" for one in listed):
        text.append("No mix of the sources was measured on them.")
    return Section(
        anchor="sources",
        title="Each source alone, and the mix",
        text=text,
        figures=[_sources(facts, listed)] if listed else [],
        tables=[_weights(facts)],
        half=True,
    )


def _weights(facts: Facts) -> Table:
    """How this version mixes its sources."""
    mix = facts.mix
    if mix is None:
        return Table(
            head=[], rows=[], caption="This version serves the two-tower alone: it carries no mix."
        )
    fitted = mix.fitted.day or facts.manifest.date
    # Told a row per source, so that a phone has room for it.
    rows = [
        [called(name), *(number(row[name], 2) for row in mix.weights.values())]
        for name in mix.sources
    ]
    caption = (
        "Weights of the sources in the mix that this version serves, by the user’s earlier events;"
        f" of {fitted}"
    )
    return Table(
        head=["source", *(name.replace("-", "–") for name in mix.weights)],
        rows=rows,
        caption=caption,
    )


def _sources(facts: Facts, listed: list[MeasuredLists]) -> Figure:
    listed = sorted(listed, key=lambda one: -(one.measures.value(facts.metric) or 0))
    names = [called(one.colour) for one in listed]
    values = [one.measures.value(facts.metric) for one in listed]
    spans = [interval(one.measures, facts.metric) for one in listed]
    rows = [
        [name, measured(one.measures, facts.metric)]
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
            caption=f"{facts.metric} by source, with 95% intervals",
        ),
    )


def slices(facts: Facts) -> Section:
    """Recall by slice of users and of items."""
    exam = on_the_day(facts) if on_the_day(facts).of_model else held_out(facts)
    sliced = [one for one in exam.lists if one.measures.slices]
    text = [
        (
            "Users and items are told apart by their events before the day; 0 is new. The farther"
            " right a dot, the better; lines are 95% intervals over users."
        ),
        f"{exam.text} Newcomers were asked too: they count in their slice alone.",
    ]
    if not sliced:
        text = [
            "Nothing was measured by slice: evaluation.slices is empty, or there was no user to"
            " ask."
        ]
    return Section(
        anchor="slices",
        title="New and old users, new and old items",
        text=text,
        figures=[_sliced(facts, sliced, side) for side in ("users", "items")] if sliced else [],
    )


def _slices_of(lists: MeasuredLists, side: str) -> Mapping[str, SliceMeasures]:
    return lists.measures.slices.on_side(side) if lists.measures.slices else {}


def _sliced(facts: Facts, listed: list[MeasuredLists], side: str) -> Figure:
    first = _slices_of(listed[0], side)
    names = [name for name in first if name != "outside"]
    one_of = side.removesuffix("s")
    counted = "users" if side == "users" else "true"
    counts = [getattr(first[name], counted) for name in names]
    series = [
        Series(
            colour=one.colour,
            values=[one.measures.value(key(facts.metric, side, n)) for n in names],
            spans=[interval(one.measures, key(facts.metric, side, n)) for n in names],
        )
        for one in listed
    ]
    rows = [
        [n, count(counts[place]), *(number(one.values[place]) for one in series)]
        for place, n in enumerate(names)
    ]
    outside = first["outside"].true if "outside" in first else None
    told = "; ".join(
        f"{n} {number(value)}" for n, value in zip(names, series[0].values, strict=True)
    )
    return Figure(
        title=f"By earlier events of the {one_of}",
        svg=charts.dots(
            f"slices-{side}", [n.replace("-", "–") for n in names], series, facts.metric
        ),
        alt=f"{listed[0].label}, by earlier events of the {one_of}: {told}",
        caption=(
            f"{count(outside)} items taken were not in the catalogue: nothing can find them."
            if outside
            else ""
        ),
        legend=[Mark(one.colour, one.label, "dot") for one in listed],
        table=Table(
            head=[
                "events",
                "users" if side == "users" else "taken",
                *(called(one.colour) for one in listed),
            ],
            rows=rows,
            caption=f"{facts.metric} by earlier events of the {one_of}",
        ),
    )
