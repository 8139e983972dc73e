"""What is served beside what one would use instead, on the same days, scored by one scorer.

    python -m benchmarks.quality --keep                            all cases and contenders
    python -m benchmarks.quality --case small-shop/next-day --contender trees --days 1    a look
    python -m benchmarks.quality --case globo/next-day --contender twinspire/fixed-order --contender tfrs
    python -m benchmarks.quality --case small-shop/next-day --contender twinspire/first-version
        --contender twinspire/after-28-days    what 28 days of versions are worth
    python -m benchmarks.quality --judge second-stage --keep       once, by a person: the judged days
    python -m benchmarks.quality --tune                            choose the peers' settings on
                                                                   earlier days

Runs are kept under --work as they are done: the same command goes on after a stop. A change of
inputs, settings or of the code that trains makes new ones. With --keep the figures go into
results.json, in place of what it had of the same cases and contenders, and from there into the tables
of README.md and docs/measurements.md.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line has it
ROOT = Path(__file__).resolve().parents[2]

from benchmarks.quality import bench, contenders, report, tune
from benchmarks.quality.command import write_whole
from benchmarks.quality.days import JUDGED
from benchmarks.quality.figures import Result
from benchmarks.quality.logs import CASES, is_judged


def main() -> None:
    options = _parser().parse_args()
    open_cases = [case for case in CASES if not options.judge or is_judged(case)]
    if closed := set(options.case or ()) - set(open_cases):
        sys.exit(
            f"Only groceries and the small shop have judged days; --judge was given with"
            f" {', '.join(sorted(closed))}. Leave it out of --case: its days are development."
        )
    if options.judge and (options.tune or options.earlier):
        sys.exit("Nothing is chosen on judged days: leave --judge out, or --tune and --earlier.")
    plan = bench.Plan(
        work=options.work,
        cases=options.case or open_cases,
        names=options.contender or list(contenders.NAMES),
        seeds=1 if options.tune else options.seeds or (3 if options.judge else 1),
        earlier=options.earlier or options.tune,
        judge=options.judge,
        days=options.days,
    )
    if options.tune:
        tune.tune(plan)
        return
    if options.pages:
        report.write(report.told([]))
        return
    found: list[Result] = []
    for found in bench.run(plan):
        if options.json:
            write_whole(options.json, json.dumps(report.told(found), indent=1))
    measured = report.told(found)
    print(report.figures_table(measured), report.slices_table(measured), sep="\n\n")
    if options.keep:
        report.write(measured)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--json", type=Path, help="where to write the figures, row by row as they are measured"
    )
    parser.add_argument(
        "--case", action="append", choices=list(CASES), help="only this case; may be repeated"
    )
    parser.add_argument(
        "--contender",
        action="append",
        choices=(*contenders.NAMES, *contenders.served.ON_DEMAND),
        help="only this one; may be repeated",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        help="runs of each contender that chance has a part in: 3 with --judge, else 1",
    )
    parser.add_argument("--days", type=int, help="only so many days of each log, the first ones")
    parser.add_argument(
        "--earlier", action="store_true", help="on the earlier days that settings are chosen on"
    )
    parser.add_argument(
        "--judge",
        choices=list(JUDGED),
        help="for a person, once, when the work of this name is done: on its judged days; without"
        " it no purchase after the development days is read",
    )
    parser.add_argument(
        "--tune", action="store_true", help="choose settings of peers on the earlier days"
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="write results.json and the tables of README.md and docs/measurements.md",
    )
    parser.add_argument(
        "--pages",
        action="store_true",
        help="run nothing: write the tables again",
    )
    parser.add_argument(
        "--work", type=Path, default=ROOT / "work" / "quality", help="where runs are kept"
    )
    return parser


if __name__ == "__main__":
    main()
