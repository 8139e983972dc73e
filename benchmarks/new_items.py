"""What is it worth that a server lists items that came after its version? (docs/decisions/0082)

    python -m benchmarks.quality --case globo/last-click --contender twinspire/sent    makes the versions
    python -m benchmarks.new_items --json new_items.json

The last click of each visit on Globo's test days, as `benchmarks.quality` asks for it, but found by the
article's id, whether the version had it or not. Asked are the versions that were live in the morning,
sent nothing, and sent all that happened up to the last full five minutes without and with new items; and
what was read most up to the same moment, an event counting half after an hour, of the version's items and
of all. Hits among the first 50, with 95% intervals over users.

The log has no time of a visit's last click: it says 30 seconds after the one before, whenever it was. With
--timed neither a server nor a count gets clicks that stand so: else they would know some of what was not
yet read (docs/decisions/0084).
"""

import json
from collections.abc import Iterator
from datetime import datetime, time
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.quality import bench, command, means, served, served_with_events
from benchmarks.quality.prepare import Prepared
from benchmarks.quality.splits import Case
from serving.version.loaded_version import Version

K = 50
NEW_ITEMS = 10_000
"""The server's own limit."""
HALF_LIFE = 3_600 * 1_000_000
MADE_UP = 30 * 1_000_000
"""Between a visit's last click and the one before it, in microseconds, whenever it was."""
BIG, FIRST = 1_000, 5
STEP = served_with_events.MINUTES * 60_000_000

Lists = list[list[str]]
"""Ids by query, the best first."""


def main() -> None:
    """Asks each day and prints the table."""
    parser = command.parser_of_chains(__doc__)
    parser.add_argument(
        "--timed", action="store_true", help="go by clicks alone whose time the log tells"
    )
    args = parser.parse_args()
    plan = bench.Plan(
        work=args.work, cases=("globo/last-click",), names=(), seeds=1, days=args.days
    )
    hits: dict[str, list[np.ndarray]] = {}
    users: list[np.ndarray] = []
    came: list[np.ndarray] = []
    days = bench.prepared(plan, "globo")
    if args.timed:
        tell_shares(days[-1].log())
    for ready in days:
        case = next(case for case in ready.split.cases if not case.frozen)
        wanted = last_clicks(ready, case)
        users.append(wanted["_user"].to_numpy())
        came.append(~wanted["_item"].is_in(ready.corpus()["_item"].to_list()).to_numpy())
        for name, lists in asked(ready, case, args.work, timed=args.timed).items():
            listed = zip(wanted["_item"], lists, strict=True)
            found = np.array([item in of_query[:K] for item, of_query in listed])
            hits.setdefault(name, []).append(found)
        of_day = (f"{name} {parts[-1].mean():.3f}" for name, parts in hits.items())
        print(f"after {ready.split.last}: {', '.join(of_day)}", flush=True)
    figures = means.with_intervals(hits, users)
    share = float(np.concatenate(came).mean())
    print(f"{share:.3f} of {sum(map(len, came)):,} last clicks are of items that the version lacks")
    if args.json:
        figures = {"machine": command.machine(), "new": round(share, 4), "found": figures}
        command.write_whole(args.json, json.dumps(figures, indent=1) + "\n")


def last_clicks(ready: Prepared, case: Case) -> pl.DataFrame:
    """`_user`, `_moment` and `_item`, by query."""
    queries = ready.queries(case).select("_user", "_moment")
    clicks = ready.asked().unique(["_user", "_time"], keep="last").rename({"_time": "_moment"})
    found = queries.join(clicks, on=["_user", "_moment"], how="left", maintain_order="left")
    return found.select("_user", "_moment", pl.col("_item").cast(pl.String))


def has_time(events: pl.DataFrame) -> pl.Series:
    """Which of the events, in order of user and time, do not stand exactly 30 seconds after their user's
    one before.
    """
    since = events["_time"].cast(pl.Int64).diff()
    same_user = events["_user"] == events["_user"].shift()
    return ~((since == MADE_UP) & same_user).fill_null(False)


def with_time(events: pl.DataFrame) -> pl.DataFrame:
    """Events without those whose time is made up."""
    events = events.sort("_user", "_time")
    return events.filter(has_time(events))


def tell_shares(events: pl.DataFrame) -> None:
    """Prints how many times of the log are made up, and of how many of the first clicks on what
    became big.
    """
    events = events.sort("_user", "_time")
    events = events.with_columns(made_up=~has_time(events))
    of_item = events.select("made_up", "_item", place=pl.col("_time").rank("ordinal").over("_item"))
    big = of_item.filter((pl.len().over("_item") >= BIG) & (pl.col("place") <= FIRST))
    print(
        f"The time of {events['made_up'].mean():.3f} of {len(events):,} clicks is made up; of the first"
        f" {FIRST} on each item that was clicked {BIG:,} times, that of {big['made_up'].mean():.3f}"
    )


def asked(ready: Prepared, case: Case, work: Path, *, timed: bool) -> dict[str, Lists]:
    """What each way lists."""
    log, of_day = ready.log(), ready.asked()
    if timed:
        log, of_day = with_time(log), with_time(of_day)
    events = pl.concat([log.select("_item", "_time"), of_day.select("_item", "_time")])
    chain = served.chain_of(ready.split, {}, 0, work)
    requests = list(served.requests(ready, case))
    now = datetime.combine(case.day or ready.split.last, time(12), chain.p.zone)

    def lists_of(steps: Iterator[tuple[Version, np.ndarray]]) -> Lists:
        lists: Lists = [[] for _ in requests]
        for version, queries in steps:
            some = [requests[query] for query in queries]
            rows = served.ask(version, some, now, None, exclude_seen=False)
            for query, row in zip(queries, rows, strict=True):
                lists[query] = version.ids[row[row >= 0]].tolist()
        return lists

    def version() -> Version:
        return chain.live_after(ready.split.last)

    def sent(new_items: int) -> Lists:
        return lists_of(served_with_events.in_time(version(), ready, case, new_items, sent=of_day))

    known = set(ready.corpus()["_item"])
    moments = ready.queries(case)["_moment"].cast(pl.Int64).to_numpy()
    return {
        "served, sent nothing": lists_of(iter([(version(), np.arange(len(requests)))])),
        "served, sent events": sent(0),
        "the same with new items": sent(NEW_ITEMS),
        "read most, of the version's items": popular(events, moments, known),
        "read most, of all items": popular(events, moments, None),
    }


def popular(events: pl.DataFrame, moments: np.ndarray, known: set[str] | None) -> Lists:
    """What was read most up to the last full five minutes before each moment."""
    events = events.with_columns(pl.col("_item").cast(pl.String), pl.col("_time").cast(pl.Int64))
    if known is not None:
        events = events.filter(pl.col("_item").is_in(list(known)))
    events = events.sort("_time")
    times = events["_time"].to_numpy()
    ids, items = np.unique(events["_item"].to_numpy(), return_inverse=True)
    begins = moments // STEP * STEP
    counts = np.zeros(len(ids))
    lists: Lists = [[] for _ in begins]
    done, before = 0, int(times[0])
    for begin in np.unique(begins):
        until = int(np.searchsorted(times, begin))
        counts *= 0.5 ** ((begin - before) / HALF_LIFE)
        np.add.at(counts, items[done:until], 0.5 ** ((begin - times[done:until]) / HALF_LIFE))
        done, before = until, begin
        order = np.argsort(-counts, kind="stable")[:K]
        best = ids[order[counts[order] > 0]].tolist()
        for query in np.flatnonzero(begins == begin):
            lists[query] = best
    return lists


if __name__ == "__main__":
    main()
