"""Lists that were measured beside one another; twinspire_core/display/quality_tables.py shows them.

The report, the command line and the demo show the same lists of a version: its own, those of the
version before, and those that need no model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from twinspire_core.config.source_names import EXPLORATION, MIX, RANKED, TITLES, TWO_TOWER
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.contracts.measures import Measures
from twinspire_core.display.figures import count
from twinspire_core.display.table import Style
from twinspire_core.metrics.measure_names import EXCLUDED

PARENT = "parent"
"""The lists of the version before. Other kinds are `mix` and the names of sources."""

_NAMES = {
    **TITLES,
    MIX: "mix",
    RANKED: "ranker",
    EXPLORATION: "exploration",
    "popular": "most popular",
    "als": "ALS",
    "uncorrected": "two-tower, correction taken out",
}


@dataclass(frozen=True, slots=True)
class MeasuredLists:
    """Lists of one make, measured.

    Attributes:
      kind: `two_tower`, `mix`, `ranked`, `parent`, or the name of what made them without a model.
      label: what they are called beside the others.
      measures: of them.
    """

    kind: str
    label: str
    measures: Measures

    @property
    def row_style(self) -> Style | None:
        """The style of their row in a table of several lists."""
        # The two-tower is what the page or the command is about; the others are to hold it against
        return Style.STRONG if self.kind == TWO_TOWER else None


@dataclass(frozen=True, slots=True)
class EvaluatedSet:
    """Lists that were measured on the same queries.

    Attributes:
      name: what the queries are called, short enough for a column.
      title: what they are called in a sentence.
      text: who was asked.
      lists: the two-tower's first.
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
      'taken together'
    """
    return _NAMES.get(kind, kind.replace("_", " "))


def baselines(measured: Mapping[str, Measures]) -> list[MeasuredLists]:
    """The lists that need no model."""
    return [MeasuredLists(kind, list_name(kind), measures) for kind, measures in measured.items()]


def on_the_day(metrics: DayMetrics, day: date) -> EvaluatedSet:
    """The version before on all users of the day, before anything was trained on it; of a first
    version, itself before it was trained on the day.
    """
    lists = []
    if metrics.progressive:
        label = "the version before"
        if metrics.holdout.candidate and not metrics.holdout.baseline:
            label = "trained up to the day"
        lists.append(MeasuredLists(TWO_TOWER, label, metrics.progressive))
        lists += _fused(metrics.mix.progressive, metrics.ranked_progressive)
    lists += baselines(metrics.baselines)
    text = (
        f"All users of {day} with a past, asked as the day began, of lists that never saw the day."
    )
    return EvaluatedSet("day", "the day", text, lists)


def held_out(metrics: DayMetrics, day: date) -> EvaluatedSet:
    """A version and the one before on users that neither was trained on."""
    held = metrics.holdout
    lists = []
    if held.candidate:
        lists.append(MeasuredLists(TWO_TOWER, "this version", held.candidate))
    lists += _fused(metrics.comparable_fusion)
    if held.baseline:
        lists.append(MeasuredLists(PARENT, "the version before", held.baseline))
    lists += baselines(held.baselines)
    # Where a day holds out too few users, those of the days before are asked as well
    days = f"{held.days} days" if held.days > 1 else str(day)
    text = f"{count(held.users)} users of {days}, whose events of the day no version is trained on."
    return EvaluatedSet("held out", "held-out users", text, lists)


def on_the_next_day(
    version: Measures,
    fused: Measures | None,
    ranked: Measures | None,
    others: Mapping[str, Measures],
    day: date,
) -> EvaluatedSet:
    """A version on all users of the next day that was run, before anything was trained on it.

    Args:
      version: measures of its two-tower.
      fused: of its mix of sources.
      ranked: of its ranker.
      others: of the lists that need no model, by name.
      day: the next day.
    """
    own = [MeasuredLists(TWO_TOWER, "this version", version), *_fused(fused, ranked)]
    lists = [*own, *baselines(others)]
    users = "All users"
    if version.users is not None:
        users = f"{count(version.users)} users"
    text = f"{users} of {day} with a past, before that day was trained on."
    return EvaluatedSet("next day", "the next day", text, lists)


def _fused(fused: Measures | None, ranked: Measures | None = None) -> list[MeasuredLists]:
    """What is made of all sources together, as far as it was measured."""
    made = [(MIX, "its mix of sources", fused), (RANKED, "its ranker", ranked)]
    return [MeasuredLists(kind, label, measures) for kind, label, measures in made if measures]
