"""Measures of lists as metrics.json holds them, and comparisons of two sets of lists.

model/evaluation/evaluate.py computes them. A measure has a name: `recall@50` for all users,
`recall@50/users:1-4` for a slice of users, `recall@50/items:0` for the true items of a slice
(twinspire_core/metrics/measure_names.py).
"""

from collections.abc import Mapping
from typing import ClassVar

from twinspire_core.contracts.json_files import JsonPart
from twinspire_core.metrics.measure_names import EXCLUDED, ITEMS, KEPT, USERS, split_name


class NamedValues(JsonPart):
    """Values by name, in addition to the fields. Their names depend on `evaluation.ks`."""

    @property
    def values(self) -> dict[str, float]:
        """The values, by name."""
        # Keys without a field here.
        keys = self.__pydantic_extra__ or {}
        return {name: x for name, x in keys.items() if isinstance(x, int | float)}

    def value(self, name: str) -> float | None:
        """A value; None where it was not measured."""
        return self.values.get(name)


class SliceMeasures(NamedValues):
    """Measures of a slice.

    Attributes:
      users: number that the measures are averaged over.
      queries: for a slice of users, their queries.
      true: for a slice of items, how many taken items it has.
    """

    users: int = 0
    queries: int | None = None
    true: int | None = None


class Slices(JsonPart):
    """Measures by number of earlier events, for users and for true items.

    Attributes:
      users: by name of the slice: `0`, `1-4`, …
      items: likewise; `outside` has the items that are not in the corpus.
    """

    users: Mapping[str, SliceMeasures] = {}
    items: Mapping[str, SliceMeasures] = {}

    def on_side(self, side: str) -> Mapping[str, SliceMeasures]:
        """The slices of a side, `users` or `items`."""
        return {USERS: self.users, ITEMS: self.items}[side]


class Measures(NamedValues):
    """Measures of one set of lists for one set of queries.

    Attributes:
      answered: number of queries with a list, for files that `twinspire evaluate` scored.
      seen: whether items that a user had before are `kept` in the lists or `excluded`.
      users: number that the measures are averaged over.
      queries: number of queries.
      days: number of distinct days of the queries.
      items: size of the corpus.
      slices: None if slices were not measured.
      intervals: ends of the 95% interval by measure.
      excluded: measures of lists without items that the user had before, if the main lists have such items;
        None if the lists would be the same, or were not made.
      kept: measures of lists with such items, if the main lists leave them out (`serving.exclude_seen`).
    """

    BEHIND: ClassVar[tuple[str, ...]] = ("slices", "intervals", EXCLUDED, KEPT)

    answered: int | None = None
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
        """The kind of the measured lists, `KEPT` or `EXCLUDED`."""
        return self.seen or KEPT

    @property
    def other(self) -> "Measures | None":
        """The measures of the other kind of lists."""
        return self.kept if self.kind == EXCLUDED else self.excluded

    def value(self, name: str) -> float | None:
        """A measure, also of a slice; None if it was not measured."""
        measure, side, slice_name = split_name(name)
        if not side:
            return super().value(measure)
        of_slice = self.slice(side, slice_name)
        return of_slice.value(measure) if of_slice else None

    def slice(self, side: str, name: str) -> SliceMeasures | None:
        """The measures of a slice; None where it was not measured."""
        return self.slices.on_side(side).get(name) if self.slices else None

    def users_of_slice(self, name: str) -> int:
        """Number of users of the slice in a measure's name; 0 without a slice, or if it was not measured."""
        _, side, slice_name = split_name(name)
        of_slice = self.slice(side, slice_name) if side else None
        return of_slice.users if of_slice else 0


def value_of(measures: Measures | None, name: str) -> float | None:
    """A measure of lists; None if it was not measured."""
    return measures.value(name) if measures else None


def interval_of(measures: Measures | None, measure: str) -> tuple[float, float] | None:
    """The ends of a measure's interval; None where there is none."""
    return measures.intervals.get(measure) if measures else None


class PairedDifference(JsonPart):
    """A measure of one set of lists minus the same measure of another, user by user.

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
    """Paired differences for users of one day, to pool several days. They identify no user.

    Attributes:
      users: number of users.
      by_measure: by the name of the measure, such as `recall@50`.
    """

    users: int = 0
    by_measure: Mapping[str, PairedDifference] = {}


class RelativeChange(JsonPart):
    """How a measure of one set of lists differs from that of another, for the same queries.

    Attributes:
      change: relative, -0.1 for a tenth less.
      differ: users whose two lists differ in the measure.
      worse: number of these users whose list in the first set is worse.
      low, high: the paired 95% interval of the change; None where nothing was resampled.
    """

    change: float | None = None
    differ: int = 0
    worse: int = 0
    low: float | None = None
    high: float | None = None
