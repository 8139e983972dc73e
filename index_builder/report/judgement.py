"""What the gate said of the version, beside its limits."""

from collections.abc import Iterator

from index_builder.gate.limits import MAX_CORPUS_CHANGE, served_limits, two_tower_limits
from index_builder.report.facts import Facts
from index_builder.report.report_blocks import Section
from twinspire_core.config.source_names import RANKED
from twinspire_core.contracts.gate_verdict import LiftFigures, PooledFigures
from twinspire_core.display.quality_tables import interval_text, kind_text, list_name
from twinspire_core.display.table import NONE, Table, change_text, count, number


def verdict(facts: Facts) -> Section:
    """The gate's verdict, with reasons and numbers."""
    gate = facts.gate
    limits = facts.limits
    if gate.accepted:
        text = ["The gate accepted this version."]
    else:
        text = ["The gate refused this version, which is not live:"]
    text += [f"• {reason}" for reason in gate.refused]
    text += [f"Note: {note}." for note in gate.notes]
    rows = [
        *_two_tower(facts),
        *_second_stage(facts),
        *_limits(facts),
        ["held-out users", count(gate.figures.users), f"≥ {limits.min_users:,}"],
        ["index recall", number(gate.figures.index_recall, 4), f"≥ {facts.recall_target:g}"],
        ["items", count(gate.figures.items), f"±{MAX_CORPUS_CHANGE:.0%}"],
    ]
    kind = kind_text(facts.metrics.counted_lists)
    title = f"What was judged, of lists {kind}, and the limits; 95% intervals in brackets"
    table = Table(head=["", "measured", "limit"], rows=rows, title=title)
    return Section(
        anchor="gate",
        title="The gate",
        text=text,
        tables=[table, *_slices(facts)],
        half=True,
    )


def _two_tower(facts: Facts) -> Iterator[list[str]]:
    """Beside the version before, the best one before, and what saw the same day."""
    held = facts.metrics.holdout
    figures = facts.gate.figures
    most = f"−{facts.limits.max_drop:.0%}"
    name = f"{facts.metric} of the two-tower"
    yield [name, interval_text(held.candidate, facts.metric), NONE]
    yield [f"{name} before", interval_text(held.baseline, facts.metric), NONE]
    yield ["change", change_from_baseline(facts), most]
    if best := figures.best:
        changed = f"{number(best.baseline)}: {change_text(best.change, best.low, best.high)}"
        yield [f"the best version before, {best.version}", changed, f"{most}, all of the interval"]
        yield from _pooled(best.pooled, "each against that one", most)
    yield from _pooled(figures.pooled, "each against its baseline", most)
    if lead := figures.lead:
        name = f"{facts.metric} beside what the day’s other users took most"
        yield [name, _lead(lead), f"−{facts.limits.max_lead_drop:.0%} of the median before"]


def _second_stage(facts: Facts) -> Iterator[list[str]]:
    """The trees beside those of the version before, and how such trees did on days before."""
    figures = facts.gate.figures
    trees = figures.trees
    if trees and trees.baseline is not None:
        changed = change_text(trees.change, trees.low, trees.high)
        measured = f"{number(trees.candidate)}, before {number(trees.baseline)}: {changed}"
        limit = f"−{facts.limits.max_drop:.0%}, all of the interval"
        yield [f"{facts.metric} of the trees, {count(trees.users)} users", measured, limit]
    if recipe := figures.recipe:
        difference = f"{recipe.mean:+.4f} (99%: {recipe.low:+.4f} to {recipe.high:+.4f})"
        other = f"{list_name(recipe.beside)} {number(recipe.other)}"
        measured = f"{number(recipe.trees)}, {other}: {difference}"
        limit = "the fixed order serves if surely below"
        yield [f"trees on {recipe.days} days, before each was trained on", measured, limit]


def _limits(facts: Facts) -> Iterator[list[str]]:
    """What has floors and ceilings, of the two-tower and then of what is served, where that was
    measured.
    """
    two_tower = facts.metrics.holdout.candidate
    ranker = facts.metrics.ranker
    served = facts.metrics.fixed_order.holdout.candidate
    if facts.gate.serves == RANKED and ranker:
        served = ranker.holdout.candidate
    for of_both, sign in ((facts.limits.floors, "≥"), (facts.limits.ceilings, "≤")):
        for name, limit in two_tower_limits(of_both).items():
            yield [name, interval_text(two_tower, name), f"{sign} {limit:g}"]
        for name, limit in served_limits(of_both).items() if served else ():
            yield [f"{name} of what is served", interval_text(served, name), f"{sign} {limit:g}"]


def _pooled(pooled: PooledFigures | None, how: str, limit: str) -> list[list[str]]:
    """Several days together, where one has too few users."""
    if pooled is None:
        return []
    name = f"{pooled.days} days together, {how}, {count(pooled.users)} users"
    return [[name, change_text(pooled.change, pooled.low, pooled.high), limit]]


def _lead(lead: LiftFigures) -> str:
    """How many times as much is found as by a list that saw the same day, and what it was for the
    versions before.
    """
    text = f"{lead.lead:.2f} times {number(lead.popular_today)}"
    if lead.low is not None:
        text += f" ({lead.low:.2f} to {lead.high:.2f})"
    if lead.before:
        text += f"; before {min(lead.before):.2f} to {max(lead.before):.2f}"
    return text


def _slices(facts: Facts) -> list[Table]:
    """How the gate's measure differs from the version before for users of each slice."""
    rows = [
        [
            name.partition(":")[2],
            count(one.users),
            number(one.baseline),
            number(one.candidate),
            change_text(one.change, one.low, one.high),
        ]
        for name, one in facts.gate.figures.slices.items()
        if one.baseline is not None
    ]
    title = (
        f"{facts.metric} by users’ earlier events. Refused where more than"
        f" −{2 * facts.limits.max_drop:.0%} is sure, in slices of {facts.limits.min_users:,} users or more"
    )
    head = ["earlier events", "users", "before", "now", "change"]
    return [Table(head=head, rows=rows, title=title)] if rows else []


def change_from_baseline(facts: Facts) -> str:
    """The relative change of the gate's measure from the version before, with its interval."""
    found = facts.metrics.holdout.change_of(facts.metric)
    return change_text(found.change, found.low, found.high)
