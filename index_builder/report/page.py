"""The page: its parts in order, and what stands above them."""

from collections.abc import Iterator
from importlib.resources import files

from index_builder.report import judgement, making, quality, training
from index_builder.report.facts import Facts
from index_builder.report.report_blocks import Example, Item, Section
from twinspire_core.contracts.day_metrics import ExampleList
from twinspire_core.contracts.measures import value_of
from twinspire_core.display.pages import templates
from twinspire_core.display.quality_tables import list_name
from twinspire_core.display.table import Card, count, counted, number, share


def examples(facts: Facts) -> Section:
    """A held-out user of each slice, by this version."""
    text = [
        f"What this version recommends to held-out users on {facts.manifest.date}, the best first;"
        " ✓ marks what they took that day. One of each slice by earlier events, chosen by the"
        " fingerprint of their id and not by result."
    ]
    if facts.examples and not facts.user_store:
        text.append(
            "They are not named: only with serving.user_store = true are all users carried."
        )
    if not facts.examples:
        text = [
            "There are none: no user was held out, or the training files of this version have none."
        ]
    shown = [_example(facts, one, number) for number, one in enumerate(facts.examples, 1)]
    return Section(anchor="examples", title="Lists to look at", text=text, examples=shown)


def _example(facts: Facts, one: ExampleList, number: int) -> Example:
    # A report travels: users are named only where the version carries them all anyway
    name = one.user if facts.user_store else "ABCDEFGH"[number - 1]
    taken = set(one.taken)
    found = len(taken & set(one.items))
    earlier = f"{counted(one.past_events, 'event')} before"
    return Example(
        who=f"User {name}, {earlier if one.past_events else 'new: no event before'}",
        history=[_item(facts, item) for item in one.history],
        items=[_item(facts, item, item in taken) for item in one.items],
        taken=f"took {counted(len(taken), 'item')} that day, {found} of them among these",
    )


def _item(facts: Facts, item: str, taken: bool = False) -> Item:
    name = facts.items.get(item) or item
    return Item(name, "" if name == item else item, taken)


_PARTS = (
    quality.trend,
    judgement.verdict,
    quality.second_stage,
    quality.lists,
    quality.slices,
    examples,
    making.changes,
    training.popularity,
    training.frequency,
    training.learning,
    making.search,
    making.data,
    making.origin,
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
            verdict=_verdict(facts),
            asked=_asked(facts),
            cards=list(_cards(facts)),
            parts=[part(facts) for part in _PARTS],
            css=files(__package__).joinpath("page.css").read_text(),
        )
    )
    return page.encode()


def _verdict(facts: Facts) -> tuple[str, str]:
    """The page in a sentence: what became of the version, and how good what is served is."""
    gate = facts.gate
    state = "Live" if facts.goes_live else "Accepted, not live" if gate.accepted else "Refused"
    figure = facts.served
    change = figure.change_text if figure else "what is served was not measured"
    if figure and figure.held_out:
        change = f"on held-out users {change}"
    anomalies = facts.data.statistics.anomalies if facts.data and facts.data.statistics else ()
    alarms = len(gate.refused) + len(anomalies or ())
    counts = [counted(alarms, "alarm") if alarms else "no alarms"]
    if gate.notes:
        counts.append(counted(len(gate.notes), "note"))
    return f"{state}.", f"{change[0].upper()}{change[1:]}, {', '.join(counts)}."


def _asked(facts: Facts) -> str:
    """Whose lists the figure in front is of, and who was asked."""
    figure = facts.served
    if figure is None:
        return ""
    text = (
        f"{facts.metric} over {figure.users_text}: {figure.values_text}, two-tower alone"
        f" {number(figure.two_tower)}. Lists by the {list_name(figure.source)} of {figure.whose}."
    )
    return f"{text} No next day has measured it yet." if figure.held_out else text


def _cards(facts: Facts) -> Iterator[Card]:
    figure = facts.served
    if figure:
        where = "held out" if figure.held_out else "on the day"
        simple = figure.simple and f"{list_name(figure.simple)} {number(figure.simple_value)}"
        note = simple or "no simple list was measured"
        yield Card(f"{facts.metric} of what is served, {where}", number(figure.value), note)
    yield Card(
        f"{facts.metric} of the two-tower on held-out users",
        number(value_of(facts.metrics.holdout.candidate, facts.metric)),
        _before(facts),
    )
    measured = next((one.measures for one in facts.of_the_model.lists), None)
    yield Card(
        f"items reached by what is served, first {facts.k}",
        share(value_of(measured, f"coverage@{facts.k}")),
        f"of {count(facts.manifest.items)} in the catalogue",
    )
    yield Card(
        f"index recall at {facts.index.k}",
        number(facts.index.recall, 4),
        f"{facts.index.recall_target} asked for",
    )


def _before(facts: Facts) -> str:
    """How the two-tower differs from the one before."""
    baseline = facts.metrics.holdout.baseline
    if baseline is None:
        return "no version before to compare with"
    return f"{judgement.change_from_baseline(facts)} from {number(baseline.value(facts.metric))}"
