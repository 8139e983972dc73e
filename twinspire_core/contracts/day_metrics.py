"""The measures of a day.

`metrics.json` is in a measure attempt and in a version, `examples.json` in a measure attempt. The candidate
is the day's version; the baseline is its parent. Lists that need no model are `popular_lately`,
`most_popular` and others of twinspire_core/config/source_registry.py.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import ClassVar

from pydantic import TypeAdapter

from twinspire_core.contracts.json_files import JsonFile, JsonPart, to_json
from twinspire_core.contracts.measures import (
    Measures,
    NamedValues,
    PairedDifferences,
    RelativeChange,
    value_of,
)
from twinspire_core.metrics.measure_names import KEPT, OUTSIDE


class TrainingFigures(JsonPart):
    """Figures of training.

    Attributes:
      first_day, last_day: of the days trained on, ISO dates.
      days: number of these days.
      rows: number of examples.
      steps: of this day.
      loss: [step, nats] during the day; the count of steps continues from the day before.
      warning: about training that was too short.
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
    """How far predictions are from the labels: `rmse` and `rmse_of_mean`, as
    model/towers/auxiliary_head.py defines them.

    Attributes:
      labels: number of labels that were predicted.
    """

    labels: int


class AuxiliaryFigures(JsonPart):
    """The head that learns labels.

    Attributes:
      labels: number of labels that it was trained on.
      mean: of these labels.
      curve: [step, loss] along the day.
      progressive: the parent's head on the day; None without one, or without a label.
      holdout: this version's head on held-out users; None without a label.
    """

    labels: int
    mean: float
    curve: Sequence[tuple[int, float]] = ()
    progressive: LabelErrors | None = None
    holdout: LabelErrors | None = None


class FrequencyFigures(JsonPart):
    """The streaming estimate of how often items are drawn, compared with the day's true shares.

    Attributes:
      rows: number of rows trained on.
      items: number of items among them.
      known: how often an item must occur for its true share to be known.
      factor: by which the estimate is off, on average over such items' rows; None without any.
      pairs: [true share, estimated share] of some items, the most frequent first.
    """

    rows: int
    items: int
    known: int
    factor: float | None = None
    pairs: Sequence[tuple[float, float]] = ()


MEMORY_DAYS = 30
"""A version stores measures of the versions of its line from this many days back."""


class MeasuredDay(JsonPart):
    """Measures of a version that later versions of its line store.

    Attributes:
      against: its baseline, the version with which it was compared.
      differences: by measure, the mean paired difference from the baseline that the gate judged.
      two_tower: the paired differences on held-out users of the day itself; None if these users are so many
        that the day is never pooled.
      best: the best accepted version at that time; None if that was the baseline.
      beside_best: the paired differences of the version from the best one.
      lists: by list, `ranked`, `fixed_order` or a source alone, its measures on all users of the day
        before the day was trained on; empty where the parent has no trees.
    """

    against: str
    differences: Mapping[str, float] = {}
    two_tower: PairedDifferences | None = None
    best: str | None = None
    beside_best: PairedDifferences | None = None
    lists: Mapping[str, Mapping[str, float]] = {}


class HeldOutMeasures(JsonPart):
    """A version and its parent, on users that neither was trained on.

    Attributes:
      users: number of users.
      days: number of days that these users are from.
      candidate: the version; None without users.
      baseline: the newest accepted version before; None on the first day.
      change: from baseline to candidate, by measure; None without a baseline.
      baselines: lists that need no model, by name.
    """

    users: int = 0
    days: int = 1
    candidate: Measures | None = None
    baseline: Measures | None = None
    change: Mapping[str, RelativeChange] | None = None
    baselines: Mapping[str, Measures] = {}

    def change_of(self, measure: str) -> RelativeChange:
        """The change of a measure, also of a slice, from the baseline; without figures if it was not
        measured.
        """
        return (self.change or {}).get(measure, RelativeChange())


class BestMeasures(JsonPart):
    """The best accepted version before the day (index_builder/registry/parents.py) on the users of
    `holdout`.

    Attributes:
      version: its id; the baseline's, if no version of the line is better.
      ahead: the running sum of the line's differences at this version, minus that at the baseline, in the
        gate's measure.
      gone: still better versions whose files were deleted.
      unread: features that it reads and the day lacks.
      measures: of its lists; None if it is the baseline.
      change: from its lists to this version's, by measure.
    """

    version: str
    ahead: float = 0.0
    gone: Sequence[str] = ()
    unread: Sequence[str] = ()
    measures: Measures | None = None
    change: Mapping[str, RelativeChange] | None = None


class NextClickMeasures(JsonPart):
    """Measures of one query per event of the day, each with the user's events before it.

    Attributes:
      progressive: the parent on the day; None without one.
      baselines: lists that need no model, by name.
      holdout: on held-out users.
    """

    progressive: Measures | None = None
    baselines: Mapping[str, Measures] = {}
    holdout: HeldOutMeasures = HeldOutMeasures()


class FixedOrderMeasures(JsonPart):
    """Lists in the fixed order.

    Attributes:
      progressive: the parent's lists on the day; None without a parent.
      holdout: this version's lists, on held-out users of the day itself.
      beside_simple: by simple list, how the parent's lists differ from it on all users of the day.
      own_beside_simple: the same for this version, on held-out users of the day itself.
    """

    progressive: Measures | None = None
    holdout: HeldOutMeasures = HeldOutMeasures()
    beside_simple: Mapping[str, PairedDifferences] = {}
    own_beside_simple: Mapping[str, PairedDifferences] = {}


