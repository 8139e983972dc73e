"""What the gate said of the version, beside its limits."""

from collections.abc import Iterator

from index_builder.gate.limits import fixed_order_limits, two_tower_limits
from index_builder.report.facts import Facts
from index_builder.report.report_blocks import Section
from twinspire_core.config.tables.gate import GateConfig
from twinspire_core.contracts.gate_verdict import LiftFigures, PooledFigures
from twinspire_core.display.figures import NONE, change_text, count, number
from twinspire_core.display.measured_lists import kind_text
from twinspire_core.display.quality_tables import interval_text
from twinspire_core.display.table import Table


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
        *_served(facts),
        *_limits(facts),
        ["held-out users", count(gate.figures.users), f"≥ {limits.min_users:,}"],
        ["index recall", number(gate.figures.index_recall, 4), f"≥ {facts.recall_target:g}"],
        ["items", count(gate.figures.items), f"±{limits.max_corpus_change:.0%}"],
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


def _served(facts: Facts) -> Iterator[list[str]]:
    """The fixed order beside the one before, the ranker beside the fixed order."""
    figures = facts.gate.figures
    most = f"−{facts.limits.max_drop:.0%}"
    fixed = figures.fixed_order
    if fixed and fixed.candidate is not None and fixed.baseline is not None:
        yield from _pooled(fixed.pooled, "the fixed order against the one before", most)
        difference = change_text(fixed.change, fixed.low, fixed.high)
        measured = f"{number(fixed.candidate)}, before {number(fixed.baseline)}: {difference}"
        yield [f"the fixed order, {count(fixed.users)} users", measured, most]
    name = "of the ranker beside the fixed order"
    if ranker := figures.ranker:
        limit = _ranker_limit(facts.metric, facts.limits)
        yield _of_days(f"{facts.metric} {name}", ranker, limit)
    if order := figures.ranker_order:
        limit = _ranker_limit(order.measure, facts.limits)
        yield _of_days(f"{order.measure} {name}", order, limit)


def _limits(facts: Facts) -> Iterator[list[str]]:
    """What has floors and ceilings, of the two-tower and then of the fixed order, where that was
    measured.
    """
    two_tower = facts.metrics.holdout.candidate
    order = facts.metrics.fixed_order.holdout.candidate
    for of_both, sign in ((facts.limits.floors, "≥"), (facts.limits.ceilings, "≤")):
        for name, limit in two_tower_limits(of_both).items():
            yield [name, interval_text(two_tower, name), f"{sign} {limit:g}"]
        for name, limit in fixed_order_limits(of_both).items() if order else ():
            yield [f"{name} of the fixed order", interval_text(order, name), f"{sign} {limit:g}"]


def _pooled(pooled: PooledFigures | None, how: str, limit: str) -> list[list[str]]:
    """Several days together, where one has too few users."""
    if pooled is None:
        return []
    name = f"{pooled.days} days together, {how}, {count(pooled.users)} users"
    return [[name, change_text(pooled.change, pooled.low, pooled.high), limit]]


def _of_days(name: str, one: PooledFigures, limit: str) -> list[str]:
    """What was measured of the users of one day, or of several."""
    users = f"{count(one.users)} users"
    if one.days > 1:
        users += f" of {one.days} days"
    difference = change_text(one.change, one.low, one.high)
    figures = f"{number(one.candidate)}, the fixed order {number(one.baseline)}: {difference}"
    return [f"{name}, {users}", figures, limit]


def _ranker_limit(measure: str, limits: GateConfig) -> str:
    return "serves if surely above" if measure == limits.metric else NONE


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
        f"{facts.metric} by users’ earlier events. Refused where all of an interval is beyond"
        f" −{facts.limits.max_slice_drop:.0%}, in slices of {facts.limits.min_users:,} users or more"
    )
    head = ["earlier events", "users", "before", "now", "change"]
    return [Table(head=head, rows=rows, title=title)] if rows else []


def change_from_baseline(facts: Facts) -> str:
    """The relative change of the gate's measure from the version before, with its interval."""
    found = facts.metrics.holdout.change_of(facts.metric)
    return change_text(found.change, found.low, found.high)
