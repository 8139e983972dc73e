"""From runs to figures: means over the seeds with intervals, the terminal's table and the one of
docs/measurements.md, the targets.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.quality.splits import CASES
from twinspire_core.metrics.bootstrap import interval, resampled_means

RESAMPLES = 1000
METRICS = (
    "recall@10",
    "recall@50",
    "recall@100",
    "ndcg@10",
    "hit_rate@50",
    "mrr",
    "coverage@50",
    "coverage@100",
)
HEADLINE = "recall@50"
BEGIN = "<!-- quality: begin -->"
END = "<!-- quality: end -->"


@dataclass(frozen=True, kw_only=True)
class Result:
    """A contender's runs on a case.

    Attributes:
      case: the case.
      contender: its name.
      means: by measure, a number per seed.
      values: [Q] of `HEADLINE` by query, per seed.
      user: [Q] int64, number of the user who asks.
      seconds: of training, per seed.
      rate: examples a second in training, per seed; empty where that means nothing.
    """

    case: str
    contender: str
    means: Mapping[str, Sequence[float]]
    values: Sequence[np.ndarray]
    user: np.ndarray
    seconds: Sequence[float]
    rate: Sequence[float]

    def mean(self, metric: str = HEADLINE) -> float:
        """Over the seeds."""
        return float(np.mean(self.means[metric]))

    @cached_property
    def draws(self) -> np.ndarray:
        """[1000] resampled means of `HEADLINE`: users with replacement, and seeds with replacement.

        Equal queries are resampled alike, so that two contenders may be compared draw by draw.
        """
        by_seed = resampled_means(
            {str(s): x for s, x in enumerate(self.values)}, self.user, RESAMPLES
        )
        table = np.stack(list(by_seed.values()), 1)
        seeds = np.random.default_rng(len(self.values)).integers(
            len(self.values), size=(RESAMPLES, len(self.values))
        )
        return np.take_along_axis(table, seeds, 1).mean(axis=1)

    def rows(self) -> list[dict]:
        """The rows of the JSON file. The headline's interval is resampled; others' ends are the
        least and most seed.
        """
        low, high = interval(self.draws) or (np.nan, np.nan)
        found = [self._row(HEADLINE, [self.mean()], "", low, high)]
        found += [
            self._row(m, self.means[m], "") for m in METRICS if m in self.means and m != HEADLINE
        ]
        if any(self.seconds):
            found.append(self._row("train_seconds", self.seconds, "s"))
        if self.rate:
            found.append(self._row("examples/s", self.rate, "examples/s"))
        return found

    def _row(
        self,
        metric: str,
        values: Sequence[float],
        unit: str,
        low: float | None = None,
        high: float | None = None,
    ) -> dict:
        return {
            "case": self.case,
            "contender": self.contender,
            "metric": metric,
            "value": _short(np.mean(values)),
            "low": _short(min(values) if low is None else low),
            "high": _short(max(values) if high is None else high),
            "unit": unit,
        }


def table(results: Iterable[Result]) -> str:
    """Plain text: a block per case, a line per contender, the best first."""
    lines = []
    for case, found in by_case(results).items():
        heads = (
            f"{'recall@50':>10} {'95% interval':>16} {'recall@10':>10} {'ndcg@10':>8}"
            f" {'coverage@50':>12}"
        )
        lines += ["", f"{case:24}{heads} {'seeds':>6} {'examples/s':>11}"]
        for r in sorted(found.values(), key=lambda r: -r.mean()):
            low, high = interval(r.draws) or (np.nan, np.nan)
            more = (
                f"{r.mean('recall@10'):10.4f} {r.mean('ndcg@10'):8.4f}"
                f" {r.mean('coverage@50'):12.4f}"
            )
            rate = f"{np.mean(r.rate):11,.0f}" if r.rate else ""
            spread = f"{low:8.4f}-{high:.4f}"
            lines.append(
                f"{r.contender:24}{r.mean():10.4f} {spread:>16} {more} {len(r.values):6} {rate}"
            )
    return "\n".join(lines)


def markdown(results: Iterable[Result]) -> str:
    """The table of docs/measurements.md: recall@50 by contender and case, the best of a case in bold."""
    cases = by_case(results)
    names = list(dict.fromkeys(name for found in cases.values() for name in found))
    lines = [f"| recall@50 | {' | '.join(cases)} |", f"|---|{'---|' * len(cases)}"]
    for name in names:
        cells = [_cell(found, name) for found in cases.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(found: Mapping[str, Result], name: str) -> str:
    if name not in found:
        return ""
    half = np.diff(interval(found[name].draws) or (0, 0))[0] / 2
    text = f"{found[name].mean():.3f} ± {half:.3f}"
    return f"**{text}**" if found[name].mean() == max(r.mean() for r in found.values()) else text


def write_table(file: Path, results: Iterable[Result]) -> None:
    """Puts the table between a page's two marks; without them nothing is changed."""
    text = file.read_text()
    if BEGIN in text and END in text:
        before, rest = text.split(BEGIN, 1)
        file.write_text(f"{before}{BEGIN}\n{markdown(results)}\n{END}{rest.split(END, 1)[1]}")


def by_case(results: Iterable[Result]) -> dict[str, dict[str, Result]]:
    """Results by case, in the cases' order, and contender."""
    found: dict[str, dict[str, Result]] = {}
    for r in results:
        found.setdefault(r.case, {})[r.contender] = r
    return {case: found[case] for case in CASES if case in found}


def _short(value: float) -> float:
    return float(f"{value:.5g}")
