"""Runs all logs, days, seeds and contenders, and keeps finished runs."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality import contenders, logs, runs
from benchmarks.quality.days import DEVELOPMENT, TOWERS
from benchmarks.quality.figures import HEADLINE, Result
from benchmarks.quality.logs import CASES
from benchmarks.quality.prepare import Prepared, prepare, slug
from benchmarks.quality.runs import COVERAGE, KINDS, MEASURES, Run
from benchmarks.quality.splits import Case


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The runs to make.

    Attributes:
      work: folder of all kept files.
      cases: names of cases.
      names: names of contenders.
      seeds: number of seeds.
      earlier: whether to use the days on which settings are chosen.
      judge: the judgement whose days are used; None in development.
      days: the number of days of each log, the first ones; None for all.
    """

    work: Path
    cases: Sequence[str]
    names: Sequence[str]
    seeds: int
    earlier: bool = False
    judge: str | None = None
    days: int | None = None

    @property
    def logs(self) -> list[str]:
        """The logs of the cases, in their order."""
        return list(dict.fromkeys(CASES[case] for case in CASES if case in self.cases))


def run(plan: Plan) -> Iterator[list[Result]]:
    """Makes the missing runs. Yields all results so far, each time that a contender has finished the days of
    a log.
    """
    collected: list[Result] = []
    for log in plan.logs:
        for name in plan.names:
            new = results(plan, log, name)
            collected += [result for result in new if result.case in plan.cases]
            yield collected


def results(plan: Plan, log: str, name: str) -> list[Result]:
    """A contender's results on all days of a log: for each case, with and without seen items. Empty if it
    does not take part.
    """
    days = prepared(plan, log, costly=name in contenders.COSTLY)
    if not contenders.takes_part(name, days[0]):
        print(f"{log}: {name} takes no part", flush=True)
        return []
    seeds = 1 if name in contenders.WITHOUT_SEEDS else plan.seeds
    done = [[_run_seed(plan, ready, name, seed) for ready in days] for seed in range(seeds)]
    cases = dict.fromkeys(case.series for ready in days for case in ready.split.cases)
    asked = {
        series: [(n, c) for n, d in enumerate(days) for c in d.split.cases if c.series == series]
        for series in cases
    }
    return [
        _result(
            days,
            done,
            series,
            asked[series],
            name,
            kind,
            plan.judge or DEVELOPMENT,
            settings_of(plan, name, days[0]),
        )
        for series in cases
        for kind in KINDS
    ]


def _result(
    days: Sequence[Prepared],
    done: Sequence[Sequence[Run]],
    series: str,
    asked: Sequence[tuple[int, Case]],
    name: str,
    kind: str,
    period: str,
    settings: Mapping[str, Any],
) -> Result:
    queries = [days[n].queries(case) for n, case in asked]
    measured = [[seed_runs[n].values(case, kind) for n, case in asked] for seed_runs in done]
    answered = len({case.day for ready in days for case in ready.split.cases})
    return Result(
        case=series,
        period=period,
        kind=kind,
        counts=kind == counted(days[0]),
        contender=name,
        values=[
            {m: np.concatenate([part[m] for part in seed_runs]) for m in MEASURES}
            for seed_runs in measured
        ],
        coverage=float(np.mean([part[COVERAGE] for seed_runs in measured for part in seed_runs])),
        day=np.repeat([str(case.day) for _, case in asked], [len(part) for part in queries]),
        user=np.concatenate([part["_user"].to_numpy() for part in queries]),
        earlier=np.concatenate([part["_earlier"].to_numpy() for part in queries]),
        settings=settings,
        cpu=[sum(run.record["cpu"] for run in seed_runs) / answered for seed_runs in done],
        weekly=len(days) < answered,
    )


def counted(ready: Prepared) -> str:
    """The kind of lists that counts on a log, by its pipeline file."""
    return KINDS[ready.pipeline.serving.exclude_seen]


def prepared(plan: Plan, log: str, *, costly: bool = False) -> list[Prepared]:
    """Prepares a log's days, one training after the other."""
    return _prepared(plan.work, log, plan.earlier, plan.judge, costly, plan.days)


@cache
def _prepared(
    work: Path, log: str, earlier: bool, judge: str | None, costly: bool, days: int | None
) -> list[Prepared]:
    which = "earlier" if earlier else judge or DEVELOPMENT
    print(f"{log}: preparing its {which} days", flush=True)
    read = logs.read(log, work / "data", earlier=earlier, judge=judge)
    days_prepared = []
    for split in read.splits(earlier=earlier, costly=costly, most=days):
        number = len({case.day for case in split.cases})
        name = f"{slug(log)}-{which}-{split.last}-{number}"
        days_prepared.append(prepare(split, work / "splits" / name))
    return days_prepared


def settings_of(plan: Plan, name: str, ready: Prepared) -> dict[str, Any]:
    """The settings of a contender's runs."""
    if plan.judge == TOWERS and name in contenders.SERVED:
        return {"sources.use": ["two_tower"]}  # the towers learn the same, and a day costs half
    return dict(contenders.chosen(name, ready.split.name))


def once(plan: Plan, ready: Prepared, name: str, settings: Mapping[str, Any], seed: int) -> Run:
    """A contender's run, which is made unless it exists."""
    folder = runs.run_folder(plan.work, ready, name, settings, seed)
    if done := runs.find(folder):
        return done
    fitted = contenders.fit(name, ready, settings, seed, plan.work)
    return runs.keep(folder, ready, fitted, settings, seed)


def _run_seed(plan: Plan, ready: Prepared, name: str, seed: int) -> Run:
    begin = time.monotonic()
    done = once(plan, ready, name, settings_of(plan, name, ready), seed)
    figures = ", ".join(
        f"{case.name.split('/')[1]} {recall(ready, done, case):.4f}" for case in ready.split.cases
    )
    spent = time.monotonic() - begin
    print(f"{ready.split.name:20} seed {seed} {name:22} {figures}  ({spent:.0f} s)", flush=True)
    return done


def recall(ready: Prepared, done: Run, case: Case, kind: str | None = None) -> float:
    """Mean recall@50 of the lists that count, over the users of a day with a history."""
    values = done.values(case, kind or counted(ready))[HEADLINE]
    known = ready.queries(case)["_earlier"].to_numpy() > 0
    return float(values[known].mean()) if known.any() else 0.0
