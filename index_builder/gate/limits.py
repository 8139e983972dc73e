"""Limits of the gate that do not depend on earlier versions.

    floors, ceilings   `gate.floors` and `gate.ceilings`, for the two-tower's lists and the served lists
    corpus             `MAX_CORPUS_CHANGE`, since the version that it is compared with
    skew               `MAX_SKEW` and `MOST_OUTSIDE`: features of what is served against those of the
                       rows trained on (beam_jobs/validation/drift.py)

A floor or ceiling of a measure holds for the two-tower and for the served lists. One named `served/MEASURE`
replaces it for the served lists. The two-tower must keep the limits for any number of users; in a slice, only
from `gate.min_users` on. The served lists are measured only on users of the day itself. With fewer than
`gate.min_users` of these, their limits are not applied, and the verdict notes it.

Skew matters because a tower returns meaningless vectors for values that it never saw in training. Recall on
the day that was trained on does not show this. Skew is noted; with `gate.on_skew = "refuse"` it is refused.
An automatic refresh after a refused day is refused beyond `MOST_OUTSIDE` in either case, because the day's
catalogue may be what was wrong.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from index_builder.gate.comparison import Finding, JudgedVersion
from index_builder.gate.ranker_rules import judge_recipe
from twinspire_core.config.source_registry import RANKED
from twinspire_core.config.tables.deployment import IndexConfig
from twinspire_core.config.tables.quality import GateConfig
from twinspire_core.contracts.features_report import FeatureSkew, ValueRange
from twinspire_core.contracts.measures import Measures, value_of
from twinspire_core.metrics.measure_names import OF_SERVED, split_name

MAX_CORPUS_CHANGE = 0.5
"""Largest relative change of the corpus: a catalogue that halves overnight was probably read in part."""
LEAST_KNOWN = 0.1
"""Smallest share of a day's events on items of the catalogue, if the day before had as much."""
_HITS_EXPECTED = 5  # as many are missed by chance on less than 1% of days
_IF_RIGHT = "; if the catalogue is right, `twinspire promote --despite-gate` makes the version live"
MAX_SKEW = 0.3
"""How far a feature may be from the training rows: seasons move features by less."""
MOST_OUTSIDE = 0.1
"""Share of the served values, weighted by events, that may lie outside the training range."""
# If medians differ by this factor, another unit is more likely than another season.
_UNIT_FACTOR = 20
_Limits = Mapping[str, float]
# The only measure that cannot be computed after a day without events.
_POPULAR_SHARE = "popular_share@"


def judge_limits(version: JudgedVersion, gate: GateConfig, _: IndexConfig) -> Iterator[Finding]:
    """Applies the limits to the two-tower."""
    yield from _judge(version.two_tower.candidate, gate, two_tower_limits)


def judge_served_limits(
    version: JudgedVersion, gate: GateConfig, _: IndexConfig
) -> Iterator[Finding]:
    """Applies the limits to the served lists."""
    if not (gate.floors or gate.ceilings):
        return
    served = version.fixed_order
    if version.ranker and judge_recipe(version, gate).serves == RANKED:
        served = version.ranker.holdout
    if served.candidate is None or served.users < gate.min_users:
        yield Finding(
            False,
            "gate.floors and gate.ceilings are not applied to the served lists:"
            f" {served.users} held-out users of the day itself are too few (gate.min_users ="
            f" {gate.min_users})",
        )
        return
    for refuses, text in _judge(served.candidate, gate, served_limits):
        yield Finding(refuses, f"served lists: {text}")


def two_tower_limits(limits: _Limits) -> _Limits:
    """The limits that hold for the two-tower, by measure."""
    return {name: limit for name, limit in limits.items() if not name.startswith(OF_SERVED)}


def served_limits(limits: _Limits) -> dict[str, float]:
    """The limits of the served lists, by measure: their own, else the two-tower's."""
    served = {
        name.removeprefix(OF_SERVED): limit
        for name, limit in limits.items()
        if name.startswith(OF_SERVED)
    }
    return {**two_tower_limits(limits), **served}


