"""Replays days: draws their users with replacement, and lets the gate judge the days on them.

The versions were good, so each refusal is false. A broken version replaces a good one, and should be refused.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.gates.cases import VALUES, Run
from index_builder.gate.comparison import JudgedVersion, LineMemory
from index_builder.gate.verdict import judge
from model.evaluation.evaluate import describe_differences
from model.evaluation.version_line import is_pooled
from twinspire_core.config.source_registry import RANKED
from twinspire_core.contracts.day_metrics import (
    BestMeasures,
    DayMetrics,
    HeldOutMeasures,
    MeasuredDay,
    RankerMeasures,
)
from twinspire_core.contracts.gate_verdict import GateVerdict
from twinspire_core.contracts.measures import PairedDifference, PairedDifferences, RelativeChange
from twinspire_core.metrics import measure_names
from twinspire_core.metrics.intervals import RESAMPLES, interval, resampled_means
from twinspire_core.metrics.measure_names import SLICES

RULES = ("towers", "slices", "best", "days", "order")
"""Rules of the gate that use measures of users, by the names in the results."""
BROKEN = {
    "towers with shuffled items": {"held_out:candidate": "held_out:shuffled"},
    "trees with shuffled labels": {
        "today:trees": "today:shuffled_trees",
        "next_day:trees": "next_day:shuffled_trees",
    },
    "half of the day": {"held_out:candidate": "held_out:half"},
}
"""Broken versions: the values of a good version, and those that replace them."""


@dataclass(frozen=True, kw_only=True)
class DayValues:
    """The measures of each query of a day.

    Attributes:
      values: from the file of the day.
      metrics: measures of the day.
    """

    values: Mapping[str, np.ndarray]
    metrics: DayMetrics

    @classmethod
    def read(cls, run: Run, n: int) -> "DayValues":
        """Reads the n-th day."""
        with np.load(run.home(n) / VALUES) as file:
            return cls(values=dict(file), metrics=run.metrics(n))

    def drawn(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The values of users who are drawn with replacement, each with all their queries."""
        sample: dict[str, np.ndarray] = {}
        for set_name in ("held_out", "today", "next_day"):
            if f"{set_name}:users" not in self.values:
                continue
            user = self.values[f"{set_name}:users"]
            rows, number = _draw(user, rng)
            for name, values in self.values.items():
                if name.startswith(f"{set_name}:"):
                    sample[name] = values[rows]
            sample[f"{set_name}:users"] = number
        return sample


