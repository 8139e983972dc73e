"""`metrics.json` of a measure attempt and of a version: what was measured on its day.

The candidate is the day's version; the baseline is its parent. Lists that need no model are
`popular_lately`, `most_popular` and others of twinspire_core/config/source_names.py.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import ClassVar

from twinspire_core.contracts.json_files import JsonFile, JsonPart
from twinspire_core.contracts.measures import Measures, NamedValues, PairedDifferences
from twinspire_core.contracts.ranker_file import RankerFit
from twinspire_core.metrics.measure_names import KEPT


class TrainingFigures(JsonPart):
    """What training did.

    Attributes:
      first_day, last_day: trained on, ISO dates.
      days: how many.
      rows: examples.
      steps: of this day.
      loss: [step, nats] along the day; a step counts on from the day before.
      warning: of training that was over too soon, or of a frequency estimate that is too small.
      tables: rows of each embedding table.
    """

    first_day: str | None = None
    last_day: str | None = None
    days: int = 1
    rows: int | None = None
    steps: int | None = None
    loss: Sequence[tuple[int, float]] = ()
    warning: str | None = None
    tables: Mapping[str, int] = {}


class LabelErrors(NamedValues):
    """How far predicted labels are from given ones, as model/towers/auxiliary_head.py says: `rmse` and
    `rmse_of_mean`.

    Attributes:
      labels: how many there were.
    """

    labels: int


class AuxiliaryFigures(JsonPart):
    """The head that learns labels.

    Attributes:
      labels: how many it was trained on.
      mean: of them.
      curve: [step, loss] along the day.
      progressive: the parent's head on the day; None without one, or without a label.
      holdout: this version's head on users held out; None without a label.
    """

    labels: int
    mean: float
    curve: Sequence[tuple[int, float]] = ()
    progressive: LabelErrors | None = None
    holdout: LabelErrors | None = None


class FrequencyFigures(JsonPart):
    """The streaming estimate of how often items are drawn, beside the day's true shares.

    Attributes:
      rows: trained on.
      items: among them.
      known: how often an item must be met for its true share to be known.
      factor: by how much the estimate is off, on average over such items' rows; None without any.
      pairs: [true share, estimated share] of some items, the most frequent first.
    """

    rows: int
    items: int
    known: int
    factor: float | None = None
    pairs: Sequence[tuple[float, float]] = ()


MEMORY_DAYS = 30
"""Days before a day of which a version remembers the versions of its line."""


class MeasuredDay(JsonPart):
    """What is remembered of a version of the line.

    Attributes:
      against: its baseline, the version that it was measured against.
      differences: by measure, the mean paired difference of the two that the gate looked at.
      two_tower: the two of them on held-out users of the day itself alone; None where these are so
        many that the day needs no other day.
      best: the best accepted version of then, where that was not the baseline.
      beside_best: the same of the version and that one.
      lists: by list, `ranked`, `fixed_order` or a source alone, its measures on all users of the day
        before the day was trained on; empty where the parent has no trees.
    """

    against: str
    differences: Mapping[str, float] = {}
    two_tower: PairedDifferences | None = None
    best: str | None = None
    beside_best: PairedDifferences | None = None
    lists: Mapping[str, Mapping[str, float]] = {}


class RelativeChange(JsonPart):
    """How a measure of one set of lists differs from that of another, for the same queries.

    Attributes:
      change: relative, -0.1 for a tenth less.
      differ: users whose two lists differ in the measure.
      worse: those of them whose first list is the worse one.
      low, high: the paired 95% interval of the change; None where nothing was resampled.
    """

    change: float | None = None
    differ: int = 0
    worse: int = 0
    low: float | None = None
    high: float | None = None


class PopularityLift(JsonPart):
    """A measure of a version over that of `popular_today` (model/evaluation/version_line.py).

    Attributes:
      lead: the ratio.
      low, high: its paired 95% interval; None where nothing was resampled.
      popular_today: the measure of that list.
      differ: users whose two lists differ in the measure.
    """

    lead: float | None = None
    low: float | None = None
    high: float | None = None
    popular_today: float | None = None
    differ: int = 0


class HeldOutMeasures(JsonPart):
    """A version beside its parent, on users whom neither was trained on.

    Attributes:
      users: how many were asked.
      days: that they are of.
      candidate: the version; None where nobody was asked.
      baseline: the newest accepted version before; None on the first day.
      change: how the former differs from the latter, by measure; None without the latter.
      baselines: lists that need no model, by name.
      lead: how far the version is ahead of what was popular on the day, by measure; None where too
        few users of the day itself were asked.
    """

    users: int = 0
    days: int = 1
    candidate: Measures | None = None
    baseline: Measures | None = None
    change: Mapping[str, RelativeChange] | None = None
    baselines: Mapping[str, Measures] = {}
    lead: Mapping[str, PopularityLift] | None = None

    def change_of(self, measure: str) -> RelativeChange:
        """How a measure differs from the baseline's, also of a slice; without figures where that
        was not measured.
        """
        return self.change.get(measure, RelativeChange()) if self.change else RelativeChange()

    def lift_of(self, measure: str) -> PopularityLift:
        """The lift of a measure; without figures where it was not measured."""
        return self.lead.get(measure, PopularityLift()) if self.lead else PopularityLift()


class BestMeasures(JsonPart):
    """The best accepted version before the day (index_builder/registry/parents.py) on the users of
    `holdout`.

    Attributes:
      version: its id; the baseline's, if none of the line stands higher.
      ahead: by how much the running sum of the line's differences stood higher at it than at the
        baseline, in the gate's measure.
      gone: versions that stand higher still, and whose files are no longer there.
      unread: features that are missing for it.
      measures: of its lists; None where it is the baseline.
      change: how this version's lists differ from its, by measure.
    """

    version: str
    ahead: float = 0.0
    gone: Sequence[str] = ()
    unread: Sequence[str] = ()
    measures: Measures | None = None
    change: Mapping[str, RelativeChange] | None = None


class NextClickMeasures(JsonPart):
    """The same of one query per event of the day, each with all that happened before it.

    Attributes:
      progressive: the parent on the day; None without one.
      baselines: lists that need no model, by name.
      holdout: on users held out.
    """

    progressive: Measures | None = None
    baselines: Mapping[str, Measures] = {}
    holdout: HeldOutMeasures = HeldOutMeasures()


class FixedOrderMeasures(JsonPart):
    """Lists in the fixed order.

    Attributes:
      progressive: the parent's, on the day; None without a parent.
      holdout: this version's, on users held out of the day itself.
      beside_simple: by simple list, how the parent's lists differ from it on all users of the day.
      own_beside_simple: the same of this version, on users held out of the day itself.
    """

    progressive: Measures | None = None
    holdout: HeldOutMeasures = HeldOutMeasures()
    beside_simple: Mapping[str, PairedDifferences] = {}
    own_beside_simple: Mapping[str, PairedDifferences] = {}


class RankerMeasures(JsonPart):
    """Lists by trees.

    Attributes:
      progressive: of the parent's trees, which were fitted on days before, on all users of the day;
        None where it has none.
      beside_simple: how these differ from each simple list, user by user, on all users alone and not
        by slice.
      holdout: this version's trees and the parent's, on users held out of the day itself: both order
        the parent's candidates by the parent's vectors, so that neither has seen the day.
      fitted: what this version's trees were fitted on; None where it has none.
    """

    progressive: Measures | None = None
    beside_simple: Mapping[str, PairedDifferences] = {}
    holdout: HeldOutMeasures = HeldOutMeasures()
    fitted: RankerFit | None = None


class PopularityFigures(JsonPart):
    """How popular listed and taken items are, by groups of items with equally many earlier events:
    the most popular first, those without an event last.

    Attributes:
      k: the first k of each list were counted.
      items: how many each group has.
      clicks: shares of the groups among the items taken.
      lists: shares among the items listed, by name of the lists.
    """

    k: int
    items: Sequence[int]
    clicks: Sequence[float]
    lists: Mapping[str, Sequence[float]]


class DayMetrics(JsonFile):
    """The file.

    Attributes:
      progressive: the parent on all users of the day who have a past, before anything was trained
        on it; None without a parent.
      baselines: lists that need no model, on the same queries, by name.
      holdout: this version and its parent on users held out of training.
      next_click: the same of one query per event.
      train: what training did.
      leads: lifts by day and measure, of this version and of those before it in its line.
      best: the best accepted version before; None without a parent, or where nothing is remembered.
      line: by day, what is remembered of this version and of those before it in its line.
      fixed_order: lists in the fixed order.
      ranker: lists by rankers; None without several sources.
      parent_unread: features that the parent reads and the day has not, or has in another form:
        they are missing for it in all that is measured of it
        (model/evaluation/tower_vectors.py).
      held_out_shares: by day that this version's line was trained on, the share of its users that
        was held out (model/evaluation/day_queries.py).
      gaps: `from`, `to` and `command`: days with logs between the parent and the day that nobody
        was trained on.
      auxiliary: None without a head that learns labels.
      popularity: how popular listed and taken items are.
      frequency: None without an estimate, or without rows.
    """

    FILE: ClassVar[str] = "metrics.json"

    progressive: Measures | None = None
    baselines: Mapping[str, Measures] = {}
    holdout: HeldOutMeasures = HeldOutMeasures()
    next_click: NextClickMeasures = NextClickMeasures()
    train: TrainingFigures = TrainingFigures()
    leads: Mapping[str, Mapping[str, float]] = {}
    best: BestMeasures | None = None
    line: Mapping[str, MeasuredDay] = {}
    fixed_order: FixedOrderMeasures = FixedOrderMeasures()
    ranker: RankerMeasures | None = None
    parent_unread: Sequence[str] = ()
    held_out_shares: Mapping[str, float] = {}
    gaps: Sequence[Mapping[str, str]] = ()
    auxiliary: AuxiliaryFigures | None = None
    popularity: PopularityFigures | None = None
    frequency: FrequencyFigures | None = None

    @property
    def counted_lists(self) -> str:
        """Which kind of lists counted as this was measured, `KEPT` or `EXCLUDED`."""
        measured = self.holdout.candidate or self.progressive
        return measured.kind if measured else KEPT

    def users_measured(self, day: date) -> int:
        """Users of the day itself on whom versions were measured.

        Args:
          day: the day of the file; held-out users may be of days before as well.
        """
        if self.progressive:
            return self.progressive.users or 0
        remembered = self.line.get(str(day))
        held_out = remembered.two_tower if remembered else None
        return held_out.users if held_out else self.holdout.users

    @property
    def ranked_progressive(self) -> Measures | None:
        """The lists of the parent's ranker on the day; None where it has none."""
        return self.ranker.progressive if self.ranker else None

    @property
    def comparable_fixed_order(self) -> Measures | None:
        """This version's fixed order for the users that `holdout` asked; None where it was asked of
        fewer, as those of earlier days are not.
        """
        own = self.fixed_order.holdout
        return own.candidate if own.users == self.holdout.users else None
