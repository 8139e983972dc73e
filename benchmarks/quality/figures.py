"""From runs to figures: means over queries and seeds, and ratios of two contenders with intervals.

A resample draws the days, the users and the seeds, all with replacement: a query counts as often as
its day was drawn times as often as its user was. Source: Owen, *The pigeonhole bootstrap*, Annals of
Applied Statistics 1(2), 2007. A few days give no such interval: each day is shown instead.
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
"""On fewer days there is no interval, and nothing is sure."""
HEADLINE = "recall@50"
METRICS = (HEADLINE, "recall@10", "ndcg@10")
BOUNDS = (1, 5, 20)
SLICES = ("new", "1-4", "5-19", "20+")
"""Users by how many events they had before they ask."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A contender's runs on a case, of all its days.

    Attributes:
      case: the case.
      period: `development`, or the judgement whose days were asked about.
      kind: whether its lists hold what users had before: `kept` or `left out`.
      counts: whether such lists are those that count on this log.
      contender: its name.
      values: [Q] by measure, per seed; the queries of one day after those of the day before.
      coverage: share of the catalogue in the lists of a day, the mean over the days.
      day: [Q] str, the day of each query.
      user: [Q] str, who asks.
      earlier: [Q] int64, events that the user had before.
      settings: that it was run with.
      cpu: CPU seconds of a day, by seed.
      weekly: whether it was trained once a week only.
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
        """Of the users who have a history: the figures of the table."""
        return self.where(self.earlier > 0)

    def slice(self, number: int) -> "Result":
        """Of the users of one of `SLICES`."""
        return self.where(slice_of(self.earlier, BOUNDS) == number)

    def where(self, keep: np.ndarray) -> "Result":
        """Of some queries, [Q] bool."""
        return replace(
            self,
            values=[{m: x[keep] for m, x in seed.items()} for seed in self.values],
            day=self.day[keep],
            user=self.user[keep],
            earlier=self.earlier[keep],
        )

    def mean(self, metric: str = HEADLINE) -> float:
        """Over queries and seeds; nan without queries."""
        if not len(self.user):
            return float("nan")
        return float(np.mean([seed[metric].mean() for seed in self.values]))

    def daily(self, metric: str = HEADLINE) -> dict[str, float]:
        """The mean of each day."""
        return {day: self.where(self.day == day).mean(metric) for day in np.unique(self.day)}

    def draws(self, metric: str = HEADLINE) -> np.ndarray | None:
        """[4000] resampled means; None where there are too few days.

        Equal queries are resampled alike, so that two contenders may be compared draw by draw.
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
        with np.errstate(invalid="ignore"):  # nan where a small slice was not drawn
            by_seed = np.stack(sums, 1) / asked[:, None]
        seeds = np.random.default_rng(len(sums)).integers(len(sums), size=by_seed.shape)
        return np.take_along_axis(by_seed, seeds, 1).mean(axis=1)

    def row(self) -> dict[str, object]:
        """What results.json says of it."""
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
    """[4000] sums over days and users, [D, U], drawn again."""
    days, users = (_times(number, axis) for axis, number in enumerate(table.shape))
    found: np.ndarray = np.einsum("ru,ru->r", days @ table, users)
    return found


@lru_cache(maxsize=8)
def _times(number: int, axis: int) -> np.ndarray:
    """[4000, number] how often each is drawn, with replacement."""
    drawn = np.random.default_rng([20171120, axis]).integers(number, size=(RESAMPLES, number))
    drawn += number * np.arange(RESAMPLES)[:, None]
    times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
    return times.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """What one contender finds by what another does, of the same queries.

    Attributes:
      found: the ratio of the means.
      low: of its 95% interval; None on few days.
      high: of its interval.
      p: the two-sided probability of a ratio as far from 1 by chance; None on few days.
      daily: the ratio of each day.
    """

    found: float | None
    low: float | None
    high: float | None
    p: float | None
    daily: Mapping[str, float | None]


def ratio(above: Result, below: Result, metric: str = HEADLINE) -> Ratio:
    """Compares two contenders; in each resample both are drawn alike."""
    a, b = above.draws(metric), below.draws(metric)
    low = high = p = None
    with np.errstate(divide="ignore", invalid="ignore"):
        if a is not None and b is not None:
            draws = a / b
            low, high = interval(draws) or (None, None)
            p = 2 * (min(np.sum(draws <= 1), np.sum(draws >= 1)) + 1) / (RESAMPLES + 1)
        theirs = below.daily(metric)
        daily = {day: np.float64(x) / theirs[day] for day, x in above.daily(metric).items()}
        found = np.float64(above.mean(metric)) / below.mean(metric)
    return Ratio(
        found=short(found),
        low=short(low),
        high=short(high),
        p=short(None if p is None else min(p, 1.0)),
        daily={day: short(x) for day, x in daily.items()},
    )


def holm(p: Sequence[float]) -> list[float]:
    """Adjusts the probabilities of several comparisons: where nothing differs, the chance that any of
    them is below 0.05 is at most 0.05. Source: Holm, *A simple sequentially rejective multiple test procedure*,
    Scandinavian Journal of Statistics 6, 1979.
    """
    adjusted = np.ones(len(p))
    most = 0.0
    for rank, place in enumerate(np.argsort(p)):
        most = max(most, (len(p) - rank) * p[place])
        adjusted[place] = min(most, 1.0)
    found: list[float] = adjusted.tolist()
    return found


def by_case(results: Iterable[Result]) -> dict[tuple[str, str], dict[str, Result]]:
    """Results by case and kind, in the cases' order, and by contender."""
    found: dict[tuple[str, str], dict[str, Result]] = {}
    for result in results:
        found.setdefault((result.case, result.kind), {})[result.contender] = result
    return {key: found[key] for case in CASES for key in found if key[0] == case}


def short(value: float | None) -> float | None:
    """Five digits; None where there is no number, which JSON has none for."""
    return float(f"{value:.5g}") if value is not None and np.isfinite(value) else None
