"""How often the gate refuses good versions.

    python -m benchmarks.gate --json gate.json                  three recommenders, 100 replays of each
    python -m benchmarks.gate --case small_shop --replays 20

Each case runs its days once. A replay draws the users of every day with replacement, and the gate judges
the day on them. The versions are good, so each refusal is false. Broken versions (shuffled item vectors,
trees fitted on shuffled labels, half of the last day's rows) should be refused. Finished days are kept under
--work: the same command continues after a stop.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # like the command line
ROOT = Path(__file__).resolve().parent.parent

from benchmarks.gates.cases import CASES, Run
from benchmarks.gates.replays import RULES, DayValues, count_refusals, judge_broken, replay
from benchmarks.quality.command import machine, write_whole


def figures(run: Run, replays: int) -> dict[str, Any]:
    """The refusals of a case, in total and by day."""
    days = {n: DayValues.read(run, n) for n in run.case.numbers() if n}
    verdicts = [verdict for seed in range(replays) for verdict in replay(run, days, seed)]
    each_day = [
        {
            "day": str(run.case.day(n)),
            "held_out": day.metrics.holdout.users,
            "broken": {
                name: verdict.refused for name, verdict in judge_broken(run, n, day).items()
            },
        }
        for n, day in days.items()
    ]
    return {"verdicts": len(verdicts), **count_refusals(verdicts), "each_day": each_day}


def table(results: dict[str, dict[str, Any]]) -> str:
    """The cases as text: shares of refusing verdicts, in total and by rule, and broken versions."""
    counted = ("refused", *RULES, "fixed_order")
    head = "".join(f"{name:>12}" for name in ("verdicts", *counted))
    lines = [f"{'':16}{head}"]
    for name, case in results.items():
        cells = "".join(f"{case[rule] / case['verdicts']:12.1%}" for rule in counted)
        lines.append(f"{name:16}{case['verdicts']:12}{cells}")
        for day in case["each_day"]:
            for broken, refused in day["broken"].items():
                outcome = f"refused: {refused[0]}" if refused else "ACCEPTED"
                lines.append(f"  {day['day']} {broken}: {outcome}")
    return "\n".join(lines)


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    names = [case.name for case in CASES]
    parser.add_argument("--case", choices=names, action="append", help="only this case")
    parser.add_argument("--replays", type=int, default=100, help="draws of users")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "gate", help="working files")
    options = parser.parse_args()
    results = {}
    for case in CASES:
        if case.name not in (options.case or names):
            continue
        run = Run.lay_out(case, options.work)
        for n in case.numbers():
            run.run_day(n)
            print(f"{case.name}: {case.day(n)} is done", flush=True)
        for users in case.min_users:
            name = case.name if len(case.min_users) == 1 else f"{case.name}/{users}"
            results[name] = figures(run.with_min_users(users), options.replays)
    print(table(results))
    if options.json:
        write_whole(options.json, json.dumps({"machine": machine(), "cases": results}, indent=1))


if __name__ == "__main__":
    main()
