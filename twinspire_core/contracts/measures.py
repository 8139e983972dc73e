"""Measures of lists, as metrics.json holds them; model/evaluation/evaluate.py says how they are
taken.

A measure is asked for by its name: `recall@50` of all users, `recall@50/users:1-4` of a slice of
users, `recall@50/items:0` of the true items of a slice (twinspire_core/metrics/measure_names.py).
"""

from collections.abc import Mapping
from typing import ClassVar

from twinspire_core.contracts.json_files import JsonPart
from twinspire_core.metrics.measure_names import EXCLUDED, ITEMS, KEPT, USERS, split_name


class NamedValues(JsonPart):
    """Values by name, which lie beside the fields: which there are depends on `evaluation.ks`."""

    @property
    def values(self) -> dict[str, float]:
        """The values, by name."""
        beside = self.__pydantic_extra__ or {}
        return {name: x for name, x in beside.items() if isinstance(x, int | float)}

    def value(self, name: str) -> float | None:
        """A value; None where it was not measured."""
        return self.values.get(name)


class SliceMeasures(NamedValues):
    """Measures of a slice.

    Attributes:
      users: whom they are averaged over; 0 where nobody was asked.
      queries: of a slice of users, how many were asked.
      true: of a slice of items, how many of them were taken.
    """

    users: int = 0
    queries: int | None = None
    true: int | None = None


class Slices(JsonPart):
    """Measures of users, and of true items, told apart by their earlier events.

    Attributes:
      users: by name of the slice: `0`, `1-4`, …
      items: likewise; `outside` counts those that are not in the corpus.
    """

    users: Mapping[str, SliceMeasures] = {}
    items: Mapping[str, SliceMeasures] = {}

    def on_side(self, side: str) -> Mapping[str, SliceMeasures]:
        """The slices of a side, `users` or `items`."""
        return {USERS: self.users, ITEMS: self.items}[side]


class Measures(NamedValues):
    """Measures of one set of lists for one set of queries.

    Attributes:
      answered: of lists that `evaluate` scored, queries that have a list.
      left_out: of filtered lists, queries without a true item that passes.
      seen: whether items that a user had before are `kept` in the lists or `excluded`.
      users: whom the measures are averaged over.
      queries: how many were asked.
      days: that the queries are of.
      items: size of the corpus.
      slices: None where users and items were not told apart.
      intervals: ends of what 95% of the resamples lie between, by measure.
      excluded: the same of lists without items that the user had before, where they are not those
        that count; None where those would be the same lists, or were not made.
      kept: the same of lists with them, where those without count (`serving.exclude_seen`).
    """

    BEHIND: ClassVar[tuple[str, ...]] = ("slices", "intervals", EXCLUDED, KEPT)

    answered: int | None = None
    left_out: int | None = None
    seen: str | None = None
    users: int | None = None
    queries: int | None = None
    days: int | None = None
    items: int | None = None
    slices: Slices | None = None
    intervals: Mapping[str, tuple[float, float]] = {}
    excluded: "Measures | None" = None
    kept: "Measures | None" = None

    @property
    def kind(self) -> str:
        """The kind of lists that these are the measures of, `KEPT` or `EXCLUDED`."""
        return self.seen or KEPT

    @property
    def other(self) -> "Measures | None":
        """The measures of the kind of lists that does not count."""
        return self.kept if self.kind == EXCLUDED else self.excluded

    def value(self, name: str) -> float | None:
        """A measure, also of a slice; None where it was not taken."""
        measure, side, slice_name = split_name(name)
        if not side:
            return super().value(measure)
        found = self.slice(side, slice_name)
        return found.value(measure) if found else None

    def slice(self, side: str, name: str) -> SliceMeasures | None:
        """The measures of a slice; None where users and items were not told apart by it."""
        return self.slices.on_side(side).get(name) if self.slices else None

    def users_of_slice(self, name: str) -> int:
        """Users of the slice that a measure is of; 0 where it was not taken, or is of no slice."""
        _, side, slice_name = split_name(name)
        found = self.slice(side, slice_name) if side else None
        return found.users if found else 0


def value_of(measures: Measures | None, name: str) -> float | None:
    """A measure of lists that may not have been measured; None where it was not taken."""
    return measures.value(name) if measures else None


def interval_of(measures: Measures | None, measure: str) -> tuple[float, float] | None:
    """The ends of a measure's interval; None where there is none."""
    return measures.intervals.get(measure) if measures else None


class PairedDifference(JsonPart):
    """A measure of one set of lists minus the same of another, user by user.

    Attributes:
      mean: of the differences.
      base: the mean of the other set's measure.
      deviation: standard deviation of the differences over the users.
      differ: users whose two lists differ in the measure.
    """

    mean: float
    base: float
    deviation: float
    differ: int


class PairedDifferences(JsonPart):
    """Such differences for some users of one day: all that pooling days needs, and nothing that
    tells who they were.

    Attributes:
      users: who were asked.
      by_measure: of all these users, such as `recall@50`.
    """

    users: int = 0
    by_measure: Mapping[str, PairedDifference] = {}
