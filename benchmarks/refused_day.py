"""What is it worth that the catalogue follows where the gate refuses a day? (docs/decisions/0083)

    python -m benchmarks.quality --case globo/next-day --contender twinspire/served    makes the versions
    python -m benchmarks.refused_day --json refused_day.json

The next day's readers of each of Globo's test days, as `benchmarks.quality` asks for them, as if the
gate had refused the day: by the version of the day before as it was, by the same towers with the
catalogue of the refused day, and by the day's own version, which the gate had accepted. Recall@50 of
what is served and of the two-tower alone, with 95% intervals over users.
"""

import json
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

import numpy as np

from benchmarks.quality import bench, command, means, runs, served
from benchmarks.quality.logs import CASES
from benchmarks.quality.ours import Fitted
from serving.version.loaded_version import Version
from twinspire.runs import live_catalogue
from twinspire.runs.day_run import DayRun
from twinspire_core.config.source_names import TWO_TOWER

MEASURE = "kept/recall@50"
ASKED = {"served": None, "two-tower": TWO_TOWER}


def main() -> None:
    """Asks each day and prints the table."""
    parser = command.parser_of_chains(__doc__)
    parser.add_argument("--case", choices=list(CASES), default="globo/next-day", help="what to ask")
    args = parser.parse_args()
    plan = bench.Plan(work=args.work, cases=(args.case,), names=(), seeds=1, days=args.days)
    found: dict[str, list[np.ndarray]] = {}
    users: list[np.ndarray] = []
    for ready in bench.prepared(plan, CASES[args.case]):
        case = next(case for case in ready.split.cases if case.of == args.case)
        users.append(ready.queries(case)["_user"].to_numpy())
        chain = served.chain_of(ready.split, {}, 0, args.work)
        chain.live_after(ready.split.last)
        asked = list(served.requests(ready, case))
        now = datetime.combine(case.day or ready.split.last, time(12), chain.p.zone)
        for name, version in versions(chain, ready.split.last):
            for source_name, source in ASKED.items():
                rows = served.ask(version, asked, now, source, exclude_seen=False)
                lists = served.positions(version, rows, ready.corpus()["_item"])
                score = runs.score(ready, case, Fitted({case.name: lists}, 0.0))[MEASURE]
                found.setdefault(f"{source_name}, {name}", []).append(score)
        told = (f"{name} {parts[-1].mean():.4f}" for name, parts in found.items())
        print(f"after {ready.split.last}: {'; '.join(told)}", flush=True)
    figures = means.with_intervals(found, users)
    if args.json:
        command.write_whole(
            args.json, json.dumps({"machine": command.machine(), "found": figures}, indent=1) + "\n"
        )


def versions(chain: served.Chain, day: date) -> Iterator[tuple[str, Version]]:
    """What could be served after a day: named, and opened."""
    state = DayRun(chain.p, day).state
    before = state.accepted_before(day)
    assert before, "a test day is never the first of its chain"
    yield "as it was", Version.open(chain.p, before)
    followed = live_catalogue.refresh(DayRun(chain.p, day), version=before, promote="no")
    yield "with the day's catalogue", Version.open(chain.p, followed["version"])
    yield "the day's own", Version.open(chain.p, state.accepted_before(day + timedelta(days=1)))


if __name__ == "__main__":
    main()
