"""`metrics.json` of a train attempt and of a version: what was measured on its day.

The candidate is the day's version; the baseline is its parent. Lists that need no model are
`popular_lately`, `most_popular` and others of twinspire_core/config/source_names.py.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import ClassVar

from twinspire_core.contracts.fusion_file import FittedOn
from twinspire_core.contracts.json_files import JsonFile, JsonPart
from twinspire_core.contracts.measured_day import MeasuredDay
from twinspire_core.contracts.measures import Measures
from twinspire_core.contracts.paired_differences import PairedDifferences
from twinspire_core.contracts.ranker_measures import RankerMeasures
from twinspire_core.contracts.training_figures import (
    AuxiliaryFigures,
    FrequencyFigures,
    TrainingFigures,
)
from twinspire_core.metrics.measure_names import KEPT


class RelativeChange(JsonPart):
    """How a measure of one set of lists differs from that of another, for the same queries.

    Attributes:
      change: relative, -.1 for a tenth less.
      differ: users whose two lists differ in the measure.
      low, high: the paired 95% interval of the change; None where nothing was resampled.
    """

    change: float | None = None
    differ: int = 0
    low: float | None = None
    high: float | None = None


class PopularityLift(JsonPart):
    """A measure of a version over that of `popular_today` (model/evaluation/popularity_lift.py).

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
    """The best accepted version before the day (twinspire/runs/best_version.py) on the users of
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


class FusionMeasures(JsonPart):
    """Fused lists.

    Attributes:
      progressive: of the parent's weights, on the day; None where it has none.
      holdout: of this version's weights and the parent's, on users held out of the day itself. No
        candidate where the weights were fitted on these very users.
      exchanged: what is served, for the same users, where only one of the two has a mix: that mix
        beside the other's two-tower alone.
      served: how what this version serves differs from what the parent does, user by user.
      beside_sources: by source, how the lists of `progressive` differ from those of that source
        alone.
      own_beside_sources: the same of this version's weights, on users held out of the day itself.
      beside_simple: by simple list, how the parent's lists differ from it on all users of the day:
        those of its mix, without one those of its two-tower.
      own_beside_simple: the same of this version, on users held out of the day itself.
      fitted: what this version's weights were fitted on; None where it has none.
      keeps_weights: whether they are its parent's, as after a gap, or as long as prior ones serve.
    """

    progressive: Measures | None = None
    holdout: HeldOutMeasures = HeldOutMeasures()
    exchanged: HeldOutMeasures | None = None
    served: PairedDifferences | None = None
    beside_sources: Mapping[str, PairedDifferences] = {}
    own_beside_sources: Mapping[str, PairedDifferences] = {}
    beside_simple: Mapping[str, PairedDifferences] = {}
    own_beside_simple: Mapping[str, PairedDifferences] = {}
    fitted: FittedOn | None = None
    keeps_weights: bool = False

    @property
    def is_lost(self) -> bool:
        """Whether the parent serves a mix, and this version its two-tower alone."""
        return self.exchanged is not None and self.fitted is None


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
      mix: fused lists.
      ranker: lists by rankers; None without `ranking.enabled`.
      parent_unread: features that the parent reads and the day has not, or has in another form:
        they are missing for it in all that is measured of it
        (model/evaluation/version_evaluation.py).
      held_out_shares: by day that this version's line was trained on, the share of its users that
        was held out (model/evaluation/queries.py).
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
    mix: FusionMeasures = FusionMeasures()
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
    def comparable_fusion(self) -> Measures | None:
        """The fused lists of this version for the users that `holdout` asked; None where they were
        asked of fewer, as those of earlier days are not.
        """
        fused = self.mix.holdout
        return fused.candidate if fused.users == self.holdout.users else None
