"""`gate.json` of a version: the gate's verdict, and the figures that it is based on."""

from collections.abc import Mapping
from typing import ClassVar

from twinspire_core.contracts.json_files import JsonFile, JsonPart


class ComparedFigures(JsonPart):
    """A measure of a version and of its baseline; None if not measured.

    Attributes:
      users: number of users with this measure.
      candidate: the version's measure.
      baseline: the baseline's measure.
      change: relative, -0.1 for a tenth less.
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


class PooledFigures(ComparedFigures):
    """The gate's measure pooled over several days, each day's version against its baseline."""

    days: int


class RecipeFigures(JsonPart):
    """The quality of rankers in general: over several days, the earlier version's ranker on all users of each
    day, compared with the best of the other lists. Each day counts once.

    Attributes:
      days: number of days.
      beside: the list to compare with: `fixed_order`, or a single source.
      trees: the ranker's mean measure.
      other: mean measure of the list to compare with.
      mean: of the days' differences.
      low, high: the mean's 99% interval.
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
        """Whether the ranker is surely worse."""
        return self.high < 0

    def why_not(self, metric: str) -> str:
        """The reason why the ranker does not serve, in words."""
        return (
            f"the fixed order serves in place of the ranker: over {self.days} days, {metric} of the ranker is"
            f" {self.trees:.4f}, of {self.beside} {self.other:.4f} (difference {self.mean:+.4f}, 99%"
            f" interval {self.low:+.4f} to {self.high:+.4f})"
        )


class BestFigures(ComparedFigures):
    """The version compared with the best accepted version before it, which is the baseline here.

    Attributes:
      version: the best version's id.
      ahead: the running sum of the line's differences at the best version, minus that at the newest accepted
        one.
      pooled: all versions since, against it; None on the first day after it.
    """

    version: str
    ahead: float = 0.0
    pooled: PooledFigures | None = None


class GateFigures(ComparedFigures):
    """The comparisons of the gate.

    Attributes:
      metric: the measure that was compared.
      slices: the comparison for slices of users, by names such as `users:0`.
      best: None where the best accepted version is the baseline, or is not known.
      pooled: None where the day had enough users.
      trees: this version's ranker against that of the version before; None without a ranker.
      recipe: None before there are enough days.
      index_recall: share of the exact neighbours that the index finds.
      items: size of the corpus.
    """

    metric: str | None = None
    slices: Mapping[str, ComparedFigures] = {}
    best: BestFigures | None = None
    pooled: PooledFigures | None = None
    trees: ComparedFigures | None = None
    recipe: RecipeFigures | None = None
    index_recall: float | None = None
    items: int | None = None


class GateVerdict(JsonFile):
    """The file.

    Attributes:
      accepted: None where there is no verdict.
      refused: reasons with their numbers; empty for an accepted version.
      notes: what could not be judged, and why.
      serves: the default source of answers, `ranked` or `fixed_order`; None where there is no
        verdict.
    """

    FILE: ClassVar[str] = "gate.json"

    accepted: bool | None = None
    refused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    figures: GateFigures = GateFigures()
    serves: str | None = None

    @property
    def why_not_trees(self) -> str:
        """Why the fixed order serves instead of the version's ranker; empty where it does not."""
        recipe, metric = self.figures.recipe, self.figures.metric
        return recipe.why_not(metric) if recipe and metric and recipe.is_below else ""

    @property
    def reason(self) -> str:
        """The verdict in one line, for the log."""
        return "; ".join(self.refused) or "; ".join(("accepted", *self.notes))
