"""What lists were measured on, out of metrics.json."""

from collections.abc import Mapping
from typing import NamedTuple

from index_builder.report.facts import Facts
from index_builder.report.report_blocks import called, count
from twinspire_core.contracts.measures import Measures


class MeasuredLists(NamedTuple):
    """Lists of one make, measured.

    Attributes:
      colour: name of a colour of charts.py.
      label: what they are called.
      measures: of them.
    """

    colour: str
    label: str
    measures: Measures


class EvaluatedSet(NamedTuple):
    """Lists that were measured on the same queries.

    Attributes:
      title: what the queries are called.
      text: who was asked.
      lists: the two-tower's first.
    """

    title: str
    text: str
    lists: list[MeasuredLists]

    @property
    def of_model(self) -> bool:
        """Whether the two-tower is among the lists."""
        return any(one.colour == "two_tower" for one in self.lists)


def on_the_day(facts: Facts) -> EvaluatedSet:
    """The parent on all users of the day, before anything was trained on it."""
    metrics = facts.metrics
    lists = []
    if metrics.progressive:
        label = "two-tower of the day before"
        lists.append(MeasuredLists("two_tower", label, metrics.progressive))
        if metrics.mix.progressive:
            lists.append(MeasuredLists("mix", "its mix of sources", metrics.mix.progressive))
    text = (
        f"All users of {facts.manifest.date} with a past, asked as the day began, of lists that"
        " never saw the day."
    )
    return EvaluatedSet("the day", text, lists + baselines(metrics.baselines))


def held_out(facts: Facts) -> EvaluatedSet:
    """This version and its parent on users that no version was trained on."""
    held = facts.metrics.holdout
    lists = []
    if held.candidate:
        lists.append(MeasuredLists("two_tower", "this version", held.candidate))
    if fused := facts.metrics.comparable_fusion:
        lists.append(MeasuredLists("mix", "its mix of sources", fused))
    if held.baseline:
        lists.append(MeasuredLists("parent", "the version before", held.baseline))
    days = f"of {held.days} days" if held.days > 1 else f"of {facts.manifest.date}"
    text = f"{count(held.users)} users {days}, whose events of the day no version is trained on."
    return EvaluatedSet("held-out users", text, lists + baselines(held.baselines))


def baselines(lists: Mapping[str, Measures]) -> list[MeasuredLists]:
    """The lists that need no model."""
    return [MeasuredLists(name, called(name), measures) for name, measures in lists.items()]
