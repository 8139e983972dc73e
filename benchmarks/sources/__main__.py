"""What does a candidate source add to what is served?

    python -m benchmarks.sources --json sources.json                  groceries, 14 days
    python -m benchmarks.sources --case globo --days 4 --json f.json   clicks
    python -m benchmarks.sources --no-towers                          of the sources that need no model alone

A two-tower is trained on the pipeline file's window, then day by day. Before a day is trained on,
each source makes a list for each of the day's users as of the start of the day, with constants
fitted on the days before. Of the lists of the days before, the weights of several fusions are
fitted: with the sources of release 0.2.0, and with others besides. On the day's users each of them
finds a recall@50; differences are paired, and their 95% intervals take users as the unit, over all
days. Nothing that is measured on a day has seen it. Days that are done are kept under --work: the
same command goes on after a stop.
"""

import argparse
import json
import os
from datetime import timedelta
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.quality.command import machine, parse_setting, write_whole
from benchmarks.quality.data import ROOT
from benchmarks.quality.prepare import override
from benchmarks.sources.cases import LOGS, Log
from benchmarks.sources.figures import measure, table
from benchmarks.sources.kept_days import read_lists, run_day


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=list(LOGS), default="groceries", help="which log")
    parser.add_argument("--sample", type=int, default=1, help="one user in so many")
    parser.add_argument("--days", type=int, default=14, help="days after the first version's")
    parser.add_argument("--no-towers", action="store_true", help="train no two-tower")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a key of the pipeline file"
    )
    parser.add_argument(
        "--work", type=Path, default=ROOT / "work" / "sources", help="where days are kept"
    )
    options = parser.parse_args()
    log = LOGS[options.case](options.work / f"{options.case}-{options.sample}", options.sample)
    settings = dict(parse_setting(text) for text in options.set)
    log = Log(p=override(log.p, settings), first=log.first, folder=log.folder)
    for n in range(options.days + 1):
        run_day(log, n, towers=not options.no_towers)
        print(log.first + timedelta(days=n), flush=True)
    rows = measure(log, options.days)
    chosen = [read_lists(log, n).constants for n in range(1, options.days + 1)]
    if options.json:
        found = {"machine": machine(), "lists": rows, "constants": chosen}
        write_whole(options.json, json.dumps(found, indent=1))
    print(table(rows))
    print(chosen[-1])


if __name__ == "__main__":
    main()
