"""Replays days: draws their users with replacement, and judges them as days are judged.

The versions were good, so each refusal is false. A broken version takes a good one's place, and should
be refused.
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
"""Rules of the gate that look at what users found, as they are counted."""
BROKEN = {
    "towers with shuffled items": {"held_out:candidate": "held_out:shuffled"},
    "trees with shuffled labels": {
        "today:trees": "today:shuffled_trees",
        "next_day:trees": "next_day:shuffled_trees",
    },
    "half of the day": {"held_out:candidate": "held_out:half"},
}
"""Broken versions: which values are in place of which."""


@dataclass(frozen=True, kw_only=True)
class DayValues:
    """What was found for each query of a day.

    Attributes:
      values: from the file of the day.
      metrics: of the day.
    """

    values: Mapping[str, np.ndarray]
    metrics: DayMetrics

    @classmethod
    def read(cls, run: Run, n: int) -> "DayValues":
        """Reads those of the n-th day."""
        with np.load(run.home(n) / VALUES) as file:
            return cls(values=dict(file), metrics=run.metrics(n))

    def drawn(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The values for users who are drawn with replacement, each with all their queries."""
        found: dict[str, np.ndarray] = {}
        for of_set in ("held_out", "today", "next_day"):
            if f"{of_set}:users" not in self.values:
                continue
            user = self.values[f"{of_set}:users"]
            rows, number = _draw(user, rng)
            for name, values in self.values.items():
                if name.startswith(f"{of_set}:"):
                    found[name] = values[rows]
            found[f"{of_set}:users"] = number
        return found


def _draw(user: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the users that are drawn, and the number of the draw that each is of."""
    order = np.argsort(user, kind="stable")
    users = int(user.max(initial=-1)) + 1
    first = np.searchsorted(user[order], np.arange(users + 1))
    drawn = rng.integers(users, size=users)
    lengths = (first[1:] - first[:-1])[drawn]
    number = np.repeat(np.arange(users), lengths)
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return order[np.repeat(first[:-1][drawn], lengths) + within], number


def replay(run: Run, days: Mapping[int, DayValues], seed: int) -> Iterator[GateVerdict]:
    """The verdicts of all days but the first, of users drawn again.

    Args:
      run: the case.
      days: by number.
      seed: of the draw.
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
    """The verdicts of broken versions in place of the n-th day's, each among the good ones before it."""
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
        """What the gate judges."""
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
        """What later days of the replay know of it."""
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
                **{name: self._pooled(one) for name, one in few.items()},
                "lists": means if RANKED in means else {},
            }
        )

    def _pooled(self, found: PairedDifferences | None) -> PairedDifferences | None:
        few = found and is_pooled(found.users, self._run.p.gate.min_users)
        return found if few else None

    def _best(self, best: BestMeasures) -> BestMeasures:
        lists = self._lists("held_out", "candidate", "best")
        return best.model_copy(update={"measures": lists.baseline, "change": lists.change})

    def _ranker(self) -> RankerMeasures | None:
        found = self._metrics.ranker
        if found is None or "today:trees_before" not in self._drawn:
            return found
        compared = {"holdout": self._lists("today", "trees", "trees_before")}
        if compared["holdout"].users < self._run.p.gate.min_users:
            compared["on_day"] = self._lists("next_day", "trees", "ranked")
        return found.model_copy(update=compared)

    def _differences(self, ours: str, theirs: str, chosen: np.ndarray) -> PairedDifferences | None:
        if ours not in self._drawn or theirs not in self._drawn:
            return None
        base = self._drawn[theirs]
        difference = self._drawn[ours] - base
        known = chosen & np.isfinite(difference)
        by_measure: dict[str, PairedDifference] = {}
        if known.any():
            by_measure[self._metric] = describe_differences(difference[known], base[known])
        return PairedDifferences(users=int(known.sum()), by_measure=by_measure)

    def _lists(self, of_set: str, ours: str, theirs: str) -> HeldOutMeasures:
        """Both lists' measure of all and of slices of users, and how it differs."""
        ours_of, theirs_of = (self._of(of_set, name) for name in (ours, theirs))
        user = self._drawn[f"{of_set}:users"]
        changes = {}
        candidate: dict[str, Any] = {}
        baseline: dict[str, Any] = {}
        slices: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        for name, values in ours_of.items():
            other = theirs_of[name]
            known = np.isfinite(values)
            users = len(np.unique(user[known]))
            if not users:
                continue
            changes[name] = _change(values, other, user, RESAMPLES)
            _, side, slice_name = measure_names.split_name(name)
            means = float(np.nanmean(values)), float(np.nanmean(other))
            if side:
                for of_slices, mean in zip(slices, means, strict=True):
                    of_slices[slice_name] = {"users": users, self._metric: mean}
            else:
                candidate[name], baseline[name] = means
        return HeldOutMeasures(
            users=len(np.unique(user[np.isfinite(ours_of[self._metric])])),
            candidate={**candidate, "slices": {"users": slices[0]}},
            baseline={**baseline, "slices": {"users": slices[1]}},
            change=changes,
        )

    def _of(self, of_set: str, name: str) -> dict[str, np.ndarray]:
        """A list's measure of all and of slices of users, nan where it does not apply."""
        values = self._drawn[f"{of_set}:{name}"]
        found = {self._metric: values}
        number = self._drawn[f"{of_set}:slice"]
        for place, of_slice in enumerate(measure_names.names(SLICES)):
            measure = measure_names.key(self._metric, measure_names.USERS, of_slice)
            found[measure] = np.where(number == place, values, np.nan)
        return found


def _change(
    ours: np.ndarray, theirs: np.ndarray, user: np.ndarray, resamples: int
) -> RelativeChange:
    """As model/evaluation/evaluate.py compares a measure."""
    base = float(np.nanmean(theirs))
    if base <= 0:
        return RelativeChange()
    both = resampled_means({"ours": ours, "theirs": theirs}, user, resamples)
    with np.errstate(divide="ignore", invalid="ignore"):
        same = both["ours"] == both["theirs"]
        span = interval(np.where(same, 0.0, both["ours"] / both["theirs"] - 1))
    low, high = span or (None, None)
    return RelativeChange(
        change=float(np.nanmean(ours)) / base - 1,
        differ=len(np.unique(user[np.abs(ours - theirs) > 0])),
        worse=len(np.unique(user[ours < theirs])),
        low=low,
        high=high,
    )


def rule_of(reason: str) -> str:
    """By which rule a reason of the gate refuses."""
    if "of the trees is" in reason:
        return "order"
    if "the best accepted version" in reason:
        return "best"
    if "days combined" in reason:
        return "days"
    return "slices" if "/users:" in reason else "towers"


def count_refusals(verdicts: list[GateVerdict]) -> dict[str, int]:
    """How many verdicts refuse, in all and by each rule; a verdict may refuse by several. And how
    many let the fixed order serve in place of trees.
    """
    refused: Counter[str] = Counter()
    for verdict in verdicts:
        refused.update({rule_of(reason) for reason in verdict.refused})
    return {
        "refused": sum(not verdict.accepted for verdict in verdicts),
        **{rule: refused[rule] for rule in RULES},
        "fixed_order": sum(bool(verdict.why_not_trees) for verdict in verdicts),
    }
