"""How much of what is found on news stands on clicks whose time is made up? (docs/decisions/0084 and 0085)

    python -m benchmarks.quality --case globo/next-day --contender twinspire/served    makes the versions
    python -m benchmarks.timed_finds --json timed_finds.json
    python -m benchmarks.timed_finds --case globo/last-click

The next day's readers of each of Globo's test days, or last clicks, as `benchmarks.quality` asks for them.
The log says of each visit's last click that it came 30 seconds after the one before, whenever it was, so by
midnight it holds some of what was not yet read. Here an item counts as found only if it had so many clicks
with a time of their own in the week before: any number (as in the benchmark), 1, or 10. Recall@50 of what is
served, of the mix and of the peer that counts what was read in the last hours (before a last click: up to
it), with 95% intervals over users.
"""

import json
from datetime import datetime, time, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.new_items import with_time
from benchmarks.quality import bench, command, contenders, means, runs, served
from benchmarks.quality.ours import Fitted
from benchmarks.quality.prepare import Prepared
from benchmarks.quality.splits import Case
from twinspire_core.config.source_names import MIX

CASES = ("globo/next-day", "globo/last-click")
MEASURE = "kept/recall@50"
PEER = "popular_decayed"
LEAST = (0, 1, 10)
DAYS = 7


def main() -> None:
    """Asks each day and prints the table."""
    parser = command.parser_of_chains(__doc__)
    parser.add_argument("--case", choices=CASES, default=CASES[0], help="what to ask")
    args = parser.parse_args()
    plan = bench.Plan(work=args.work, cases=(args.case,), names=(), seeds=1, days=args.days)
    found: dict[str, list[np.ndarray]] = {}
    users: list[np.ndarray] = []
    for ready in bench.prepared(plan, "globo"):
        case = next(case for case in ready.split.cases if case.of == args.case)
        queries = ready.queries(case)
        has_past = queries["_before"].list.len().to_numpy() > 0
        users.append(queries["_user"].to_numpy()[has_past])
        timed = timed_clicks(ready)
        for name, lists in asked(ready, case, args.work).items():
            for least in LEAST:
                counted = np.where((lists >= 0) & (timed[lists] >= least), lists, -1)
                score = runs.score(ready, case, Fitted({case.name: counted}, 0.0))[MEASURE]
                found.setdefault(f"{name}, {least} or more", []).append(score[has_past])
        print(f"after {ready.split.last}: {sum(timed < 1):,} items have no time", flush=True)
    figures = means.with_intervals(found, users)
    for least in LEAST:
        ours, peers = (figures[f"{name}, {least} or more"][0] for name in ("served", PEER))
        print(f"served over {PEER}, {least} or more: {ours / peers:.3f}")
    if args.json:
        told = {"machine": command.machine(), "found": figures}
        command.write_whole(args.json, json.dumps(told, indent=1) + "\n")


def asked(ready: Prepared, case: Case, work: Path) -> dict[str, np.ndarray]:
    """[Q, 100] positions in the catalogue by who lists them."""
    chain = served.chain_of(ready.split, {}, 0, work)
    version = chain.live_after(ready.split.last)
    requests = list(served.requests(ready, case))
    now = datetime.combine(case.day or ready.split.last, time(12), chain.p.zone)
    corpus = ready.corpus()["_item"]
    ours = {
        name: served.positions(
            version, served.ask(version, requests, now, source, exclude_seen=False), corpus
        )
        for name, source in (("served", None), ("mix", MIX))
    }
    settings = contenders.chosen(PEER, ready.split.name)
    peer = contenders.fit(PEER, ready, settings, 0, work)
    return {**ours, PEER: peer.ranked[case.name]}


def timed_clicks(ready: Prepared) -> np.ndarray:
    """[N] clicks of each item of the catalogue in the week before whose time the log tells."""
    zone = ready.pipeline.zone
    end = datetime.combine(ready.split.last + timedelta(days=1), time(), zone)
    recent = pl.col("_time").cast(pl.Int64) >= (end - timedelta(days=DAYS)).timestamp() * 1e6
    clicks = with_time(ready.log().select("_user", "_item", "_time")).filter(recent)
    counts = clicks.group_by("_item").len()
    found = ready.corpus().join(counts, on="_item", how="left", maintain_order="left")
    return found["len"].fill_null(0).to_numpy()


if __name__ == "__main__":
    main()
