"""Chooses the settings of contenders on earlier days, by the same rule for each, and writes
settings.json: what was chosen, what it found, every trial, and why there are no more.
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
"""Trials in a row that bring nothing end a search."""
CPU_HOURS = 3
"""Of a contender on a log."""


def tune(plan: bench.Plan) -> None:
    """Tries each contender's settings and keeps the best by the sum of recall@50 over the log's
    cases, of the lists that count, the mean over the earlier days.

    What had been chosen for other logs and contenders stays. Runs are kept, so that a stopped
    tuning goes on. With fewer days the trials are of these; what the chosen settings find is told
    of all earlier days in any case.
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
        found, cpu = _found(plan, log, name, settings)
        spent += cpu
        total = sum(of_case[bench.counted(ready[0])] for of_case in found.values())
        print(f"{log:20} {name:18} {total:.4f} {settings}", flush=True)
        return round(total, 5)

    start = contenders.start(name, log)
    trials, ended = search(
        start, search_space.ladders(name, log), score, lambda: spent > 3600 * CPU_HOURS
    )
    best = max(trials, key=lambda trial: trial[1])[0]
    told = {
        "settings": best,
        "found": _found(replace(plan, days=None), log, name, best)[0],
        "trial_days": len(ready),
        "ended": ended,
        "trials": [{"settings": settings, HEADLINE: found} for settings, found in trials],
    }
    chosen = contenders.all_chosen()
    chosen.setdefault(log, {})[name] = told
    write_whole(contenders.CHOSEN, json.dumps(chosen, indent=1) + "\n")


def search(
    start: Settings,
    ladders: Mapping[str, Sequence[Any]],
    score: Callable[[Settings], float],
    is_late: Callable[[], bool] = lambda: False,
) -> tuple[list[tuple[Settings, float]], str]:
    """Tries the neighbours of what is best so far, one key after the other; farther ones where all
    nearer ones have been tried.

    Args:
      start: tried first.
      ladders: the values of each key, in order. Keys of `start` that have none stay as they are.
      score: the higher, the better.
      is_late: whether no more time may be spent.

    Returns: what was tried, in order, with its score; and why no more was.
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
        found = score(settings)
        trials.append((settings, found))
        in_vain += 1
        if found > reached:
            best, reached, in_vain = settings, found, 0
    return trials, f"{IN_VAIN} in a row in vain" if in_vain == IN_VAIN else f"{TRIALS} trials"


def _nearest(best: Settings, ladders: Mapping[str, Sequence[Any]]) -> Iterator[Settings]:
    """All settings that differ in one key, the nearest values first."""
    for distance in range(1, max(map(len, ladders.values()), default=0)):
        for key, ladder in ladders.items():
            place = ladder.index(best[key])
            for there in (place + distance, place - distance):
                if 0 <= there < len(ladder):
                    yield {**best, key: ladder[there]}


def _found(
    plan: bench.Plan, log: str, name: str, settings: Settings
) -> tuple[dict[str, dict[str, float]], float]:
    """Recall@50 by case and kind of lists, the mean over the earlier days; and CPU seconds."""
    found: dict[str, dict[str, list[float]]] = {}
    cpu = 0.0
    for ready in bench.prepared(plan, log, costly=name in contenders.COSTLY):
        done = bench.once(plan, ready, name, settings, 0)
        cpu += done.told["cpu"]
        for case in ready.split.cases:
            of_case = found.setdefault(case.of, {kind: [] for kind in KINDS})
            for kind in KINDS:
                of_case[kind].append(bench.recall(ready, done, case, kind))
    means = {
        case: {kind: round(sum(x) / len(x), 5) for kind, x in kinds.items()}
        for case, kinds in found.items()
    }
    return means, cpu


def _key(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)
