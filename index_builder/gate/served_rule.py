"""The gate's rules on what is served: the mix of sources, or the two-tower of a version without one.

exchange   what the version serves against what its baseline does, where only one of them has a mix,
           by the rule on losses (index_builder/gate/quality_drop_rule.py). A mix that is lost is
           told in any case.
sources    the mix against the best of its own sources, on all users who were measured on the day.
           What was served to them is the baseline's mix, whose weights were fitted on days before.
           Refused when it surely found less than the source that found most of them. On the day of
           few users days before are added, each with the mix of then.

Where weights were badly fitted once, the version that mends them must not be refused for those of
its baseline: it is accepted, with a note, if its own mix finds no less than that source on users
held out of the day. So is a version that has the weights of its baseline, as after a gap: without
it these would be served on, and each day refused would make the gap longer. What is looked at every
day, beside the best of several sources, has to be surer than once: the interval is one of 99%.
Slices of users are noted.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from index_builder.gate.comparison import LEAST_DIFFERENT, Finding
from index_builder.gate.memory_rule import LineMemory
from index_builder.gate.pooled_days import PooledDays, pool_days
from index_builder.gate.quality_drop_rule import judge_drops
from twinspire_core.config.tables.gate import GateConfig
from twinspire_core.contracts.day_metrics import FusionMeasures
from twinspire_core.contracts.gate_verdict import SourceFigures
from twinspire_core.contracts.measures import PairedDifference, PairedDifferences
from twinspire_core.metrics.measure_names import USERS, split_name

VERY_SURE = 2.576
"""Standard errors to either side of a mean that a 99% interval reaches."""


class BesideSource(NamedTuple):
    """A mix beside the best of its sources.

    Attributes:
      source: its name.
      pooled: the comparison, of one day or of several.
    """

    source: str
    pooled: PooledDays

    def figures(self) -> SourceFigures:
        """As JSON can hold them."""
        return SourceFigures(
            source=self.source, days=self.pooled.days, **self.pooled.compared.figures()
        )


def compare_with_sources(
    mix: FusionMeasures, memory: LineMemory | None, gate: GateConfig
) -> BesideSource | None:
    """The mix that was served on the day beside the one of its sources that found most.

    None where there was no mix, or where users are fewer than `gate.min_users`, also together with
    those of days before.
    """
    if memory is None:
        return None
    found = list[BesideSource]()
    for name, today in mix.beside_sources.items():
        days: dict[str, PairedDifferences | None] = {
            day: one.beside_sources.get(name) for day, one in memory.line.items()
        }
        days[str(memory.day)] = today
        pooled = pool_days(days, memory.day, gate.metric, enough=gate.min_users, sure=VERY_SURE)
        if pooled and pooled.compared.users >= gate.min_users:
            found.append(BesideSource(name, pooled))
    return max(found, key=lambda one: one.pooled.compared.baseline or 0.0, default=None)


def judge_served(
    mix: FusionMeasures, memory: LineMemory | None, gate: GateConfig
) -> Iterator[Finding]:
    """Judges what is served."""
    yield from _judge_exchange(mix, gate)
    # Whoever leaves the mix out serves none of its sources either
    beside = compare_with_sources(mix, memory, gate) if mix.fitted else None
    if beside:
        yield from _judge_sources(beside, mix, gate)
    if mix.fitted:
        yield from _note_slices(mix, gate)


def _judge_exchange(mix: FusionMeasures, gate: GateConfig) -> Iterator[Finding]:
    if mix.is_lost:
        what = "the baseline serves a mix of sources, this version its two-tower alone"
        why = "mix.sources is another, or too few users were there to fit weights on"
        yield Finding(False, f"the mix is lost: {what}: {why}")
    if mix.exchanged:
        before = "the mix before" if mix.is_lost else "the two-tower that was served before"
        for refuses, text in judge_drops(mix.exchanged, gate):
            yield Finding(refuses, f"what is served, against {before}: {text}")


def _judge_sources(
    beside: BesideSource, mix: FusionMeasures, gate: GateConfig
) -> Iterator[Finding]:
    compared = beside.pooled.compared
    is_sure = compared.high is not None and compared.high < 0
    if not is_sure or compared.differ < LEAST_DIFFERENT:
        return
    text = _as_text(beside)
    if mix.keeps_weights:
        yield Finding(
            False, f"{text}; this version has the same weights: to refuse it mends nothing"
        )
        return
    own = mix.own_beside_sources.get(beside.source)
    own_difference = own.by_measure.get(gate.metric) if own else None
    if own and own_difference and own_difference.mean >= 0:
        held_out = f"{own.users} held-out users this version's own weights find no less than it"
        yield Finding(False, f"{text}; of {held_out}")
    else:
        yield Finding(True, f"{text}; a mix surely below the best of its sources is refused")


def _as_text(beside: BesideSource) -> str:
    compared = beside.pooled.compared
    days = f" of {beside.pooled.days} days" if beside.pooled.days > 1 else ""
    return (
        f"the mix that was served found {compared.name} of {compared.candidate:.4f}, its source"
        f" {beside.source} alone would have found {compared.baseline:.4f}: a change of"
        f" {compared.change:+.1%} (99%: {compared.low:+.1%} to {compared.high:+.1%}) over"
        f" {compared.users} users{days}, {compared.differ} of whom fare differently"
    )


def _note_slices(mix: FusionMeasures, gate: GateConfig) -> Iterator[Finding]:
    """Slices of users for whom the best of the sources is surely better than the mix."""
    for name, (source, one) in _best_by_slice(mix.beside_sources, gate.metric).items():
        users = mix.progressive.users_of_slice(name) if mix.progressive else 0
        if users < gate.min_users or one.base <= 0 or one.differ < LEAST_DIFFERENT:
            continue
        error = one.deviation / users**0.5
        if one.mean + VERY_SURE * error < 0:
            _, _, slice_name = split_name(name)
            yield Finding(
                False,
                f"to users of {slice_name} earlier events the mix that was served found"
                f" {one.mean / one.base:+.1%} beside its source {source} alone ({users} users)",
            )


def _best_by_slice(
    beside_sources: Mapping[str, PairedDifferences], metric: str
) -> dict[str, tuple[str, PairedDifference]]:
    """By measure of a slice of users, the source that found most, and the mix beside it."""
    best: dict[str, tuple[str, PairedDifference]] = {}
    for source, found in beside_sources.items():
        for name, one in found.by_measure.items():
            measure, side, _ = split_name(name)
            if (measure, side) != (metric, USERS):
                continue
            if name not in best or one.base > best[name][1].base:
                best[name] = (source, one)
    return best
