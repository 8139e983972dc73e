"""How often does the gate refuse a good version?

    python -m benchmarks.gate --json gate.json                  three recommenders, 100 replays of each
    python -m benchmarks.gate --case small_shop --replays 20

Days of each are run once, each version going on from the one before, and what was found for each
user is kept. A replay then draws the users of every day anew, with replacement, and the gate judges
every day by them, also against the best version before, the fixed order, and several days
together: of the small shop with `gate.min_users` as it is, and with so few that its days suffice.
All versions are good, so that each refusal is a false one. Days that are done are kept under
--work: the same command goes on after a stop.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parent.parent

from benchmarks.gates.cases import CASES, Run
from benchmarks.gates.replays import RULES, DayValues, count_refusals, replay
from benchmarks.quality.command import machine, write_whole


def figures(run: Run, replays: int) -> dict[str, Any]:
    """The refusals of a case, and what its days were."""
    days = {n: DayValues.read(run, n) for n in run.case.numbers() if n}
    verdicts = [verdict for seed in range(replays) for verdict in replay(run, days, seed)]
    told = []
    for n, day in days.items():
        held_out = day.metrics.holdout
        change = held_out.change_of(run.p.gate.metric)
        told.append(
            {
                "day": str(run.case.day(n)),
                "held_out": held_out.users,
                "change": change.change,
                "best": day.metrics.best.version if day.metrics.best else None,
            }
        )
    return {"verdicts": len(verdicts), **count_refusals(verdicts), "each_day": told}


def table(found: dict[str, dict[str, Any]]) -> str:
    """The cases as text: shares of verdicts that refuse, in all and by rule."""
    head = "".join(f"{name:>10}" for name in ("verdicts", "refused", *RULES))
    lines = [f"{'':16}{head}"]
    for name, case in found.items():
        shares = [case[counted] / case["verdicts"] for counted in ("refused", *RULES)]
        cells = "".join(f"{share:10.1%}" for share in shares)
        lines.append(f"{name:16}{case['verdicts']:10}{cells}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [case.name for case in CASES]
    parser.add_argument("--case", choices=names, action="append", help="which; all by default")
    parser.add_argument("--replays", type=int, default=100, help="draws of users")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "gate", help="working files")
    chosen = parser.parse_args()
    found = {}
    for case in CASES:
        if chosen.case and case.name not in chosen.case:
            continue
        run = Run.lay_out(case, chosen.work)
        for n in case.numbers():
            run.run_day(n)
            print(f"{case.name}: {case.day(n)} is there", flush=True)
        for users in case.min_users:
            name = case.name if len(case.min_users) == 1 else f"{case.name}/{users}"
            found[name] = figures(run.with_min_users(users), chosen.replays)
    print(table(found))
    if chosen.json:
        write_whole(chosen.json, json.dumps({"machine": machine(), "cases": found}, indent=1))


if __name__ == "__main__":
    main()
