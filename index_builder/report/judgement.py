"""What the gate said of the version, beside its limits."""

from collections.abc import Iterator

from index_builder.gate.limits import mix_limits, two_tower_limits
from index_builder.report.facts import Facts
from index_builder.report.report_blocks import Section
from twinspire_core.config.tables.gate import GateConfig
from twinspire_core.contracts.gate_verdict import (
    BestFigures,
    LiftFigures,
    ListFigures,
    OrderFigures,
    PooledFigures,
    SourceFigures,
)
from twinspire_core.contracts.measures import Measures
from twinspire_core.display.figures import NONE, change_text, count, number
from twinspire_core.display.measured_lists import kind_text, list_name
from twinspire_core.display.quality_tables import interval_text
from twinspire_core.display.table import Table


def verdict(facts: Facts) -> Section:
    """The gate's verdict, with reasons and numbers."""
    gate = facts.gate
    limits = facts.limits
    held = facts.metrics.holdout
    if gate.accepted:
        text = ["The gate accepted this version."]
    else:
        text = ["The gate refused this version, which is not live:"]
    text += [f"• {reason}" for reason in gate.refused]
    text += [f"Note: {note}." for note in gate.notes]
    figures = gate.figures
    rows = [
        [f"{facts.metric} of the two-tower", interval_text(held.candidate, facts.metric), NONE],
        [
            f"{facts.metric} of the two-tower before",
            interval_text(held.baseline, facts.metric),
            NONE,
        ],
        ["change", change_from_baseline(facts), f"−{limits.max_drop:.0%}"],
        *_best(figures.best, limits),
        *_pooled(figures.pooled, "each against its baseline", limits),
        *_lift(figures.lead, limits, facts.metric),
        *_mix(figures.mix, limits),
        *_sources(figures.sources),
        *_ranker(figures.ranker, facts.metric, limits),
        *_ranker_order(figures.ranker_order, limits),
        *_limits(held.candidate, facts.metrics.mix.holdout.candidate, limits),
        ["held-out users", count(figures.users), f"≥ {limits.min_users:,}"],
        ["index recall", number(figures.index_recall, 4), f"≥ {facts.recall_target:g}"],
        ["items", count(figures.items), f"±{limits.max_corpus_change:.0%}"],
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


def _limits(
    two_tower: Measures | None, mix: Measures | None, limits: GateConfig
) -> Iterator[list[str]]:
    """What has floors and ceilings, of the two-tower and then of the mix, where that was
    measured.
    """
    for of_both, sign in ((limits.floors, "≥"), (limits.ceilings, "≤")):
        for name, limit in two_tower_limits(of_both).items():
            yield [name, interval_text(two_tower, name), f"{sign} {limit:g}"]
        for name, limit in mix_limits(of_both).items() if mix else ():
            yield [f"{name} of the mix", interval_text(mix, name), f"{sign} {limit:g}"]


def _best(best: BestFigures | None, limits: GateConfig) -> Iterator[list[str]]:
    """Beside the best version accepted before, where that is not the version before."""
    if best is None:
        return
    limit = f"−{limits.max_drop:.0%}, all of the interval"
    figures = f"{number(best.baseline)}: {change_text(best.change, best.low, best.high)}"
    yield [f"the best version before, {best.version}", figures, limit]
    yield from _pooled(best.pooled, "each against that one", limits)


def _pooled(pooled: PooledFigures | None, how: str, limits: GateConfig) -> Iterator[list[str]]:
    """Several days together, where one has too few users."""
    if pooled is None:
        return
    name = f"{pooled.days} days together, {how}, {count(pooled.users)} users"
    yield [name, change_text(pooled.change, pooled.low, pooled.high), f"−{limits.max_drop:.0%}"]


def _sources(sources: SourceFigures | None) -> Iterator[list[str]]:
    """What was served on the day beside the best of its sources."""
    if sources is None:
        return
    name = f"the mix that was served beside {list_name(sources.source)} alone"
    users = f"{count(sources.users)} users"
    if sources.days > 1:
        users += f" of {sources.days} days"
    difference = change_text(sources.change, sources.low, sources.high)
    figures = f"{number(sources.candidate)}, that source {number(sources.baseline)}: {difference}"
    yield [f"{name}, {users}", figures, "not surely below (99%)"]


def _ranker(ranker: PooledFigures | None, measure: str, limits: GateConfig) -> Iterator[list[str]]:
    """Rankers of the newest days beside the mixes of then."""
    if ranker is None:
        return
    users = f"{count(ranker.users)} users"
    if ranker.days > 1:
        users += f" of {ranker.days} days"
    difference = change_text(ranker.change, ranker.low, ranker.high)
    figures = f"{number(ranker.candidate)}, the mix {number(ranker.baseline)}: {difference}"
    decides = measure == (limits.ranker_metric or limits.metric)
    limit = NONE
    if decides:
        limit = "serves if surely above"
    elif limits.ranker_metric:
        limit = "not surely below"
    yield [f"{measure} of the ranker beside the mix, {users}", figures, limit]


def _ranker_order(ranker: OrderFigures | None, limits: GateConfig) -> Iterator[list[str]]:
    """The same by a measure of the first places."""
    if ranker is not None:
        yield from _ranker(ranker, ranker.measure, limits)


def _mix(mix: ListFigures | None, limits: GateConfig) -> Iterator[list[str]]:
    """The same of the mix, where both versions have one."""
    if mix is None or mix.candidate is None or mix.baseline is None:
        return
    yield from _pooled(mix.pooled, "the mix against the mix before", limits)
    difference = change_text(mix.change, mix.low, mix.high)
    figures = f"{number(mix.candidate)}, before {number(mix.baseline)}: {difference}"
    yield [f"the mix, {count(mix.users)} users", figures, f"−{limits.max_drop:.0%}"]


def _lift(lift: LiftFigures | None, limits: GateConfig, metric: str) -> Iterator[list[str]]:
    """How many times as much is found as by a list that saw the same day, and what it was for the
    versions before.
    """
    if lift is None:
        return
    figures = f"{lift.lead:.2f} times {number(lift.popular_today)}"
    if lift.low is not None:
        figures += f" ({lift.low:.2f} to {lift.high:.2f})"
    if lift.before:
        figures += f"; before {min(lift.before):.2f} to {max(lift.before):.2f}"
    name = f"{metric} beside what the day’s other users took most"
    yield [name, figures, f"−{limits.max_lead_drop:.0%} of the median before"]


def _slices(facts: Facts) -> Iterator[Table]:
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
    if not rows:
        return
    rule = (
        f"Refused where all of an interval is beyond −{facts.limits.max_slice_drop:.0%}, in slices"
        f" of {facts.limits.min_users:,} users or more"
    )
    yield Table(
        head=["earlier events", "users", "before", "now", "change"],
        rows=rows,
        title=f"{facts.metric} by users’ earlier events. {rule}",
    )


def change_from_baseline(facts: Facts) -> str:
    """The relative change of the gate's measure from the version before, with its interval."""
    found = facts.metrics.holdout.change_of(facts.metric)
    return change_text(found.change, found.low, found.high)