def beyond(
    name: str, value: float | None, limit: float, meaning: str, *, is_ceiling: bool = False
) -> Iterator[Finding]:
    """Refuses measures that are missing, are no number, or lie beyond a floor or ceiling."""
    must, where = ("not exceed", "above") if is_ceiling else ("reach", "below")
    if value is None or not math.isfinite(value):
        problem = "missing" if value is None else f"{value}, not a number"
        yield Finding(True, f"{name} is {problem}; it must {must} {limit:.4f}, {meaning}")
    elif value > limit if is_ceiling else value < limit:
        yield Finding(True, f"{name} is {value:.4f}, {where} {limit:.4f}, {meaning}")


def _judge(
    measures: Measures | None, gate: GateConfig, limits_of: Callable[[_Limits], _Limits]
) -> Iterator[Finding]:
    for kind, limits in (("floor", gate.floors), ("ceiling", gate.ceilings)):
        for name, limit in limits_of(limits).items():
            measure, side, _ = split_name(name)
            users = measures.users_of_slice(name) if measures else 0
            value = value_of(measures, name)
            why_not = ""
            # For all users together a limit holds whatever their number: a floor is a minimum in any case. A
            # few users say little about a slice, and a new shop has few in each.
            if side and users < gate.min_users:
                why_not = f"{users} users are too few (gate.min_users = {gate.min_users})"
            elif value is None and measures and measure.startswith(_POPULAR_SHARE):
                why_not = "the days before had no events, so no item is known to be popular"
            if why_not:
                yield Finding(False, f"the {kind} of {limit:g} is not applied to {name}: {why_not}")
            else:
                meaning = f"its {kind} in gate.{kind}s"
                yield from beyond(name, value, limit, meaning, is_ceiling=kind == "ceiling")


def judge_index(version: JudgedVersion, _: GateConfig, index: IndexConfig) -> Iterator[Finding]:
    """Refuses an index that finds too few of the exact neighbours."""
    yield from beyond(
        "index recall", version.index_recall, index.recall_target, "index.recall_target"
    )


def judge_size(version: JudgedVersion, _: GateConfig, __: IndexConfig) -> Iterator[Finding]:
    """Refuses an empty corpus, and one whose size has changed by more than is plausible."""
    items, baseline_items = version.items, version.baseline_items
    if items == 0:
        yield Finding(True, "the corpus is empty")
    elif baseline_items:
        change = abs(items / baseline_items - 1)
        if change > MAX_CORPUS_CHANGE:
            yield Finding(
                True,
                f"the corpus has {items} items, the baseline's {baseline_items}: a change of"
                f" {change:.0%}, above {MAX_CORPUS_CHANGE:.0%}{_IF_RIGHT}",
            )


def judge_days_items(version: JudgedVersion, gate: GateConfig, _: IndexConfig) -> Iterator[Finding]:
    """Refuses a day whose events are hardly on items of the corpus, or on which no list finds anything, if
    the baseline's day was different: then ids of items are probably written differently.
    """
    share, share_before, best, best_before = version.days_items
    users = version.measurable.now if version.measurable else 0
    what = ""
    if share is not None and share_before is not None and share < LEAST_KNOWN <= share_before:
        what = (
            f"{share:.0%} of the items that users took on the day are in the catalogue as of its start,"
            f" after {share_before:.0%} on the baseline's day"
        )
    # With few users, all may miss by chance
    elif best == 0 and best_before and best_before * users >= _HITS_EXPECTED:
        what = (
            f"{gate.metric} of every list is 0, even of the most popular items, after"
            f" {best_before:.4f} on the baseline's day"
        )
    if what:
        yield Finding(
            True,
            f"{what}. Item ids may be written differently than before. Correct the logs, and run the day"
            " again; if the change is meant, `twinspire promote --despite-gate` makes the version live,"
            " and the next day is compared with it",
        )


def judge_emptied(version: JudgedVersion, _: GateConfig, __: IndexConfig) -> Iterator[Finding]:
    """Refuses a day on which a feature has no value, if the baseline's day had some."""
    for name, examples in version.emptied.items():
        if examples >= _HITS_EXPECTED:
            yield Finding(
                True,
                f"the feature {name} has no value on the day; {examples:,} examples of the baseline's"
                " day had one. Its column may be missing or renamed. Correct the data, and run the day"
                " again; if the change is meant, `twinspire promote --despite-gate` makes the version"
                " live, and the next day is compared with it",
            )