def _draw(user: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the drawn users, and the number of the draw of each row."""
    order = np.argsort(user, kind="stable")
    users = int(user.max(initial=-1)) + 1
    first = np.searchsorted(user[order], np.arange(users + 1))
    drawn = rng.integers(users, size=users)
    lengths = (first[1:] - first[:-1])[drawn]
    number = np.repeat(np.arange(users), lengths)
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return order[np.repeat(first[:-1][drawn], lengths) + within], number


def replay(run: Run, days: Mapping[int, DayValues], seed: int) -> Iterator[GateVerdict]:
    """The verdicts on all days except the first, on drawn users.

    Args:
      days: days by number.
      seed: seed of the draw.
    """
    rng = np.random.default_rng(seed)
    line: dict[str, MeasuredDay] = {}
    for n in sorted(days):
        if n == 0:
            continue
        day = _Day(run, n, days[n], days[n].drawn(rng))
        line[str(run.case.day(n))] = day.remembered()
        yield judge(day.judged(line), run.p.gate, run.p.index)


def judge_broken(run: Run, n: int, measured: DayValues) -> dict[str, GateVerdict]:
    """The verdicts on broken versions in place of the n-th day's, after good versions on earlier days."""
    verdicts = {}
    for name, replaced in BROKEN.items():
        if set(replaced.values()) <= set(measured.values):
            broken = {good: measured.values[other] for good, other in replaced.items()}
            values = {**measured.values, **broken}
            line = dict(measured.metrics.line)
            verdict = judge(_Day(run, n, measured, values).judged(line), run.p.gate, run.p.index)
            verdicts[name] = verdict
    return verdicts


class _Day:
    """A day of a replay."""

    def __init__(
        self, run: Run, n: int, measured: DayValues, drawn: Mapping[str, np.ndarray]
    ) -> None:
        self._run = run
        self._n = n
        self._metrics = measured.metrics
        self._drawn = drawn
        self._metric = run.p.gate.metric
        self._today = drawn["held_out:today"]

    def judged(self, line: Mapping[str, MeasuredDay]) -> JudgedVersion:
        """The input of the gate."""
        best = self._metrics.best
        if best and best.measures:
            best = self._best(best)
        return JudgedVersion(
            two_tower=self._lists("held_out", "candidate", "baseline"),
            ranker=self._ranker(),
            memory=LineMemory(day=self._run.case.day(self._n), best=best, line=line),
            index_recall=1.0,
            items=1,
            baseline_items=1,
        )

    def remembered(self) -> MeasuredDay:
        """The measures that later days of the replay use."""
        before = self._metrics.line[str(self._run.case.day(self._n))]
        few = {
            "two_tower": self._differences("held_out:candidate", "held_out:baseline", self._today),
            "beside_best": self._differences("held_out:candidate", "held_out:best", self._today),
        }
        means = {
            name: {self._metric: float(np.nanmean(self._drawn[f"next_day:{name}"]))}
            for name in ("ranked", "fixed_order")
            if f"next_day:{name}" in self._drawn
        }
        return before.model_copy(
            update={
                **{name: self._pooled(differences) for name, differences in few.items()},
                "lists": means if RANKED in means else {},
            }
        )

    def _pooled(self, differences: PairedDifferences | None) -> PairedDifferences | None:
        few = differences and is_pooled(differences.users, self._run.p.gate.min_users)
        return differences if few else None

    def _best(self, best: BestMeasures) -> BestMeasures:
        lists = self._lists("held_out", "candidate", "best")
        return best.model_copy(update={"measures": lists.baseline, "change": lists.change})

    def _ranker(self) -> RankerMeasures | None:
        measures = self._metrics.ranker
        if measures is None or "today:trees_before" not in self._drawn:
            return measures
        compared = {"holdout": self._lists("today", "trees", "trees_before")}
        if compared["holdout"].users < self._run.p.gate.min_users:
            compared["on_day"] = self._lists("next_day", "trees", "ranked")
        return measures.model_copy(update=compared)

    def _differences(self, ours: str, theirs: str, chosen: np.ndarray) -> PairedDifferences | None:
        if ours not in self._drawn or theirs not in self._drawn:
            return None
        base = self._drawn[theirs]
        difference = self._drawn[ours] - base
        counted = chosen & np.isfinite(difference)
        by_measure: dict[str, PairedDifference] = {}
        if counted.any():
            by_measure[self._metric] = describe_differences(difference[counted], base[counted])
        return PairedDifferences(users=int(counted.sum()), by_measure=by_measure)

    def _lists(self, set_name: str, ours: str, theirs: str) -> HeldOutMeasures:
        """The measure of both lists for all users and slices of users, and the differences."""
        our_slices, their_slices = (self._by_slice(set_name, name) for name in (ours, theirs))
        user = self._drawn[f"{set_name}:users"]
        changes = {}
        candidate: dict[str, Any] = {}
        baseline: dict[str, Any] = {}
        slices: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        for name, values in our_slices.items():
            other = their_slices[name]
            counted = np.isfinite(values)
            users = len(np.unique(user[counted]))
            if not users:
                continue
            changes[name] = _change(values, other, user, RESAMPLES)
            _, side, slice_name = measure_names.split_name(name)
            means = float(np.nanmean(values)), float(np.nanmean(other))
            if side:
                for slice_measures, mean in zip(slices, means, strict=True):
                    slice_measures[slice_name] = {"users": users, self._metric: mean}
            else:
                candidate[name], baseline[name] = means
        return HeldOutMeasures(
            users=len(np.unique(user[np.isfinite(our_slices[self._metric])])),
            candidate={**candidate, "slices": {"users": slices[0]}},
            baseline={**baseline, "slices": {"users": slices[1]}},
            change=changes,
        )

    def _by_slice(self, set_name: str, name: str) -> dict[str, np.ndarray]:
        """A list's measure for all users and slices of users, NaN for other users."""
        values = self._drawn[f"{set_name}:{name}"]
        by_measure = {self._metric: values}
        number = self._drawn[f"{set_name}:slice"]
        for index, slice_name in enumerate(measure_names.names(SLICES)):
            measure = measure_names.key(self._metric, measure_names.USERS, slice_name)
            by_measure[measure] = np.where(number == index, values, np.nan)
        return by_measure


def _change(
    ours: np.ndarray, theirs: np.ndarray, user: np.ndarray, resamples: int
) -> RelativeChange:
    """Compares a measure like model/evaluation/evaluate.py."""
    base = float(np.nanmean(theirs))
    if base <= 0:
        return RelativeChange()
    means = resampled_means({"ours": ours, "theirs": theirs}, user, resamples)
    with np.errstate(divide="ignore", invalid="ignore"):
        same = means["ours"] == means["theirs"]
        span = interval(np.where(same, 0.0, means["ours"] / means["theirs"] - 1))
    low, high = span or (None, None)
    return RelativeChange(
        change=float(np.nanmean(ours)) / base - 1,
        differ=len(np.unique(user[np.abs(ours - theirs) > 0])),
        worse=len(np.unique(user[ours < theirs])),
        low=low,
        high=high,
    )


def rule_of(reason: str) -> str:
    """The rule of a reason of the gate."""
    if "of the ranker is" in reason:
        return "order"
    if "the best accepted version" in reason:
        return "best"
    if "days combined" in reason:
        return "days"
    return "slices" if "/users:" in reason else "towers"


def count_refusals(verdicts: list[GateVerdict]) -> dict[str, int]:
    """The number of refusing verdicts, in total and by rule (a verdict may refuse by several), and of those
    that let the fixed order serve in place of trees.
    """
    refused: Counter[str] = Counter()
    for verdict in verdicts:
        refused.update({rule_of(reason) for reason in verdict.refused})
    return {
        "refused": sum(not verdict.accepted for verdict in verdicts),
        **{rule: refused[rule] for rule in RULES},
        "fixed_order": sum(bool(verdict.why_not_trees) for verdict in verdicts),
    }
