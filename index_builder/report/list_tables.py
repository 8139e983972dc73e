"""The lists, side by side: what is found by each of them, and how varied they are."""

from collections.abc import Iterator

from index_builder.report.facts import Facts
from index_builder.report.report_blocks import Section
from twinspire_core.display.measured_lists import (
    PARENT,
    EvaluatedSet,
    MeasuredLists,
    baselines,
    kind_text,
    of_other_kind,
)
from twinspire_core.display.quality_tables import heading, lists_table
from twinspire_core.display.table import Table

_VARIETY = {
    "coverage": "items reached",
    "gini": "Gini",
    "overlap": "overlap",
    "popular_share": "popular share",
}


def lists(facts: Facts) -> Section:
    """Every list that was measured, by several measures."""
    sets = [one for one in facts.evaluated_sets if one.lists]
    text = [
        "Variety is of all lists together. Items reached: the part of the catalogue that is in any"
        " list. Gini: 0% when all items are shown alike. Overlap: what two users’ lists have in"
        " common. Popular share: of the few items that have half of the last days’ events"
        " between them; not known where these days have none."
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