def judge_exchange(how: str, items: int, before: int) -> Iterator[Finding]:
    """Refuses a corpus of which too many items are new or gone. A replaced corpus may have the same size, so
    its size alone does not show it.

    Args:
      how: `not in` or `gone from` the corpus before.
      items: how many items are.
      before: size of the corpus before.
    """
    share = items / max(1, before)
    if share > MAX_CORPUS_CHANGE:
        yield Finding(
            True,
            f"{items:,} items are {how} the previous catalogue of {before:,}: {share:.0%} of it, above"
            f" {MAX_CORPUS_CHANGE:.0%}{_IF_RIGHT}",
        )


def judge_version_skew(
    version: JudgedVersion, gate: GateConfig, _: IndexConfig
) -> Iterator[Finding]:
    """Applies the limits of skew to the features that a version serves."""
    yield from judge_skew(version.skew, gate)


def judge_skew(
    features: Sequence[FeatureSkew], gate: GateConfig, *, unasked: bool = False
) -> Iterator[Finding]:
    """Applies the limits of skew to the served features.

    Args:
      features: how far each one is from training; empty if unknown.
      unasked: whether this is an automatic refresh.
    """
    if gate.on_skew == "ignore":
        return
    for feature in features:
        beyond = []
        if feature.distance > MAX_SKEW:
            measure = "Jensen-Shannon divergence" if feature.served else "L-infinity distance"
            beyond.append(f"{measure} {feature.distance:.2f}, above {MAX_SKEW:g}")
        if feature.outside > MOST_OUTSIDE:
            outside = f"{feature.outside:.2f} of the values outside the training range"
            beyond.append(f"{outside}, above {MOST_OUTSIDE:g}")
        if beyond:
            text = (
                f"{feature.feature} differs between training and serving: {describe_skew(feature)}"
                f" ({'; '.join(beyond)}). {_cause(feature)}"
            )
            # Nobody looks at an automatic refresh, and its towers have never seen such values.
            unknown = unasked and feature.outside > MOST_OUTSIDE
            yield Finding(gate.on_skew == "refuse" or unknown, text)


def describe_skew(skew: FeatureSkew) -> str:
    """The range of the values in training and in serving, as text."""
    if skew.trained and skew.served:
        return (
            f"{_range_text(skew.trained)} in training, {_range_text(skew.served)} now,"
            f" {skew.outside:.0%} of them outside the training range"
        )
    return f"{skew.value!r} was {skew.trained_share:.1%} in training, and is {skew.served_share:.1%} now"


def _range_text(values: ValueRange) -> str:
    return (
        f"{values.low:g} to {values.high:g} (mostly {values.tenth:g} to {values.ninetieth:g},"
        f" median {values.median:g})"
    )


def _cause(skew: FeatureSkew) -> str:
    """The probable cause, and what to do."""
    if not skew.trained or not skew.served:
        return (
            "Values may have been renamed, or the catalogue replaced: compare the newest snapshot"
            " with earlier ones"
        )
    # Counts and ages change for other reasons, which have other remedies
    higher = skew.served.median > skew.trained.median
    if skew.kind == "count" and not higher:
        return (
            "The last days were quiet, or logs are missing: run days that were left out. Or raise days"
            " of the feature: counts of a week or more vary less than those of a day"
        )
    if skew.kind == "count":
        return (
            "The last days were busier than the training days. Or, as with news, counts as of a day's"
            " start say little about events later that day. Raise days of the feature, or leave the"
            " feature out"
        )
    if skew.kind == "age":
        return (
            f"Compared with training, {'few' if higher else 'nearly all'} items are new. The day may be late,"
            " logs may end early, or window.count_days may be shorter than the logs were in training."
            " Train on more days (--mode full)"
        )
    trained = abs(skew.trained.median)
    served = abs(skew.served.median)
    if max(trained, served) > _UNIT_FACTOR * min(trained, served):
        return "The unit may have changed: compare the newest snapshot with earlier ones"
    return "Check the newest snapshot. If it is right, train on more days (--mode full)"
