"""What lists were measured on, out of metrics.json."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from index_builder.report.facts import Facts
from index_builder.report.report_blocks import LISTS, count
from twinspire_core.contracts import model_bundle

Measures = Mapping[str, Any]


class Listed(NamedTuple):
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
    lists: list[Listed]

    @property
    def of_model(self) -> bool:
        """Whether the two-tower is among the lists."""
        return any(one.colour == "two_tower" for one in self.lists)


def on_the_day(facts: Facts) -> EvaluatedSet:
    """The parent on all users of the day, before anything was trained on it."""
    asked = facts.metrics.get(model_bundle.PROGRESSIVE)
    own = [Listed("two_tower", "two-tower of the day before", asked)] if asked else []
    if asked and (mix := mixed(facts.metrics).get(model_bundle.PROGRESSIVE)):
        own.append(Listed("mix", "its mix of sources", mix))
    text = (
        f"All users of {facts.manifest.date} with a past, asked as the day began, of lists that"
        " never saw the day."
    )
    return EvaluatedSet("the day", text, own + baselines(facts.metrics.get(model_bundle.BASELINES)))


def held_out(facts: Facts) -> EvaluatedSet:
    """This version and its parent on users that no version was trained on."""
    held = facts.metrics.get(model_bundle.HOLDOUT) or {}
    named = (
        ("two_tower", "this version", "candidate"),
        ("parent", "the version before", "baseline"),
    )
    own = [Listed(colour, label, held[key]) for colour, label, key in named if held.get(key)]
    mix = mixed(facts.metrics).get(model_bundle.HOLDOUT) or {}
    # Of users of several days it is not measured
    if mix.get("candidate") and mix["users"] == held.get("users"):
        own.insert(1, Listed("mix", "its mix of sources", mix["candidate"]))
    days = f"of {held['days']} days" if held.get("days", 1) > 1 else f"of {facts.manifest.date}"
    text = (
        f"{count(held.get('users'))} users {days}, whose events of the day no version is"
        " trained on."
    )
    return EvaluatedSet("held-out users", text, own + baselines(held.get("baselines")))


def baselines(lists: Mapping[str, Measures] | None) -> list[Listed]:
    """The lists that need no model."""
    return [
        Listed(name, called(name), measures) for name, measures in (lists or {}).items() if measures
    ]


def mixed(metrics: Measures) -> Measures:
    """What was measured of the mix of sources, as twinspire_core/contracts/model_bundle.py says."""
    return metrics.get(model_bundle.MIX) or {}


def called(name: str) -> str:
    """What people are told that a list is."""
    return LISTS.get(name, name.replace("_", " "))


def change_of(facts: Facts) -> Mapping[str, float]:
    """How the gate's measure differs from the version before: `change`, and perhaps `low` and
    `high`.
    """
    return ((facts.metrics.get(model_bundle.HOLDOUT) or {}).get("change") or {}).get(
        facts.metric
    ) or {}
