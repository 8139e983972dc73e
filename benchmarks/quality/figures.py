"""From runs to figures: means over queries and seeds, with intervals over users and seeds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from benchmarks.quality.logs import CASES
from twinspire_core.metrics.bootstrap import interval, resampled_means
from twinspire_core.metrics.slices import slice_of

RESAMPLES = 1000
METRICS = ("recall@10", "recall@50", "recall@100", "ndcg@10", "hit_rate@50", "mrr")
HEADLINE = "recall@50"
BOUNDS = (1, 5, 20)
SLICES = ("new", "1-4", "5-19", "20+")
"""Users by how many events they had before they ask."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A contender's runs on a case, of all its days.

    Attributes:
      case: the case.
      kind: whether its lists hold what users had before: `kept` or `left out`.
      counts: whether such lists are those that count on this log.
      contender: its name.
      values: [Q] by measure, per seed; the queries of one day after those of the day before.
      coverage: share of the catalogue in the lists of a day, the mean over the days.
      user: [Q] str, who asks.
      earlier: [Q] int64, events that the user had before.
      settings: that it was run with.
      seconds: of training, all days together, per seed.
      rate: examples a second in training, per seed; empty where that means nothing.
      weekly: whether it was trained once a week only.
      days: that it was asked on.
    """

    case: str
    kind: str
    counts: bool
    contender: str
    values: Sequence[Mapping[str, np.ndarray]]
    coverage: float
    user: np.ndarray
    earlier: np.ndarray
    settings: Mapping[str, object]
    seconds: Sequence[float]
    rate: Sequence[float]
    weekly: bool = False
    days: int = 1

    @property
    def known(self) -> "Result":
        """Of the users who have a past: the figures of the table."""
        return self.where(self.earlier > 0)

    def slice(self, number: int) -> "Result":
        """Of the users of one of `SLICES`."""
        return self.where(slice_of(self.earlier, BOUNDS) == number)

    def where(self, keep: np.ndarray) -> "Result":
        """Of some queries, [Q] bool."""
        return replace(
            self,
            values=[{m: x[keep] for m, x in seed.items()} for seed in self.values],
            user=self.user[keep],
            earlier=self.earlier[keep],
        )

    @property
    def queries(self) -> int:
        """How many."""
        return len(self.user)

    @property
    def users(self) -> int:
        """How many ask."""
        return len(np.unique(self.user))

    def mean(self, metric: str = HEADLINE) -> float:
        """Over queries and seeds; nan without queries."""
        if not self.queries:
            return float("nan")
        return float(np.mean([seed[metric].mean() for seed in self.values]))

    @cached_property
    def draws(self) -> np.ndarray:
        """[1000] resampled means of `HEADLINE`: users with replacement, each with all their queries
        of all days, and seeds with replacement.

        Equal queries are resampled alike, so that two contenders may be compared draw by draw.
        """
        _, user = np.unique(self.user, return_inverse=True)
        by_seed = resampled_means(
            {str(n): seed[HEADLINE] for n, seed in enumerate(self.values)}, user, RESAMPLES
        )
        table = np.stack(list(by_seed.values()), 1)
        seeds = np.random.default_rng(len(self.values)).integers(
            len(self.values), size=(RESAMPLES, len(self.values))
        )
        return np.take_along_axis(table, seeds, 1).mean(axis=1)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the mean; nan where there is none."""
        return interval(self.draws) or (np.nan, np.nan)

    def row(self) -> dict[str, object]:
        """What results.json says of it."""
        known = self.known
        low, high = known.interval
        return {
            "case": self.case,
            "kind": self.kind,
            "counts": self.counts,
            "contender": self.contender,
            **{metric: short(known.mean(metric)) for metric in METRICS},
            "low": short(low),
            "high": short(high),
            "coverage@50": short(self.coverage),
            "days": self.days,
            "queries": known.queries,
            "users": known.users,
            "seeds": len(self.values),
            "trained": "weekly" if self.weekly else "daily",
            "train_seconds": short(float(np.mean(self.seconds))),
            "examples_per_second": short(float(np.mean(self.rate))) if self.rate else None,
            "settings": dict(self.settings),
        }


def ratio(above: Result, below: Result) -> tuple[float, float, float]:
    """What one contender finds by what another does: the ratio of the means, and its 95% interval.

    Both were asked the same queries; in each resample both are drawn alike.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = interval(above.draws / below.draws) or (np.nan, np.nan)
        found = np.float64(above.mean()) / np.float64(below.mean())
    return float(found), low, high


def by_case(results: Iterable[Result]) -> dict[tuple[str, str], dict[str, Result]]:
    """Results by case and kind, in the cases' order, and by contender."""
    found: dict[tuple[str, str], dict[str, Result]] = {}
    for result in results:
        found.setdefault((result.case, result.kind), {})[result.contender] = result
    return {key: found[key] for case in CASES for key in found if key[0] == case}


def table(results: Iterable[Result]) -> str:
    """Plain text: a block per case and kind, a line per contender, the best first."""
    lines = []
    for (case, kind), found in by_case(results).items():
        heads = f"{'recall@50':>10} {'95% interval':>16} {'recall@10':>10} {'ndcg@10':>8}"
        lines += ["", f"{case}, seen {kind}", f"{'':24}{heads} {'coverage@50':>12} {'seeds':>6}"]
        for r in sorted((r.known for r in found.values()), key=lambda r: -r.mean()):
            low, high = r.interval
            spread = f"{low:8.4f}-{high:.4f}"
            lines.append(
                f"{r.contender:24}{r.mean():10.4f} {spread:>16} {r.mean('recall@10'):10.4f}"
                f" {r.mean('ndcg@10'):8.4f} {r.coverage:12.4f} {len(r.values):6}"
            )
    return "\n".join(lines)


def short(value: float) -> float | None:
    """Five digits; None where there is no number, which JSON has none for."""
    return float(f"{value:.5g}") if np.isfinite(value) else None
