"""The headline figure of a version: how good the lists are that it serves, next to the best simple list.

Every command and page takes it from here, by one rule. It is the measure of the lists that were
served, over all measured users of the next day, whose events no version had seen. Where no next day
has measured them, it is the measure over held-out users, and the text says so. The two-tower's own
figure comes after it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from twinspire_core.config.source_registry import BASELINES, FIXED_ORDER, RANKED, TWO_TOWER
from twinspire_core.contracts.day_metrics import DayMetrics, HeldOutMeasures
from twinspire_core.contracts.measures import (
    PairedDifference,
    PairedDifferences,
    RelativeChange,
    interval_of,
    value_of,
)
from twinspire_core.display.quality_tables import (
    is_first,
    list_name,
    on_the_next_day,
    served_on_its_day,
)
from twinspire_core.display.table import change, count, number

THIS = "this version"
_SURE = 1.96  # standard errors to either side of a mean that a 95% interval reaches
_LEAST_DIFFERENT = 10  # users whose lists differ; an interval over fewer would claim too much


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedFigure:
    """A measure of the lists that are served.

    Attributes:
      metric: such as `recall@50`.
      interval: ends of the value's 95% interval over users; None where nothing was resampled.
      whose: the version whose lists they are, in words.
      source: what makes these: `ranked`, `fixed_order` or `two_tower`.
      day: the day whose users are measured.
      users: how many; None where that was not kept.
      held_out: whether only held-out users are measured, because no next day was run.
      simple: name of the best simple list for the same users; None where none was measured.
      change: from that list to what is served, relative; its 95% interval comes from the
        differences user by user, and is missing where these were not kept.
      two_tower: the measure of the two-tower's own lists.
    """

    metric: str
    value: float
    interval: tuple[float, float] | None
    whose: str
    source: str
    day: date
    users: int | None
    held_out: bool
    simple: str | None
    simple_value: float | None
    change: RelativeChange
    two_tower: float | None

    def as_json(self) -> dict[str, Any]:
        """The figure as commands print it for programs."""
        change = self.change.model_dump()
        return {**asdict(self), "day": str(self.day), "change": change, "text": self.text}

    @property
    def values_text(self) -> str:
        """Both values: served 0.515, purchase history 0.497."""
        served = f"served {number(self.value)}"
        if self.simple is None:
            return served
        return f"{served}, {list_name(self.simple)} {number(self.simple_value)}"

    @property
    def change_text(self) -> str:
        """The comparison: 3.7% better than the best simple list (−2.7% to +10.2%)."""
        relative = self.change.change
        if relative is None:
            return "no simple list to compare with"
        how = "better than" if relative >= 0 else "worse than"
        size = f"{abs(relative):.1%}"
        text = f"{'as good as' if size == '0.0%' else f'{size} {how}'} the best simple list"
        if self.change.low is None:
            return text
        return f"{text} ({change(self.change.low)} to {change(self.change.high)})"

    @property
    def text(self) -> str:
        """The whole figure in three sentences."""
        alone = "" if self.two_tower is None else f"; two-tower alone {number(self.two_tower)}"
        return (
            f"{self.values_text}: {self.change_text}. {self.metric} over {self.users_text}. Lists:"
            f" {list_name(self.source)} of {self.whose}{alone}."
        )

    @property
    def users_text(self) -> str:
        """Who was measured: all 2,345 measured users of 2017-10-06."""
        if self.held_out:
            return f"{count(self.users)} held-out users of {self.day}"
        number_of = "" if self.users is None else f" {count(self.users)}"
        return f"all{number_of} measured users of {self.day}"


def on_next_day(
    measured: DayMetrics,
    serves: str | None,
    day: date,
    metric: str,
    whose: str = THIS,
) -> ServedFigure | None:
    """The figure of the lists that were served on a day, before training on the day; None if they were
    not measured.

    Args:
      measured: the `metrics.json` of the day.
      serves: which lists the gate let the previous version serve (`GateVerdict.serves`).
      whose: the version whose lists they are, in words.
    """
    lists = on_the_next_day(measured, day, serves).lists
    served = next((x for x in lists if x.served), None)
    value = value_of(served.measures if served else None, metric)
    # Of nobody, a measure is 0, which says nothing
    if served is None or value is None or served.measures.users == 0:
        return None
    pairs = measured.fixed_order.beside_simple
    if served.kind == RANKED and measured.ranker:
        pairs = measured.ranker.beside_simple
    simple = {name: value_of(measured.baselines.get(name), metric) for name in BASELINES}
    return ServedFigure(
        metric=metric,
        value=value,
        interval=served.measures.intervals.get(metric),
        whose=whose,
        source=served.kind,
        day=day,
        users=served.measures.users,
        held_out=False,
        two_tower=value_of(measured.progressive, metric),
        **_compared(value, simple, pairs, metric),
    )


def on_its_day(
    measured: DayMetrics, serves_before: str | None, day: date, metric: str
) -> ServedFigure | None:
    """The figure of the lists that the previous version served on a version's own day. For a first
    version, the figure of its lists before training on the day. Takes the arguments of `on_next_day`.
    """
    whose = "the previous version"
    if is_first(measured):
        whose = "this version before training on the day"
    return on_next_day(measured, served_on_its_day(measured, serves_before), day, metric, whose)


def on_held_out(
    measured: DayMetrics, serves: str | None, day: date, metric: str
) -> ServedFigure | None:
    """The figure of the lists that a version serves, on held-out users of its own day; None if they were
    not measured. Takes the arguments of `on_next_day`.
    """
    held = measured.holdout
    order = measured.fixed_order.holdout
    pairs = measured.fixed_order.own_beside_simple
    paired = {name: _paired(pairs.get(name), metric) for name in BASELINES}
    of_pairs = {name: pair.base if pair else None for name, pair in paired.items()}
    of_all = {name: value_of(held.baselines.get(name), metric) for name in BASELINES}
    two_tower = value_of(held.candidate, metric)
    source, served = TWO_TOWER, held
    if serves == RANKED:
        source, served = RANKED, measured.ranker.holdout if measured.ranker else HeldOutMeasures()
    elif order.candidate:
        source, served = FIXED_ORDER, order
    value, users = value_of(served.candidate, metric), served.users
    if value is None or users == 0:
        return None
    # Few users are held out of one day, so the two-tower may have been measured on several days
    alike = users == held.users
    simple = of_all if alike else of_pairs
    return ServedFigure(
        metric=metric,
        value=value,
        interval=interval_of(served.candidate, metric),
        whose=THIS,
        source=source,
        day=day,
        users=users,
        held_out=True,
        two_tower=two_tower if alike else None,
        **_compared(value, simple, pairs if source == FIXED_ORDER else {}, metric),
    )


def _compared(
    value: float,
    simple: Mapping[str, float | None],
    pairs: Mapping[str, PairedDifferences],
    metric: str,
) -> dict[str, Any]:
    """The fields of a figure about the best simple list."""
    values = {name: figure for name, figure in simple.items() if figure is not None}
    if not values:
        return {"simple": None, "simple_value": None, "change": RelativeChange()}
    best = max(values, key=lambda name: values[name])
    change = _change(value, values[best], pairs.get(best), metric)
    return {"simple": best, "simple_value": values[best], "change": change}


def _change(
    value: float, simple: float, pairs: PairedDifferences | None, metric: str
) -> RelativeChange:
    if simple <= 0:
        return RelativeChange()
    relative = value / simple - 1
    paired = _paired(pairs, metric)
    if pairs is None or paired is None or paired.differ < _LEAST_DIFFERENT:
        return RelativeChange(change=relative)
    reach = _SURE * paired.deviation / pairs.users**0.5 / simple
    return RelativeChange(
        change=relative, differ=paired.differ, low=relative - reach, high=relative + reach
    )


def _paired(pairs: PairedDifferences | None, metric: str) -> PairedDifference | None:
    return pairs.by_measure.get(metric) if pairs else None