class RankerFit(JsonPart):
    """The data that a ranker was fitted on.

    Attributes:
      days: ISO dates, oldest first.
      queries: queries with at least one taken item among their candidates.
      rows: candidates of these queries; a query that is also asked by history alone has them twice.
      metric: the measure of lists, at the length that the trees are fitted for; the loss of the trees is
        nDCG.
      importance: by feature, its share of the loss that all splits removed.
    """

    days: Sequence[str] = ()
    queries: int = 0
    rows: int = 0
    metric: str | None = None
    importance: Mapping[str, float] = {}


class RankerMeasures(JsonPart):
    """Lists in the ranker's order.

    Attributes:
      progressive: of the parent's trees, which were fitted on days before, on all users of the day;
        None where it has none.
      beside_simple: how these lists differ from each simple list, user by user, on all users and not
        by slice.
      holdout: this version's trees and the parent's, on held-out users of the day itself: both order
        the parent's candidates by the parent's vectors, so that neither has seen the day.
      on_day: the same comparison on all users of the day, where few are held out. This version's
        trees were fitted on these users' choices, so only a loss means something.
      fitted: what this version's trees were fitted on; None where it has none.
    """

    progressive: Measures | None = None
    beside_simple: Mapping[str, PairedDifferences] = {}
    holdout: HeldOutMeasures = HeldOutMeasures()
    on_day: HeldOutMeasures = HeldOutMeasures()
    fitted: RankerFit | None = None


class PopularityFigures(JsonPart):
    """How popular listed and taken items are, by groups of items with equal numbers of earlier events. The
    most popular group is first; items without events are last.

    Attributes:
      k: the first k items of each list were counted.
      items: number of items in each group.
      clicks: each group's share of the taken items.
      lists: each group's share of the listed items, by name of the lists.
    """

    k: int
    items: Sequence[int]
    clicks: Sequence[float]
    lists: Mapping[str, Sequence[float]]


class DayMetrics(JsonFile):
    """`metrics.json`.

    Attributes:
      progressive: the parent on all users of the day who have a history, before anything was trained
        on the day; None without a parent.
      baselines: lists that need no model, on the same queries, by name.
      holdout: this version and its parent on users held out of training.
      next_click: measures of one query per event.
      best: the best accepted version before; None without a parent, or if no earlier measures are stored.
      line: by day, the stored measures of this version and of earlier versions of its line.
      ranker: None without several sources.
      parent_unread: features that the parent reads and the day lacks, or has in another form. They are
        missing in all measures of the parent (model/evaluation/ranked_lists.py).
      held_out_shares: by day that this version's line was trained on, the share of its users that
        was held out (model/evaluation/day_queries.py).
      gaps: `from`, `to` and `command` of days with logs between the parent and the day on which no version
        was trained.
      auxiliary: None without a head that learns labels.
      frequency: None without an estimate, or without rows.
    """

    FILE: ClassVar[str] = "metrics.json"

    progressive: Measures | None = None
    baselines: Mapping[str, Measures] = {}
    holdout: HeldOutMeasures = HeldOutMeasures()
    next_click: NextClickMeasures = NextClickMeasures()
    train: TrainingFigures = TrainingFigures()
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
        """The main kind of lists of these measures, `KEPT` or `EXCLUDED`."""
        measured = self.holdout.candidate or self.progressive
        return measured.kind if measured else KEPT

    def users_measured(self, day: date) -> int:
        """Number of measured users of the day itself; held-out users may also be from earlier days."""
        if self.progressive:
            return self.progressive.users or 0
        # Without a parent, all users were not measured.
        remembered = self.line.get(str(day))
        held_out = remembered.two_tower if remembered else None
        return held_out.users if held_out else self.holdout.users

    @property
    def share_in_corpus(self) -> float | None:
        """Of the items that users with a history took on the day, the share in the corpus as of its start;
        None if it was not measured.
        """
        slices = self.progressive.slices if self.progressive else None
        taken = {name: part.true or 0 for name, part in slices.items.items()} if slices else {}
        total = sum(taken.values())
        return 1 - taken.get(OUTSIDE, 0) / total if total else None

    def best_before_training(self, measure: str) -> float | None:
        """The measure of the best list for the day that was made before training on it, simple lists
        included; None if none was measured.
        """
        lists = (self.progressive, self.fixed_order.progressive, *self.baselines.values())
        values = [value for each in lists if (value := value_of(each, measure)) is not None]
        return max(values, default=None)

    @property
    def ranked_progressive(self) -> Measures | None:
        """The lists of the parent's ranker on the day; None where it has none."""
        return self.ranker.progressive if self.ranker else None

    @property
    def comparable_fixed_order(self) -> Measures | None:
        """This version's fixed order on the users of `holdout`; None if `holdout` has users of earlier days,
        on whom the fixed order is not measured.
        """
        of_day = self.fixed_order.holdout
        return of_day.candidate if of_day.users == self.holdout.users else None


class ExampleList(JsonPart):
    """An example for the report: the list of a held-out user, and the items that the user took.

    Attributes:
      user: the user's id.
      past_events: events in the longest window before the day.
      history: item ids, the newest first, or the most frequent first.
      items: the recommended items, best first.
      taken: the items taken on the day.
    """

    user: str
    past_events: int
    history: Sequence[str]
    items: Sequence[str]
    taken: Sequence[str]


EXAMPLES = "examples.json"
_EXAMPLE_LISTS = TypeAdapter(list[ExampleList])


def parse_examples(content: bytes) -> list[ExampleList]:
    """Reads the content of `examples.json`."""
    return _EXAMPLE_LISTS.validate_json(content)


def dump_examples(lists: Sequence[ExampleList]) -> bytes:
    """The content of `examples.json`."""
    return to_json([example.model_dump() for example in lists])
