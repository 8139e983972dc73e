"""Lists that were measured beside one another; twinspire_core/display/quality_tables.py shows them.

The report, the command line and the demo show the same lists of a version: its own, those of the
version before, and those that need no model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from twinspire_core.config.source_names import (
    BASELINE_TITLES,
    FIXED_ORDER,
    RANKED,
    TITLES,
    TWO_TOWER,
)
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.contracts.measures import Measures
from twinspire_core.contracts.ranker_file import RankerFit
from twinspire_core.display.table import Style, count
from twinspire_core.metrics.measure_names import EXCLUDED

PARENT = "parent"
"""The lists of the version before. Other kinds are `fixed_order` and the names of sources."""

_NAMES = {
    **TITLES,
    **BASELINE_TITLES,
    FIXED_ORDER: "fixed order",
    RANKED: "ranker",
    "uncorrected": "two-tower, correction taken out",
}


@dataclass(frozen=True, slots=True)
class MeasuredLists:
    """Lists of one make, measured.

    Attributes:
      kind: `two_tower`, `fixed_order`, `ranked`, `parent`, or the name of what made them without a
        model.
      label: what they are called beside the others.
      measures: of them.
      served: whether they are what is served.
    """

    kind: str
    label: str
    measures: Measures
    served: bool = False

    @property
    def row_style(self) -> Style | None:
        """The style of their row in a table of several lists."""
        return Style.STRONG if self.served else None


@dataclass(frozen=True, slots=True)
class EvaluatedSet:
    """Lists that were measured on the same queries.

    Attributes:
      name: what the queries are called, short enough for a column.
      title: what they are called in a sentence.
      text: who was asked.
      lists: those that are served first.
    """

    name: str
    title: str
    text: str
    lists: Sequence[MeasuredLists]

    @property
    def of_model(self) -> bool:
        """Whether the two-tower is among the lists."""
        return any(one.kind == TWO_TOWER for one in self.lists)


def kind_text(kind: str) -> str:
    """What people are told that a kind of lists is, to end a sentence with.

    Args:
      kind: `KEPT` or `EXCLUDED`.
    """
    if kind == EXCLUDED:
        return "without what the user had before"
    return "with what the user had before"


def of_other_kind(evaluated: EvaluatedSet) -> EvaluatedSet:
    """The same lists of the kind that does not count, as far as they were measured."""
    lists = [
        replace(one, measures=one.measures.other) for one in evaluated.lists if one.measures.other
    ]
    return replace(evaluated, lists=lists)


def list_name(kind: str) -> str:
    """What people are told that lists of a kind are.

    Example:
      >>> list_name("co_occurrence")
      'bought together'
    """
    return _NAMES.get(kind, kind.replace("_", " "))


def baselines(measured: Mapping[str, Measures]) -> list[MeasuredLists]:
    """The lists that need no model."""
    return [MeasuredLists(kind, list_name(kind), measures) for kind, measures in measured.items()]


def on_the_day(metrics: DayMetrics, day: date, serves: str | None = None) -> EvaluatedSet:
    """The version before on all users of the day, before anything was trained on it; of a first
    version, itself before it was trained on the day.

    Args:
      metrics: what was measured on the day.
      day: the day.
      serves: what the gate let the version before serve.
    """
    by = "what was trained up to the day" if is_first(metrics) else "the version before"
    text = f"{_asked(metrics, day)}, by {by}, which never saw the day."
    lists = _progressive(metrics, served_on_its_day(metrics, serves))
    lists += baselines(metrics.baselines)
    return EvaluatedSet("day", "the day", text, lists)


def held_out(metrics: DayMetrics, day: date, serves: str | None = None) -> EvaluatedSet:
    """A version and the one before on users that neither was trained on.

    Args:
      metrics: what was measured on the version's day.
      day: the day.
      serves: what the gate lets the version serve.
    """
    held = metrics.holdout
    lists = _of_version(held.candidate, metrics.comparable_fixed_order, None, serves or FIXED_ORDER)
    if held.baseline:
        lists.append(MeasuredLists(PARENT, "two-tower before", held.baseline))
    lists += baselines(held.baselines)
    # Where a day holds out too few users, those of the days before are asked as well
    days = f"{held.days} days" if held.days > 1 else str(day)
    text = f"{count(held.users)} users of {days}, whose events of the day no version is trained on."
    return EvaluatedSet("held out", "held-out users", text, lists)


def on_the_next_day(metrics: DayMetrics, day: date, serves: str | None) -> EvaluatedSet:
    """A version on all users of the next day that was run, before anything was trained on it.

    Args:
      metrics: what was measured on the next day.
      day: the next day.
      serves: what the gate lets the version serve.
    """
    text = f"{_asked(metrics, day)}, before that day was trained on."
    lists = [*_progressive(metrics, serves), *baselines(metrics.baselines)]
    return EvaluatedSet("next day", "the next day", text, lists)


def is_first(metrics: DayMetrics) -> bool:
    """Whether the day's version has none before it."""
    return metrics.holdout.candidate is not None and metrics.holdout.baseline is None


