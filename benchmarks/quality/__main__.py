"""Compares the served lists with alternatives, on the same days and with the same scorer.

    python -m benchmarks.quality --keep                            all cases and contenders
    python -m benchmarks.quality --case small-shop/next-day --contender trees --days 1    a quick look
    python -m benchmarks.quality --case globo/next-day --contender twinspire/fixed-order --contender tfrs
    python -m benchmarks.quality --case small-shop/next-day --contender twinspire/first-version
        --contender twinspire/after-28-days    the gain of 28 more days
    python -m benchmarks.quality --judge second-stage --keep       once, by a person: judged days
    python -m benchmarks.quality --tune                            choose the peers' settings on
                                                                   earlier days

Finished runs are kept under --work: the same command continues after a stop. If inputs, settings or the
training code change, new runs are made. With --keep the figures replace those of the same cases and
contenders in results.json, and the tables of README.md and docs/measurements.md.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # like the command line
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
        report.write(report.collect([]))
        return
    results: list[Result] = []
    for results in bench.run(plan):
        if options.json:
            write_whole(options.json, json.dumps(report.collect(results), indent=1))
    measured = report.collect(results)
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
        help="only this contender; may be repeated",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        help="runs of each contender whose result depends on chance: 3 with --judge, else 1",
    )
    parser.add_argument("--days", type=int, help="only this many days of each log, the first ones")
    parser.add_argument(
        "--earlier", action="store_true", help="use the earlier days, on which settings are chosen"
    )
    parser.add_argument(
        "--judge",
        choices=list(JUDGED),
        help="use the judged days of the work of this name; only for a person, once, when that work is"
        " done. Without this option, no purchase after the development days is read",
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
        "--work", type=Path, default=ROOT / "work" / "quality", help="folder of the runs"
    )
    return parser


if __name__ == "__main__":
    main()
