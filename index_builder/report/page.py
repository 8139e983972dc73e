"""The page: its parts in order, and what stands above them."""

from collections.abc import Iterator
from importlib.resources import files

from index_builder.report import (
    changes,
    index_search,
    judgement,
    list_tables,
    slice_figures,
    source_figures,
    stage_outcomes,
    training,
    trend,
)
from index_builder.report.facts import Facts
from index_builder.report.report_blocks import Example, Item, Section
from twinspire_core.contracts.example_lists import ExampleList
from twinspire_core.contracts.measures import value_of
from twinspire_core.display.figures import count, counted, number, share
from twinspire_core.display.measured_lists import list_name
from twinspire_core.display.pages import templates
from twinspire_core.display.table import Card


def examples(facts: Facts) -> Section:
    """A held-out user of each slice, by this version."""
    text = [
        f"What this version recommends to held-out users on {facts.manifest.date}, the best first;"
        " ✓ marks what they took that day. One of each slice by earlier events, chosen by the"
        " fingerprint of their id and not by result."
    ]
    if facts.examples and not facts.user_store:
        text.append("They are not named: serving.user_store is off.")
    if not facts.examples:
        text = [
            "There are none: no user was held out, or the training files of this version have none."
        ]
    shown = [_example(facts, one, number) for number, one in enumerate(facts.examples, 1)]
    return Section(anchor="examples", title="Lists to look at", text=text, examples=shown)


def _example(facts: Facts, one: ExampleList, number: int) -> Example:
    # A report travels: users are named only where the version carries them anyway
    name = one.user if facts.user_store else "ABCDEFGH"[number - 1]
    taken = set(one.taken)
    found = len(taken & set(one.items))
    return Example(
        who=f"User {name}, {_earlier(one.past_events)}",
        history=[_item(facts, item) for item in one.history],
        items=[_item(facts, item, item in taken) for item in one.items],
        taken=f"took {counted(len(taken), 'item')} that day, {found} of them among these",
    )


def _earlier(events: int) -> str:
    if not events:
        return "new: no event before"
    return f"{counted(events, 'event')} before"


def _item(facts: Facts, item: str, taken: bool = False) -> Item:
    name = facts.items.get(item)
    if name is None or name in ("", item):
        return Item(item, taken=taken)
    return Item(name, item, taken)


_PARTS = (
    trend.trend,
    judgement.verdict,
    source_figures.sources,
    list_tables.lists,
    slice_figures.slices,
    examples,
    changes.changes,
    training.popularity,
    training.frequency,
    training.learning,
    index_search.search,
    stage_outcomes.data,
    stage_outcomes.origin,
)


def render(facts: Facts) -> bytes:
    """The report: one HTML page that needs nothing else."""
    # Only the SVG, which charts.py makes, is not escaped.
    page = (
        templates(__package__)
        .get_template("page.html.jinja")
        .render(
            title=f"{facts.manifest.pipeline}, {facts.manifest.date}",
            pipeline=facts.manifest.pipeline,
            day=f"{facts.manifest.date:%A, %-d %B %Y}",
            version=facts.manifest.version,
            accepted=facts.gate.accepted,
            cards=list(_cards(facts)),
            parts=[part(facts) for part in _PARTS],
            css=files(__package__).joinpath("page.css").read_text(),
        )
    )
    return page.encode()


def _cards(facts: Facts) -> Iterator[Card]:
    on_the_day = facts.metrics.progressive
    by = "by the version of the day before"
    if facts.manifest.parent is None:
        by = "by what was trained up to the day"
    yield Card(
        f"{facts.metric} on the day, {by}",
        number(value_of(on_the_day, facts.metric)),
        _beside(facts) if on_the_day else "no version was there before",
    )
    held = facts.metrics.holdout
    note = "nothing to compare with"
    if held.baseline:
        before = number(held.baseline.value(facts.metric))
        note = f"{judgement.change_from_baseline(facts)} from {before}"
    yield Card(
        f"{facts.metric} of held-out users, this version",
        number(value_of(held.candidate, facts.metric)),
        note,
    )
    yield Card(
        f"items reached, first {facts.k}",
        share(value_of(held.candidate, f"coverage@{facts.k}")),
        f"of {count(facts.manifest.items)} in the catalogue",
    )
    yield Card(
        f"index recall at {facts.index.k}",
        number(facts.index.recall, 4),
        f"{facts.index.recall_target} asked for",
    )


def _beside(facts: Facts) -> str:
    """What to hold the two-tower's figure against: the mix that it is a part of, the best
    baseline.
    """
    fused = facts.metrics.mix.progressive
    best = _best_baseline(facts)
    if fused is None:
        return best
    return f"its mix {number(fused.value(facts.metric))}; {best}"


def _best_baseline(facts: Facts) -> str:
    baselines = facts.metrics.baselines
    values = [(measures.value(facts.metric), name) for name, measures in baselines.items()]
    known = [(value, name) for value, name in values if value is not None]
    if not known:
        return "no baseline was measured"
    value, name = max(known)
    return f"{list_name(name)}, the best baseline: {number(value)}"
