"""What does a longer window cost the stage `features` of a day?

    python -m benchmarks.window --write      windows of 30 and 365 days, 2,000 events a day
    python -m benchmarks.window --events 188000 --windows 8 30 --json large.json

Each window has its own pipeline file on the same made logs: histories, counts and the vocabulary
look back so many days. Timed are processes of `twinspire features --force`: `raw` reads the logs of
the whole window (`--no-reuse`); `first` reads them too and keeps partials; `partials` is the next
run, where days before the day have partials, and the day has none. The ways take turns, round by
round; a figure is the least of all rounds, as other work on the machine only ever adds to it.
"""

import argparse
import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.daily.processes import Checkout, Taken
from benchmarks.quality.command import machine, write_whole

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_suffix(".json")
PAGE = ROOT / "docs" / "measurements.md"
BEGIN = "<!-- window: begin -->"
END = "<!-- window: end -->"
WAYS = {
    "raw": "all logs read (`--no-reuse`)",
    "first": "all logs read, and partials kept",
    "partials": "partials of all days before, its own log read",
}
DAY = date(2024, 12, 30)
USERS_PER_DAY = 1 / 25
"""Users of a day, by its events: a shopping trip has 25 of them."""

PIPELINE = """
[pipeline]
name = "window-{days}"
time_zone = "Europe/Berlin"
work_root = "{folder}/work"
[source]
events = "{folder}/events/dt={{date}}/"
items = "{folder}/items/dt={{date}}/"
[columns]
user = "user"
item = "item"
time = "time"
[window]
history_days = {days}
count_days = {days}
vocabulary_days = {days}
[mix]
sources = ["two_tower", "past"]
[features.user]
kind = "id"
tower = "query"
[features.bought]
kind = "history"
length = 100
[features.when]
kind = "time"
[features.store]
kind = "category"
tower = "query"
[features.item]
kind = "id"
tower = "item"
[features.kind]
kind = "category"
tower = "item"
[features.price]
kind = "number"
tower = "item"
log = true
[features.sold]
kind = "count"
days = 7
[features.age]
kind = "age"
"""


def lay_out(folder: Path, days: int, events: int, seed: int = 7) -> None:
    """Writes `events/dt=D/` of so many days, the last of them `DAY`, and `items/dt=D/`."""
    rng = np.random.default_rng(seed)
    items = max(1000, events // 2)
    table = {
        "item": [f"item-{n:06d}" for n in range(items)],
        "kind": [f"kind {n % 40}" for n in range(items)],
        "price": rng.lognormal(1, 1, items).astype(np.float32),
    }
    users = max(100, events)
    favourites = rng.integers(0, items, (users, 30))
    first = DAY - timedelta(days=days - 1)
    _write(folder / "items" / f"dt={first}", pa.table(table))
    for n in range(days):
        day = first + timedelta(days=n)
        who = np.repeat(rng.integers(0, users, round(events * USERS_PER_DAY)), 25)
        anew = (items * rng.random(len(who)) ** 3).astype(np.int64)
        liked = favourites[who, rng.integers(0, 30, len(who))]
        what = np.where(rng.random(len(who)) < 0.6, liked, anew)
        start = int(datetime(day.year, day.month, day.day, 7, tzinfo=UTC).timestamp())
        at = (start + rng.integers(0, 12 * 3600, len(who))) * 1_000_000
        logs = {
            "user": [f"household-{u:06d}" for u in who],
            "item": [f"item-{i:06d}" for i in what],
            "time": pa.array(at).cast(pa.timestamp("us", "UTC")),
            "store": [f"store {u % 50}" for u in who],
        }
        _write(folder / "events" / f"dt={day}", pa.table(logs))


def _write(folder: Path, table: pa.Table) -> None:
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "part-0.parquet", compression="zstd")


def pipeline_file(folder: Path, days: int) -> Path:
    """The pipeline file of a window."""
    file = folder / f"window-{days}.toml"
    file.write_text(PIPELINE.format(days=days, folder=folder))
    return file


def measure(folder: Path, windows: Sequence[int], repeat: int) -> list[dict[str, Any]]:
    """Times each way with each window; returns rows."""
    rounds: dict[tuple[int, str], list[Taken]] = defaultdict(list)
    for _ in range(repeat):
        # The windows take turns within each way: their ratio is of neighbours in time.
        for way, options in (("raw", ("--no-reuse",)), ("first", ()), ("partials", ())):
            for days in windows:
                file = pipeline_file(folder, days)
                partials = folder / "work" / f"window-{days}" / "partials"
                if way == "first":
                    shutil.rmtree(partials, ignore_errors=True)
                if way == "partials":  # the day's own is to be made, as on the day itself
                    shutil.rmtree(partials / f"dt={DAY}")
                taken = Checkout.own().twinspire(
                    "features", str(file), "--date", str(DAY), "--force", *options
                )
                rounds[days, way].append(taken)
                print(_line(days, way, taken), flush=True)
    return [
        {
            "window": days,
            "way": way,
            "cpu_seconds": round(min(one.cpu_seconds for one in taken), 2),
            "seconds": round(min(one.seconds for one in taken), 2),
            "peak_mb": round(min(one.peak_mb for one in taken)),
        }
        for (days, way), taken in rounds.items()
    ]


def _line(days: int, way: str, taken: Taken) -> str:
    return (
        f"{days:4} days {way:9} {taken.seconds:7.1f} s {taken.cpu_seconds:7.2f} CPU s"
        f" {taken.peak_mb:7,.0f} MB"
    )


def table(told: Mapping[str, Any]) -> str:
    """What docs/measurements.md shows of a run: CPU seconds by way and window, and what a day of
    the longer window costs.
    """
    seconds = {(row["way"], row["window"]): row["cpu_seconds"] for row in told["rows"]}
    shortest, *_, longest = sorted({window for _, window in seconds})
    lines = [
        f"| CPU seconds of `features` | {shortest} days | {longest} days | ratio | a further day |",
        "|---|--:|--:|--:|--:|",
    ]
    for way in dict.fromkeys(way for way, _ in seconds):
        short = seconds[way, shortest]
        long = seconds[way, longest]
        a_day = (long - short) / (longest - shortest) * 1000
        lines.append(
            f"| {WAYS[way]} | {short:.1f} | {long:.1f} | {long / short:.2f} | {a_day:.1f} ms |"
        )
    lines += ["", f"Before it began, the machine had a load average of {told['load']:.1f}."]
    return "\n".join(lines)


def write_page(told: Mapping[str, Any]) -> None:
    """Keeps a run, and puts its table between the marks of docs/measurements.md."""
    write_whole(RESULTS, json.dumps(told, indent=1) + "\n")
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table(told)}\n{END}{rest.split(END)[1]}")


def main() -> None:
    """Lays the shop out, times, prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, nargs="+", default=[30, 365])
    parser.add_argument("--events", type=int, default=2000, help="of a day")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--work", type=Path, help="folder for logs and working files")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument(
        "--write", action="store_true", help="write benchmarks/window.json and docs/measurements.md"
    )
    args = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        folder = (args.work or Path(scratch)).resolve()
        if not (folder / "events").exists():
            lay_out(folder, max(args.windows) + 7, args.events)
        rows = measure(folder, args.windows, args.repeat)
    told = {"events_per_day": args.events, "machine": machine(), "load": load, "rows": rows}
    print(table(told))
    if args.json:
        write_whole(args.json, json.dumps(told, indent=1) + "\n")
    if args.write:
        write_page(told)


if __name__ == "__main__":
    main()
