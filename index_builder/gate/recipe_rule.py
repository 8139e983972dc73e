"""The gate's two rules on trees.

*Order*: a version's trees against those of the newest accepted version, for users held out of the
day. Both order the same candidates, by the vectors of the version before and by counts as of the
day's start: neither has seen the day. A user is the unit. Refused when the whole 95% interval lies
below -`gate.max_drop`.

*Recipe*: whether trees serve, or the fixed order. It refuses no version. A version's trees are
fitted on the day, so that nobody can have judged them yet. What can be judged is how trees are made:
those of the version before, on all users of a day, before the day was trained on. A day is the unit.
Over the newest 7 to 28 days they are compared with the best of the fixed order and of each source
alone. If they are surely below, the fixed order serves from now on; it is measured on, and trees
serve again once they are no longer surely below. Before there are 7 days the trees serve.

The gate's rule on skew: whether what is served looks like what training saw
(beam_jobs/validation/skew.py). A tower that meets values which it never saw gives vectors that mean
nothing, and recall on the day that was trained on does not tell.

Beyond `MAX_SKEW` or `MOST_OUTSIDE` it is noted; with `gate.on_skew = "refuse"`, refused. A
refresh that nobody asked for, as it follows a refused day, is refused beyond `MOST_OUTSIDE` in
either case: what was wrong with the day may be its catalogue.

Absolute limits of the gate: `gate.floors` and `gate.ceilings`, of the two-tower's lists and of
those that are served.

A limit of a measure holds for both; one named `served/MEASURE` for what is served, in place of that.
The two-tower is held to them however few users were asked, in a slice from `gate.min_users` on. What
is served was asked about users of the day itself alone: of fewer than `gate.min_users` it is held to
none, which is noted.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from statistics import fmean, stdev
from typing import NamedTuple

from index_builder.gate.comparison import (
    LEAST_DIFFERENT,
    MOST_DAYS,
    Finding,
    LineMemory,
    compare_all,
)
from twinspire_core.config.source_names import FIXED_ORDER, RANKED
from twinspire_core.config.tables.quality import GateConfig
from twinspire_core.contracts.day_metrics import HeldOutMeasures, RankerMeasures
from twinspire_core.contracts.features_report import FeatureSkew, ValueRange
from twinspire_core.contracts.gate_verdict import RecipeFigures
from twinspire_core.contracts.measures import Measures, value_of
from twinspire_core.metrics.measure_names import OF_SERVED, split_name

Limits = Mapping[str, float]
_POPULAR_SHARE = "popular_share@"
"""The one measure that there is none of after a day that is missing."""


def judge_limits(two_tower: HeldOutMeasures, gate: GateConfig) -> Iterator[Finding]:
    """Holds the two-tower to the limits."""
    floors = two_tower_limits(gate.floors)
    ceilings = two_tower_limits(gate.ceilings)
    yield from _judge(two_tower.candidate, gate, floors, ceilings)


def judge_served_limits(served: HeldOutMeasures, gate: GateConfig) -> Iterator[Finding]:
    """Holds what is served to the limits."""
    if not (gate.floors or gate.ceilings):
        return
    if served.candidate is None or served.users < gate.min_users:
        few = f"{served.users} held-out users of the day itself, gate.min_users is {gate.min_users}"
        unjudged = "what is served is not held to gate.floors and gate.ceilings"
        yield Finding(False, f"{unjudged}: {few}")
        return
    floors = served_limits(gate.floors)
    ceilings = served_limits(gate.ceilings)
    for refuses, text in _judge(served.candidate, gate, floors, ceilings):
        yield Finding(refuses, f"what is served: {text}")


def two_tower_limits(limits: Limits) -> Limits:
    """The limits that hold for the two-tower, by measure."""
    return {name: limit for name, limit in limits.items() if not name.startswith(OF_SERVED)}


def served_limits(limits: Limits) -> dict[str, float]:
    """The limits that hold for what is served, by measure: the two-tower's, and in their place its
    own.
    """
    found = dict(two_tower_limits(limits))
    for name, limit in limits.items():
        if name.startswith(OF_SERVED):
            found[name.removeprefix(OF_SERVED)] = limit
    return found


def below(name: str, value: float | None, least: float, meaning: str) -> Iterator[Finding]:
    """Refuses what is missing, no number, or less."""
    if value is None or not math.isfinite(value):
        yield Finding(True, f"{name} is {_missing(value)}; it must reach {least:.4f}, {meaning}")
    elif value < least:
        yield Finding(True, f"{name} is {value:.4f}, below {least:.4f}, {meaning}")


def above(name: str, value: float | None, most: float, meaning: str) -> Iterator[Finding]:
    """Refuses what is missing, no number, or more."""
    if value is None or not math.isfinite(value):
        yield Finding(
            True, f"{name} is {_missing(value)}; it must not exceed {most:.4f}, {meaning}"
        )
    elif value > most:
        yield Finding(True, f"{name} is {value:.4f}, above {most:.4f}, {meaning}")


def _judge(
    measures: Measures | None, gate: GateConfig, floors: Limits, ceilings: Limits
) -> Iterator[Finding]:
    for kind, limits, beyond in (("floor", floors, below), ("ceiling", ceilings, above)):
        for name, limit in limits.items():
            measure, side, _ = split_name(name)
            users = measures.users_of_slice(name) if measures else 0
            # All users are held to a limit however few they are: a floor says what must be there
            if side and users < gate.min_users:
                few = f"{users} users, gate.min_users is {gate.min_users}"
                yield Finding(False, f"{name} is not held to its {kind} of {limit:g}: {few}")
                continue
            value = value_of(measures, name)
            if value is None and measures and measure.startswith(_POPULAR_SHARE):
                why = "the days before had no events, so that nothing is known to be popular"
                yield Finding(False, f"{name} is not held to its {kind} of {limit:g}: {why}")
            else:
                yield from beyond(name, value, limit, f"its {kind} in gate.{kind}s")


def _missing(value: float | None) -> str:
    return "missing" if value is None else f"{value}, not a number"


MAX_SKEW = 0.3
"""How far a feature may be from the rows trained on: seasons move them by less."""
MOST_OUTSIDE = 0.1
"""Share of what is served, by events, whose values may lie outside the range of those trained on."""
_UNIT_FACTOR = 20
"""Medians that differ by so many times are rather another unit than another season."""


def judge_skew(
    features: Sequence[FeatureSkew], gate: GateConfig, *, unasked: bool = False
) -> Iterator[Finding]:
    """Holds the features of what is served to the limits.

    Args:
      features: how far each is from training; empty where nobody knows.
      gate: the limits.
      unasked: whether it is a refresh that nobody asked for.
    """
    if gate.on_skew == "ignore":
        return
    for one in features:
        beyond = [
            f"{text}, above {limit:g}"
            for value, limit, text in (
                (one.distance, MAX_SKEW, _distance_text(one)),
                (one.outside, MOST_OUTSIDE, _outside_text(one)),
            )
            if value > limit
        ]
        if beyond:
            text = (
                f"{one.feature} is not served as it was trained on: {describe(one)}"
                f" ({'; '.join(beyond)}). {_cause(one)}"
            )
            unknown = unasked and one.outside > MOST_OUTSIDE
            yield Finding(gate.on_skew == "refuse" or unknown, text)


def describe(one: FeatureSkew) -> str:
    """Where the values lie, in training and as they are served."""
    if one.trained and one.served:
        return (
            f"{_range_text(one.trained)} in training, {_range_text(one.served)} now,"
            f" {one.outside:.0%} of it outside"
        )
    return f"{one.value!r} was {one.trained_share:.1%} in training, and is {one.served_share:.1%}"


def _range_text(values: ValueRange) -> str:
    return (
        f"{values.low:g} to {values.high:g} (mostly {values.tenth:g} to {values.ninetieth:g},"
        f" median {values.median:g})"
    )


def _distance_text(one: FeatureSkew) -> str:
    name = "Jensen-Shannon divergence" if one.served else "L-infinity distance"
    return f"{name} {one.distance:.2f}"


def _outside_text(one: FeatureSkew) -> str:
    return f"{one.outside:.0%} outside of what training met"


def _cause(one: FeatureSkew) -> str:
    """The probable cause, and what to do."""
    if not one.trained or not one.served:
        return (
            "Values may have been renamed, or the catalogue exchanged: compare the newest snapshot"
            " with those before"
        )
    higher = one.served.median > one.trained.median
    if one.kind == "count" and not higher:
        return (
            "The last days were quiet, or logs are missing: run days that were left out; a window"
            " (days) of a week or more wavers less than one of a day"
        )
    if one.kind == "count":
        return (
            "The last days were busier than those trained on, or training saw the counts of a day's"
            " start beside what was taken later that day, as with news: take a longer window"
            " (days), or leave the feature out"
        )
    if one.kind == "age":
        return (
            f"{'Few' if higher else 'Nearly all'} items are new, compared with training: the day may be"
            " late, logs may end early, or window.count_days be shorter than the logs were then;"
            " train on more days (--mode full)"
        )
    trained = abs(one.trained.median)
    served = abs(one.served.median)
    if max(trained, served) > _UNIT_FACTOR * min(trained, served):
        return "The unit may have changed: compare the newest snapshot with those before"
    return "Look at the newest snapshot; where it is right, train on more days (--mode full)"


LEAST_DAYS = 7
"""Days that say something of how trees are made."""
# fmt: off
_SURE = (3.707, 3.499, 3.355, 3.250, 3.169, 3.106, 3.055, 3.012, 2.977, 2.947, 2.921, 2.898, 2.878,
         2.861, 2.845, 2.831, 2.819, 2.807, 2.797, 2.787, 2.779, 2.771)
"""Standard errors to either side of the mean of 7, 8, … 28 days that a 99% interval by Student's t
reaches: of several lists the best is looked at, every day, which has to be surer than once."""
# fmt: on


class RecipeJudgement(NamedTuple):
    """What was found.

    Attributes:
      serves: `ranked` or `fixed_order`.
      figures: what was compared; None before there are enough days.
      notes: why the fixed order serves, or what is not known yet.
    """

    serves: str
    figures: RecipeFigures | None = None
    notes: tuple[Finding, ...] = ()


def judge_recipe(
    ranker: RankerMeasures | None, memory: LineMemory | None, gate: GateConfig
) -> RecipeJudgement:
    """Says what serves.

    Args:
      ranker: what was measured of trees; None where none were wanted.
      memory: what is remembered of the days.
      gate: says by which measure.
    """
    if ranker is None:
        return RecipeJudgement(FIXED_ORDER)
    if ranker.fitted is None:
        return _serves(FIXED_ORDER, None, "the fixed order serves: too few users to fit trees on")
    days = _days(memory, gate.metric) if memory else []
    if len(days) < LEAST_DAYS:
        known = f"they were measured on {len(days)} days, and {LEAST_DAYS} are needed"
        text = f"the trees serve, and are not compared with the fixed order and single sources: {known}"
        return _serves(RANKED, None, text)
    figures = _compare(days)
    if figures.is_below:
        return _serves(FIXED_ORDER, figures, figures.why_not(gate.metric))
    return RecipeJudgement(RANKED, figures)


def _serves(serves: str, figures: RecipeFigures | None, note: str) -> RecipeJudgement:
    return RecipeJudgement(serves, figures, (Finding(False, note),))


def _days(memory: LineMemory, metric: str) -> list[Mapping[str, float]]:
    """By list, the measure of each of the newest days on which there were trees."""
    oldest = memory.day - timedelta(days=MOST_DAYS - 1)
    found = list[Mapping[str, float]]()
    for name, one in memory.line.items():
        measured = {by: values[metric] for by, values in one.lists.items() if metric in values}
        if RANKED in measured and oldest <= date.fromisoformat(name) <= memory.day:
            found.append(measured)
    return found


def _compare(days: list[Mapping[str, float]]) -> RecipeFigures:
    """The trees beside the list that found most on the same days."""
    # A source that came later has fewer days: it counts once it has all of them
    others = set.intersection(*(set(day) for day in days)) - {RANKED}
    other = max(sorted(others), key=lambda name: fmean(day[name] for day in days))
    differences = [day[RANKED] - day[other] for day in days]
    mean = fmean(differences)
    reach = _SURE[len(days) - LEAST_DAYS] * stdev(differences) / len(days) ** 0.5
    return RecipeFigures(
        days=len(days),
        beside=other,
        trees=fmean(day[RANKED] for day in days),
        other=fmean(day[other] for day in days),
        mean=mean,
        low=mean - reach,
        high=mean + reach,
    )


def judge_order(ranker: RankerMeasures | None, gate: GateConfig) -> Iterator[Finding]:
    """Compares a version's trees with those before; notes what cannot be compared.

    Args:
      ranker: what was measured of trees; None where none were wanted.
      gate: the limit.
    """
    if ranker is None or ranker.fitted is None:
        return
    unjudged = "the trees are not compared with those of the version before"
    if ranker.holdout.baseline is None:
        yield Finding(
            False, f"{unjudged}: there are none for the same sources. The rule begins here"
        )
        return
    one = compare_all(ranker.holdout, gate.metric)
    if one.change is None or not one.is_known:
        few = f"the lists of {one.differ} held-out users differ, {LEAST_DIFFERENT} are needed"
        yield Finding(False, f"{unjudged}: {few}")
    elif one.surely_lost(gate.max_drop):
        yield Finding(
            True,
            f"{one.name} of the trees is {one.candidate:.4f}, the trees of the version before find"
            f" {one.baseline:.4f} of the same candidates{one.change_as_text}; all of the interval"
            f" below -gate.max_drop = -{gate.max_drop:g} is refused",
        )
