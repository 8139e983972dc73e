"""Goes through splits, seeds and contenders, and keeps what is done."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality import contenders, runs
from benchmarks.quality.figures import HEADLINE, METRICS, Result
from benchmarks.quality.prepare import Prepared, prepare, slug
from benchmarks.quality.runs import Run
from benchmarks.quality.splits import CASES, SPLITS, Case


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be run.

    Attributes:
      work: folder of everything that is kept.
      cases: names of cases.
      names: of contenders.
      seeds: how many.
      quick: less of everything.
      earlier: on the days that settings are chosen on.
      settings: put over the pipeline files, for our own contenders.
    """

    work: Path
    cases: Sequence[str]
    names: Sequence[str]
    seeds: int
    quick: bool = False
    earlier: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether this is the full benchmark."""
        everything = set(self.cases) == set(CASES) and set(self.names) == set(contenders.NAMES)
        return everything and self.seeds >= 3 and not (self.quick or self.earlier or self.settings)


def run(plan: Plan) -> Iterator[list[Result]]:
    """Runs what is not yet done; yields all results so far, each time that there is a new one."""
    told: dict[tuple[str, str], Result] = {}
    for split in dict.fromkeys(CASES[case] for case in CASES if case in plan.cases):
        ready = prepared(plan, split)
        cases = [case for case in ready.split.cases if case.name in plan.cases]
        for seed in range(plan.seeds):
            for name in plan.names:
                if (seed and name in contenders.WITHOUT_SEEDS) or not contenders.differs(
                    name, ready
                ):
                    continue
                _one(plan, ready, name, seed)
                for case in cases:
                    told[case.name, name] = result(plan, ready, case, name, seed + 1)
                yield list(told.values())


def prepared(plan: Plan, split: str) -> Prepared:
    """Lays a split out."""
    work = plan.work / "quick" if plan.quick else plan.work
    days = "earlier" if plan.earlier else "test"
    print(f"{split}: laying out its {days} days", flush=True)
    made = SPLITS[split](work / "data", quick=plan.quick, earlier=plan.earlier)
    return prepare(made, work / "splits" / f"{slug(split)}-{days}")


def settings_of(plan: Plan, name: str, ready: Prepared) -> dict[str, Any]:
    """The settings of a contender's runs."""
    found = dict(contenders.chosen(name, ready.split.name))
    if name.startswith("twinspire") and name not in contenders.ENCODERS:
        found = {**plan.settings, **found}
    return contenders.less(name, found, ready.split) if plan.quick else found


def once(
    plan: Plan, ready: Prepared, name: str, settings: Mapping[str, Any], seed: int
) -> tuple[Run, bool]:
    """A contender's run, and whether it is new."""
    folder = runs.place(plan.work, ready, name, settings, seed)
    if done := runs.find(folder):
        return done, False
    fitted = contenders.fit(name, ready, settings, seed, plan.work)
    return runs.keep(folder, ready, fitted, settings, seed), True


def _one(plan: Plan, ready: Prepared, name: str, seed: int) -> None:
    begin = time.monotonic()
    done, new = once(plan, ready, name, settings_of(plan, name, ready), seed)
    figures = ", ".join(
        f"{case.split('/')[1]} {m[HEADLINE]:.4f}" for case, m in done.told["measures"].items()
    )
    how = f"{time.monotonic() - begin:.0f} s" if new else "done before"
    print(f"{ready.split.name:22} seed {seed} {name:26} {HEADLINE}: {figures}  ({how})", flush=True)


def result(plan: Plan, ready: Prepared, case: Case, name: str, seeds: int) -> Result:
    """What the runs of a contender came to on a case, of the first so many seeds."""
    n = 1 if name in contenders.WITHOUT_SEEDS else seeds
    done = [once(plan, ready, name, settings_of(plan, name, ready), seed)[0] for seed in range(n)]
    return Result(
        case=case.name,
        contender=name,
        means={m: [r.told["measures"][case.name][m] for r in done] for m in METRICS},
        values=[r.values(case)[HEADLINE] for r in done],
        user=np.unique(ready.queries(case)["_user"].to_numpy(), return_inverse=True)[1],
        seconds=[r.told["seconds"] for r in done],
        rate=[r.told["rate"] for r in done if r.told["rate"]],
    )
