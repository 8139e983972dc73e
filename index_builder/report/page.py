"""The page: its top, the gate's verdict, and the other sections in order."""

from collections.abc import Iterator

from index_builder.gate.limits import MAX_CORPUS_CHANGE, served_limits, two_tower_limits
from index_builder.report import making_sections, quality_sections, training_sections
from index_builder.report.facts import Facts, Section
from twinspire_core.config.source_registry import RANKED
from twinspire_core.contracts.gate_verdict import ComparedFigures, PooledFigures
from twinspire_core.contracts.measures import RelativeChange, value_of
from twinspire_core.display.pages import style, templates
from twinspire_core.display.quality_tables import interval_text, kind_text, list_name
from twinspire_core.display.table import (
    NONE,
    Card,
    Table,
    change_text,
    count,
    counted,
    number,
    share,
)


def render(facts: Facts) -> bytes:
    """The report: one HTML page that needs no other file."""
    # Everything is escaped except the SVG of charts.py.
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
            # Reports are passed on to others, so users are named only if the version stores all of them
            # anyway.
            named_users=facts.user_store,
            item_names=facts.items,
            counted=counted,
            css=style(__package__),
        )
    )
    return page.encode()


def _verdict(facts: Facts) -> tuple[str, str]:
    """A summary in one sentence: the version's state, and the quality of the served lists."""
    gate = facts.gate
    state = "Live" if facts.goes_live else "Accepted, not live" if gate.accepted else "Refused"
    figure = facts.served
    change = figure.change_text if figure else "the served lists were not measured"
    if figure and figure.held_out:
        change = f"on held-out users {change}"
    # Reasons of the gate and unusual statistics, which somebody should look at.
    alarms = len(gate.refused)
    if facts.data and facts.data.statistics:
        alarms += len(facts.data.statistics.anomalies or ())
    counts = counted(alarms, "alarm") if alarms else "no alarms"
    if gate.notes:
        counts += f", {counted(len(gate.notes), 'note')}"
    return f"{state}.", f"{change[0].upper()}{change[1:]}, {counts}."


def _asked(facts: Facts) -> str:
    """Whose lists the first figure measures, and for which users."""
    figure = facts.served
    if figure is None:
        return ""
    text = (
        f"{facts.metric} over {figure.users_text}: {figure.values_text}, two-tower alone"
        f" {number(figure.two_tower)}. Lists: {list_name(figure.source)} of {figure.whose}."
    )
    return f"{text} No later day has measured it yet." if figure.held_out else text


def _cards(facts: Facts) -> Iterator[Card]:
    if figure := facts.served:
        where = "held out" if figure.held_out else "on the day"
        simple = figure.simple and f"{list_name(figure.simple)} {number(figure.simple_value)}"
        yield Card(
            f"{facts.metric} of the served lists, {where}",
            number(figure.value),
            simple or "no simple list was measured",
        )
    yield Card(
        f"{facts.metric} of the two-tower on held-out users",
        number(value_of(facts.metrics.holdout.candidate, facts.metric)),
        f"{_change_from_baseline(facts)} from {number(baseline.value(facts.metric))}"
        if (baseline := facts.metrics.holdout.baseline)
        else "no earlier version to compare with",
    )
    measured = next((listed.measures for listed in facts.of_the_model.lists), None)
    yield Card(
        f"share of the catalogue in the served lists, first {facts.k}",
        share(value_of(measured, f"coverage@{facts.k}")),
        f"of {count(facts.manifest.items)} items",
    )
    yield Card(
        f"index recall at {facts.index.k}",
        number(facts.index.recall, 4),
        f"target {facts.index.recall_target}",
    )


def _gate(facts: Facts) -> Section:
    """The verdict of the gate, with its reasons, measures and limits."""
    gate = facts.gate
    limits = facts.limits
    text = [
        "The gate accepted this version."
        if gate.accepted
        else "The gate refused this version, which is not live:",
        *(f"• {reason}" for reason in gate.refused),
        *(f"Note: {note}." for note in gate.notes),
    ]
    rows = [
        *_two_tower(facts),
        *_second_stage(facts),
        *_limits(facts),
        ["held-out users", count(gate.figures.users), f"≥ {limits.min_users:,}"],
        ["index recall", number(gate.figures.index_recall, 4), f"≥ {facts.recall_target:g}"],
        ["items", count(gate.figures.items), f"±{MAX_CORPUS_CHANGE:.0%}"],
    ]
    table = Table(
        head=["", "measured", "limit"],
        rows=rows,
        title=(
            f"Measures and limits, for lists {kind_text(facts.metrics.counted_lists)}; 95% intervals in"
            " brackets"
        ),
    )
    return Section(
        anchor="gate",
        title="The gate",
        text=text,
        tables=[table, *_gate_slices(facts)],
        half=True,
    )


