"""Chooses the settings of peers on earlier days, one key after the other, and writes
settings.json.
"""

import json
from collections.abc import Mapping
from typing import Any

from benchmarks.quality import bench, contenders
from benchmarks.quality.command import write_whole
from benchmarks.quality.figures import HEADLINE
from benchmarks.quality.prepare import Prepared
from benchmarks.quality.splits import CASES


def tune(plan: bench.Plan) -> None:
    """Tries each contender's alternatives and keeps the best by the sum of recall@50 over the
    split's cases.

    What had been chosen for other splits and contenders stays. A stopped tuning goes on.
    """
    for split in dict.fromkeys(CASES[case] for case in plan.cases):
        ready = bench.prepared(plan, split)
        for name in contenders.TUNED:
            if name in plan.names:
                _keep(split, name, _best(plan, ready, name), quick=plan.quick)


def _best(plan: bench.Plan, ready: Prepared, name: str) -> dict[str, Any]:
    """Goes up and down each setting's ladder, one after the other, for as long as a step makes it
    better.
    """
    best = contenders.start(name, ready)
    score = _try(plan, ready, name, best)
    tried = [{"settings": dict(best), HEADLINE: score}]
    for key, ladder in contenders.ladders(name, ready.split.name).items():
        start = best
        for step in (1, -1):
            while 0 <= (there := ladder.index(best[key]) + step) < len(ladder):
                other = {**best, key: ladder[there]}
                found = _try(plan, ready, name, other)
                tried.append({"settings": {key: ladder[there]}, HEADLINE: found})
                if found <= score:
                    break
                best = other
                score = found
            if best is not start:
                break  # it came from the other side
    return {"settings": best, HEADLINE: score, "tried": tried}


def _try(plan: bench.Plan, ready: Prepared, name: str, settings: Mapping[str, Any]) -> float:
    asked = contenders.less(name, settings, ready.split) if plan.quick else settings
    done, _ = bench.once(plan, ready, name, asked, 0)
    score = sum(measures[HEADLINE] for measures in done.told["measures"].values())
    print(f"{ready.split.name:22} {name:16} {score:.4f} {dict(settings)}", flush=True)
    return round(score, 5)


def _keep(split: str, name: str, found: dict[str, Any], *, quick: bool) -> None:
    if quick:
        print(f"{split} {name}: {found['settings']} (quick: not kept)")
        return
    chosen = json.loads(contenders.CHOSEN.read_text()) if contenders.CHOSEN.exists() else {}
    chosen.setdefault(split, {})[name] = found
    write_whole(contenders.CHOSEN, json.dumps(chosen, indent=1) + "\n")