def served_on_its_day(metrics: DayMetrics, serves_before: str | None) -> str | None:
    """What served on a version's day, for `served_kind`. Of a first version it is what would have:
    its fixed order.

    Args:
      metrics: what was measured on the day.
      serves_before: what the gate let the version before serve.
    """
    return FIXED_ORDER if is_first(metrics) else serves_before


def served_kind(measured: Mapping[str, Measures | None], serves: str | None) -> str | None:
    """Which of a version's lists are served; None where that is not known.

    Args:
      measured: of its lists, by kind.
      serves: what the gate's verdict says; None where it is gone with its version.
    """
    if serves:
        return serves
    if measured.get(RANKED) and serves is None:
        # The verdict is gone with its version: either may have served
        return None
    return FIXED_ORDER if measured.get(FIXED_ORDER) else TWO_TOWER


def _asked(metrics: DayMetrics, day: date) -> str:
    users = "All users"
    if metrics.progressive and metrics.progressive.users is not None:
        users = f"All {count(metrics.progressive.users)} measured users"
    return f"{users} of {day} with a past"


def _progressive(metrics: DayMetrics, serves: str | None) -> list[MeasuredLists]:
    ranked = metrics.ranked_progressive
    return _of_version(metrics.progressive, metrics.fixed_order.progressive, ranked, serves)


def _of_version(
    two_tower: Measures | None,
    fixed_order: Measures | None,
    ranked: Measures | None,
    serves: str | None,
) -> list[MeasuredLists]:
    """A version's lists as far as they were measured: those that are served, then the others, the
    two-tower's at the end.
    """
    if two_tower is None:
        return []
    measured = {RANKED: ranked, FIXED_ORDER: fixed_order, TWO_TOWER: two_tower}
    served = served_kind(measured, serves)
    lists = []
    for kind in sorted(measured, key=lambda kind: kind != served):
        if measures := measured[kind]:
            name = list_name(kind)
            label = f"served: {name}" if kind == served else name
            lists.append(MeasuredLists(kind, label, measures, served=kind == served))
    return lists


_KINDS = {
    "repeats": "logs whose users take what they had before",
    "steady": "logs whose users take what is popular all the time",
    "neither": "logs whose users take what is new to them",
}


def describe_order(kind: str, weights: Mapping[str, float]) -> str:
    """What a version's fixed order is for, in words.

    Args:
      kind: of log.
      weights: by source.
    """
    largest_first = sorted(weights.items(), key=lambda one: -one[1])
    named = [f"{list_name(name)} {weight:.2f}" for name, weight in largest_first if weight >= 0.005]
    return f"for {_KINDS.get(kind, 'other logs')}: {', '.join(named)}"


def describe_ranker(fitted: RankerFit, serves: str | None) -> str:
    """What a ranker was fitted on, and whether it serves, in words.

    Args:
      fitted: what its file says.
      serves: what the gate's verdict says, `ranked` or another answer.
    """
    days = f"{fitted.days[0]} to {fitted.days[-1]}" if len(fitted.days) > 1 else fitted.days[0]
    on = f"fitted on the lists of {count(fitted.queries)} users, {days}"
    if serves == RANKED:
        return f"serves; {on}"
    return f"does not serve, which the gate's notes explain; {on}"