def _two_tower(facts: Facts) -> Iterator[list[str]]:
    """The two-tower against the baseline and the best earlier version."""
    held = facts.metrics.holdout
    figures = facts.gate.figures
    most = f"−{facts.limits.max_drop:.0%}"
    name = f"{facts.metric} of the two-tower"
    yield [name, interval_text(held.candidate, facts.metric), NONE]
    yield [f"{name} of the baseline", interval_text(held.baseline, facts.metric), NONE]
    yield ["change", _change_from_baseline(facts), most]
    if best := figures.best:
        changed = f"{number(best.baseline)}: {_change_text(best)}"
        yield [f"the best earlier version, {best.version}", changed, f"{most}, whole interval"]
        yield from _pooled(best.pooled, "each against that version", most)
    yield from _pooled(figures.pooled, "each against its baseline", most)


def _second_stage(facts: Facts) -> Iterator[list[str]]:
    """The trees against those of the previous version, and the trees of earlier days."""
    figures = facts.gate.figures
    trees = figures.trees
    if trees and trees.baseline is not None:
        yield [
            f"{facts.metric} of the ranker, {count(trees.users)} users",
            f"{number(trees.candidate)}, previous version {number(trees.baseline)}: {_change_text(trees)}",
            f"−{facts.limits.max_drop:.0%}, whole interval",
        ]
    if recipe := figures.recipe:
        yield [
            f"ranker on {counted(recipe.days, 'day')}, before training on each day",
            f"{number(recipe.trees)}, {list_name(recipe.beside)} {number(recipe.other)}:"
            f" {recipe.mean:+.4f} (99%: {recipe.low:+.4f} to {recipe.high:+.4f})",
            "the fixed order serves if the ranker is significantly worse",
        ]


def _limits(facts: Facts) -> Iterator[list[str]]:
    """Measures with floors and ceilings: of the two-tower, and of the served lists if measured."""
    two_tower = facts.metrics.holdout.candidate
    ranker = facts.metrics.ranker
    served = facts.metrics.fixed_order.holdout.candidate
    if facts.gate.serves == RANKED and ranker:
        served = ranker.holdout.candidate
    for of_both, sign in ((facts.limits.floors, "≥"), (facts.limits.ceilings, "≤")):
        for name, limit in two_tower_limits(of_both).items():
            yield [name, interval_text(two_tower, name), f"{sign} {limit:g}"]
        for name, limit in served_limits(of_both).items() if served else ():
            yield [f"{name} of the served lists", interval_text(served, name), f"{sign} {limit:g}"]


def _pooled(pooled: PooledFigures | None, how: str, limit: str) -> list[list[str]]:
    """Several days together, if a single day has too few users."""
    if pooled is None:
        return []
    name = f"{pooled.days} days together, {how}, {count(pooled.users)} users"
    return [[name, _change_text(pooled), limit]]


def _gate_slices(facts: Facts) -> list[Table]:
    """The change of the gate's measure for users of each slice."""
    rows = [
        [
            name.partition(":")[2],
            count(part.users),
            number(part.baseline),
            number(part.candidate),
            _change_text(part),
        ]
        for name, part in facts.gate.figures.slices.items()
        if part.baseline is not None
    ]
    table = Table(
        head=["earlier events", "users", "before", "now", "change"],
        rows=rows,
        title=(
            f"{facts.metric} by users’ earlier events. In slices of at least"
            f" {facts.limits.min_users:,} users, a drop that is surely larger than"
            f" {2 * facts.limits.max_drop:.0%} is refused"
        ),
    )
    return [table] if rows else []


def _change_from_baseline(facts: Facts) -> str:
    """The relative change of the gate's measure from the baseline, with its interval."""
    return _change_text(facts.metrics.holdout.change_of(facts.metric))


def _change_text(compared: ComparedFigures | RelativeChange) -> str:
    return change_text(compared.change, compared.low, compared.high)


def _examples(facts: Facts) -> Section:
    """A held-out user of each slice, by this version."""
    if not facts.examples:
        none = "There are no examples: no user was held out, or the version's training files have none."
        return Section(anchor="examples", title="Lists to look at", text=[none])
    text = [
        f"Lists of this version for held-out users on {facts.manifest.date}, best items first."
        " ✓ marks items that they took that day. There is one user per slice by earlier events,"
        " chosen by a hash of the id, so that good results are not preferred."
    ]
    if not facts.user_store:
        text.append(
            "Users are not named, because serving.user_store is off and the version stores no users."
        )
    return Section(anchor="examples", title="Lists to look at", text=text, examples=facts.examples)


# The sections in the order of the page: what matters most to a reader comes first.
_PARTS = (
    quality_sections.trend,
    _gate,
    quality_sections.second_stage,
    quality_sections.lists,
    quality_sections.slices,
    _examples,
    making_sections.changes,
    training_sections.popularity,
    training_sections.learning,
    making_sections.search,
    making_sections.data,
    making_sections.origin,
)
