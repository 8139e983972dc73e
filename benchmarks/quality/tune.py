"""Chooses the settings of contenders on earlier days, by the same rule for each, and writes settings.json:
the choice, its recall, all trials, and why the search ended.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.quality import bench, contenders, search_space
from benchmarks.quality.command import write_whole
from benchmarks.quality.figures import HEADLINE
from benchmarks.quality.runs import KINDS

Settings = dict[str, Any]
TRIALS = 30
IN_VAIN = 3
"""This many trials in a row without an improvement end a search."""
CPU_HOURS = 3
"""Limit for a contender on a log."""


def tune(plan: bench.Plan) -> None:
    """Tries each contender's settings and keeps the best: those with the largest sum of recall@50 over the
    log's cases, for the lists that count, as a mean over the earlier days.

    The choices for other logs and contenders stay. Runs are kept, so that a stopped tuning continues. With
    `plan.days`, trials use fewer days; the chosen settings are then measured on all earlier days.
    """
    for log in plan.logs:
        for name in plan.names:
            if name in contenders.PEERS and contenders.takes_part(
                name, bench.prepared(plan, log)[0]
            ):
                _choose(plan, log, name)


def _choose(plan: bench.Plan, log: str, name: str) -> None:
    ready = bench.prepared(plan, log)
    spent = 0.0

    def score(settings: Settings) -> float:
        nonlocal spent
        recalls, cpu = _measure(plan, log, name, settings)
        spent += cpu
        total = sum(of_case[bench.counted(ready[0])] for of_case in recalls.values())
        print(f"{log:20} {name:18} {total:.4f} {settings}", flush=True)
        return round(total, 5)

    start = contenders.start(name, log)
    trials, ended = search(
        start, search_space.ladders(name, log), score, lambda: spent > 3600 * CPU_HOURS
    )
    best = max(trials, key=lambda trial: trial[1])[0]
    record = {
        "settings": best,
        "found": _measure(replace(plan, days=None), log, name, best)[0],
        "trial_days": len(ready),
        "ended": ended,
        "trials": [{"settings": settings, HEADLINE: recalls} for settings, recalls in trials],
    }
    chosen = contenders.all_chosen()
    chosen.setdefault(log, {})[name] = record
    write_whole(contenders.CHOSEN, json.dumps(chosen, indent=1) + "\n")


def search(
    start: Settings,
    ladders: Mapping[str, Sequence[Any]],
    score: Callable[[Settings], float],
    is_late: Callable[[], bool] = lambda: False,
) -> tuple[list[tuple[Settings, float]], str]:
    """Tries the neighbours of the best settings so far, one key after the other, then more distant values.

    Args:
      start: the first settings to try.
      ladders: the values of each key, in order. Other keys of `start` do not change.
      score: higher is better.
      is_late: whether the time is used up.

    Returns: the tried settings, in order, with their scores; and why the search ended.
    """
    trials = [(start, score(start))]
    best, reached = trials[0]
    tried = {_key(start)}
    in_vain = 0
    while len(trials) < TRIALS and in_vain < IN_VAIN:
        settings = next((s for s in _nearest(best, ladders) if _key(s) not in tried), None)
        if settings is None:
            return trials, "nothing left to try"
        if is_late():
            return trials, f"{CPU_HOURS} CPU hours"
        tried.add(_key(settings))
        value = score(settings)
        trials.append((settings, value))
        in_vain += 1
        if value > reached:
            best, reached, in_vain = settings, value, 0
    return trials, f"{IN_VAIN} in a row in vain" if in_vain == IN_VAIN else f"{TRIALS} trials"


def _nearest(best: Settings, ladders: Mapping[str, Sequence[Any]]) -> Iterator[Settings]:
    """All settings that differ in one key, nearest values first."""
    for distance in range(1, max(map(len, ladders.values()), default=0)):
        for key, ladder in ladders.items():
            index = ladder.index(best[key])
            for other in (index + distance, index - distance):
                if 0 <= other < len(ladder):
                    yield {**best, key: ladder[other]}


def _measure(
    plan: bench.Plan, log: str, name: str, settings: Settings
) -> tuple[dict[str, dict[str, float]], float]:
    """Mean recall@50 over the earlier days, by case and kind of lists; and CPU seconds."""
    recalls: dict[str, dict[str, list[float]]] = {}
    cpu = 0.0
    for ready in bench.prepared(plan, log, costly=name in contenders.COSTLY):
        done = bench.once(plan, ready, name, settings, 0)
        cpu += done.record["cpu"]
        for case in ready.split.cases:
            of_case = recalls.setdefault(case.series, {kind: [] for kind in KINDS})
            for kind in KINDS:
                of_case[kind].append(bench.recall(ready, done, case, kind))
    means = {
        case: {kind: round(sum(x) / len(x), 5) for kind, x in kinds.items()}
        for case, kinds in recalls.items()
    }
    return means, cpu


def _key(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)
