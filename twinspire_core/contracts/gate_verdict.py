"""`gate.json` of a version: what the gate said of it, and by which figures."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from twinspire_core.contracts.json_files import JsonFile, JsonPart
from twinspire_core.contracts.measures import PopularityLift


class ComparedFigures(JsonPart):
    """A measure of a version and of its baseline; None where something was not measured.

    Attributes:
      users: whom it applies to.
      candidate: of the version.
      baseline: of its baseline.
      change: relative, -.1 for a tenth less.
      low, high: the paired 95% interval of the change.
      differ: users whose two lists differ in the measure.
    """

    users: int | None = None
    candidate: float | None = None
    baseline: float | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    differ: int | None = None


class LiftFigures(PopularityLift):
    """How far a version is ahead of what was popular on the day
    (index_builder/gate/tower_rules.py).

    Attributes:
      before: leads of the versions before, the oldest first.
    """

    before: Sequence[float] = ()


class PooledFigures(ComparedFigures):
    """The gate's measure of several days together, each day's version against the one that it was
    compared with.

    Attributes:
      days: how many.
    """

    days: int


class RecipeFigures(JsonPart):
    """How trees were made, over several days: those of the version before, on all users of each day,
    beside the list that found most of the others. A day is the unit.

    Attributes:
      days: how many.
      beside: that list: `fixed_order`, or a source alone.
      trees: mean of the measure.
      other: of that list.
      mean: of the days' differences.
      low, high: its 99% interval.
    """

    days: int
    beside: str
    trees: float
    other: float
    mean: float
    low: float
    high: float

    @property
    def is_below(self) -> bool:
        """Whether the trees surely found less."""
        return self.high < 0

    def why_not(self, metric: str) -> str:
        """Why the trees do not serve, in words."""
        return (
            f"the fixed order serves in place of the trees: over {self.days} days these found"
            f" {metric} of {self.trees:.4f}, {self.beside} {self.other:.4f} (a difference of"
            f" {self.mean:+.4f}, 99%: {self.low:+.4f} to {self.high:+.4f})"
        )


class BestFigures(ComparedFigures):
    """The version beside the best accepted one before it, which is called its baseline here.

    Attributes:
      version: the best one's id.
      ahead: by how much the line of accepted versions stood higher at it than at the newest of
        them, in the measure.
      pooled: the line's versions since against it; None where it is the first day of that.
    """

    version: str
    ahead: float = 0.0
    pooled: PooledFigures | None = None


class GateFigures(ComparedFigures):
    """What the gate compared: of the two-tower, and of all else.

    Attributes:
      metric: the measure that was compared.
      slices: the same of slices of users, by name as `users:0`.
      lead: None where too few users of the day itself were asked.
      best: beside the best accepted version; None where that is the baseline, or is not known.
      pooled: of several days; None where the day had users enough.
      trees: this version's trees beside those of the version before; None without trees.
      recipe: how trees were made; None before there are enough days.
      index_recall: share of the exact neighbours that the index finds.
      items: size of the corpus.
    """

    metric: str | None = None
    slices: Mapping[str, ComparedFigures] = {}
    lead: LiftFigures | None = None
    best: BestFigures | None = None
    pooled: PooledFigures | None = None
    trees: ComparedFigures | None = None
    recipe: RecipeFigures | None = None
    index_recall: float | None = None
    items: int | None = None


class GateVerdict(JsonFile):
    """The file.

    Attributes:
      accepted: whether nothing speaks against the version; None where there is no verdict.
      refused: reasons with their numbers; none of an accepted version.
      notes: what could not be judged, and why.
      figures: what was compared.
      serves: what answers where a request does not say: `ranked` or `fixed_order`; None where there
        is no verdict.
    """

    FILE: ClassVar[str] = "gate.json"

    accepted: bool | None = None
    refused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    figures: GateFigures = GateFigures()
    serves: str | None = None

    @property
    def why_not_trees(self) -> str:
        """Why the fixed order serves in place of the version's trees; empty where it does not."""
        recipe, metric = self.figures.recipe, self.figures.metric
        return recipe.why_not(metric) if recipe and metric and recipe.is_below else ""

    @property
    def reason(self) -> str:
        """All of it in a line, for the log."""
        return "; ".join(self.refused) or "; ".join(("accepted", *self.notes))
