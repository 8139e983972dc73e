"""From runs to figures: means over queries and seeds, and ratios of two contenders with intervals.

A resample draws days, users and seeds with replacement. The weight of a query is the number of draws of its
day times that of its user. Source: Owen, *The pigeonhole bootstrap*, Annals of Applied Statistics 1(2), 2007.
With few days there is no interval; each day is shown instead.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from benchmarks.quality.logs import CASES
from twinspire_core.metrics.intervals import interval
from twinspire_core.metrics.list_metrics import slice_of

RESAMPLES = 4000
FEWEST_DAYS = 8
"""With fewer days there is no interval, and no difference is called sure."""
HEADLINE = "recall@50"
METRICS = (HEADLINE, "recall@10", "ndcg@10")
BOUNDS = (1, 5, 20)
SLICES = ("new", "1-4", "5-19", "20+")
"""Slices of users by their number of earlier events."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A contender's runs on a case, on all its days.

    Attributes:
      period: `development`, or the name of the judgement.
      kind: whether lists contain seen items: `kept` or `left out`.
      counts: whether lists of this kind count on this log.
      values: [Q] by measure, per seed; queries are in the order of their days.
      coverage: share of the catalogue in the lists of a day, mean over the days.
      day: [Q] str, the day of each query.
      user: [Q] str, the user of each query.
      earlier: [Q] int64, number of earlier events of the user.
      cpu: CPU seconds per day, by seed.
      weekly: whether it was trained only once a week.
    """

    case: str
    period: str
    kind: str
    counts: bool
    contender: str
    values: Sequence[Mapping[str, np.ndarray]]
    coverage: float
    day: np.ndarray
    user: np.ndarray
    earlier: np.ndarray
    settings: Mapping[str, object]
    cpu: Sequence[float]
    weekly: bool = False

    @property
    def known(self) -> "Result":
        """The result for users with a history, which the table shows."""
        return self.where(self.earlier > 0)

    def slice(self, number: int) -> "Result":
        """The result for users of one of `SLICES`."""
        return self.where(slice_of(self.earlier, BOUNDS) == number)

    def where(self, keep: np.ndarray) -> "Result":
        """The result for some queries, [Q] bool."""
        return replace(
            self,
            values=[{m: x[keep] for m, x in seed.items()} for seed in self.values],
            day=self.day[keep],
            user=self.user[keep],
            earlier=self.earlier[keep],
        )

    def mean(self, metric: str = HEADLINE) -> float:
        """The mean over queries and seeds; NaN without queries."""
        if not len(self.user):
            return float("nan")
        return float(np.mean([seed[metric].mean() for seed in self.values]))

    def daily(self, metric: str = HEADLINE) -> dict[str, float]:
        """The mean of each day."""
        return {day: self.where(self.day == day).mean(metric) for day in np.unique(self.day)}

    def draws(self, metric: str = HEADLINE) -> np.ndarray | None:
        """[4000] resampled means; None with too few days.

        Equal queries are resampled in the same way, so that contenders can be compared draw by draw.
        """
        _, day = np.unique(self.day, return_inverse=True)
        _, user = np.unique(self.user, return_inverse=True)
        shape = (day.max(initial=-1) + 1, user.max(initial=-1) + 1)
        if shape[0] < FEWEST_DAYS:
            return None
        cell = day * shape[1] + user
        size = shape[0] * shape[1]
        tables = [np.bincount(cell, seed[metric], size) for seed in self.values]
        sums = [_resampled(table.reshape(shape)) for table in tables]
        asked = _resampled(np.bincount(cell, minlength=size).reshape(shape))
        with np.errstate(invalid="ignore"):  # NaN if no query of a small slice was drawn
            by_seed = np.stack(sums, 1) / asked[:, None]
        seeds = np.random.default_rng(len(sums)).integers(len(sums), size=by_seed.shape)
        return np.take_along_axis(by_seed, seeds, 1).mean(axis=1)

    def row(self) -> dict[str, object]:
        """Its row in results.json."""
        known = self.known
        draws = known.draws()
        low, high = (None, None) if draws is None else interval(draws) or (None, None)
        return {
            "case": self.case,
            "period": self.period,
            "kind": self.kind,
            "counts": self.counts,
            "contender": self.contender,
            **{metric: short(known.mean(metric)) for metric in METRICS},
            "low": short(low),
            "high": short(high),
            "coverage@50": short(self.coverage),
            "days": len(np.unique(self.day)),
            "queries": len(known.user),
            "users": len(np.unique(known.user)),
            "seeds": len(self.values),
            "trained": "weekly" if self.weekly else "daily",
            "cpu_seconds_a_day": short(float(np.mean(self.cpu))),
            "settings": dict(self.settings),
        }


def _resampled(table: np.ndarray) -> np.ndarray:
    """[4000] sums over resampled days and users, [D, U]."""
    days, users = (_times(number, axis) for axis, number in enumerate(table.shape))
    sums: np.ndarray = np.einsum("ru,ru->r", days @ table, users)
    return sums


@lru_cache(maxsize=8)
def _times(number: int, axis: int) -> np.ndarray:
    """[4000, number] how often each is drawn with replacement."""
    drawn = np.random.default_rng([20171120, axis]).integers(number, size=(RESAMPLES, number))
    drawn += number * np.arange(RESAMPLES)[:, None]
    times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
    return times.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """The ratio of two contenders' measures, for the same queries.

    Attributes:
      found: the ratio of the means.
      low: lower end of its 95% interval; None with few days.
      high: upper end of the interval.
      p: two-sided probability of a ratio this far from 1 by chance; None with few days.
      daily: the ratio of each day.
    """

    found: float | None
    low: float | None
    high: float | None
    p: float | None
    daily: Mapping[str, float | None]


def ratio(above: Result, below: Result, metric: str = HEADLINE) -> Ratio:
    """Compares two contenders on the same resamples."""
    a, b = above.draws(metric), below.draws(metric)
    low = high = p = None
    with np.errstate(divide="ignore", invalid="ignore"):
        if a is not None and b is not None:
            draws = a / b
            low, high = interval(draws) or (None, None)
            p = 2 * (min(np.sum(draws <= 1), np.sum(draws >= 1)) + 1) / (RESAMPLES + 1)
        below_daily = below.daily(metric)
        daily = {day: np.float64(x) / below_daily[day] for day, x in above.daily(metric).items()}
        value = np.float64(above.mean(metric)) / below.mean(metric)
    return Ratio(
        found=short(value),
        low=short(low),
        high=short(high),
        p=short(None if p is None else min(p, 1.0)),
        daily={day: short(x) for day, x in daily.items()},
    )


def holm(p: Sequence[float]) -> list[float]:
    """Adjusts the probabilities of several comparisons: if nothing differs, the chance that any of them is
    below 0.05 is at most 0.05. Source: Holm, *A simple sequentially rejective multiple test procedure*,
    Scandinavian Journal of Statistics 6, 1979.
    """
    adjusted = np.ones(len(p))
    most = 0.0
    for rank, index in enumerate(np.argsort(p)):
        most = max(most, (len(p) - rank) * p[index])
        adjusted[index] = min(most, 1.0)
    probabilities: list[float] = adjusted.tolist()
    return probabilities


def by_case(results: Iterable[Result]) -> dict[tuple[str, str], dict[str, Result]]:
    """Results by case and kind, in the order of cases, and by contender."""
    cases: dict[tuple[str, str], dict[str, Result]] = {}
    for result in results:
        cases.setdefault((result.case, result.kind), {})[result.contender] = result
    return {key: cases[key] for case in CASES for key in cases if key[0] == case}


def short(value: float | None) -> float | None:
    """The value with five digits; None if it is not finite, which JSON cannot express."""
    return float(f"{value:.5g}") if value is not None and np.isfinite(value) else None
