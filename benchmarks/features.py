"""The cost of a large day's training rows, compared with a hand-written script.

    python -m benchmarks.features                             1 and 3 million events, some minutes
    python -m benchmarks.features --events 300000 1000000     smaller
    python -m benchmarks.features --write                     and docs/measurements.md

Each way runs in its own process on the same synthetic days. Activity is log-normal: a few users take hundreds
of items, most take a few. Each user prefers one group of items, and in each group a few items are popular. The
day before is as large: users have histories of 34 items on average, at most 50.

    stage    `twinspire features`: checked records, examples, training rows, the transform graph,
             statistics, corpora, queries and users; an earlier run has cached the day before
    polars   a hand-written script of Polars and NumPy, with the day in memory: only training rows

The cost of a million more events is the difference between the largest and the smallest day, so imports and
start-up do not count. Figures are CPU seconds of all processes, and the largest sum of their memory.
tests/benchmarks/test_features.py checks that both make equal rows. Results go to benchmarks/features.json.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.feature_script import BEFORE, DAY
from benchmarks.processes import ROOT, Checkout, Taken, timed
from benchmarks.quality.command import machine, write_whole

RESULTS = Path(__file__).with_suffix(".json")
PAGE = ROOT / "docs" / "measurements.md"
BEGIN = "<!-- features: begin -->"
END = "<!-- features: end -->"
WAYS = {
    "stage": "`twinspire features`, partials of the day before",
    "polars": "a Polars script by hand",
}
SHARDS = 16

# One shared row for ids outside the vocabulary, so that the script needs no hash of TensorFlow.
PIPELINE = """
[pipeline]
name = "shards-{shards}"
work_root = "{folder}/work"
[source]
events = "{folder}/events/dt={{date}}/"
items = "{folder}/items/dt={{date}}/"
[columns]
user = "user"
item = "item"
time = "time"
[window]
history_days = 2
count_days = 2
train_days = 1
[sources]
use = ["two_tower"]
[beam]
shards = {shards}
[features.user]
kind = "id"
tower = "query"
[features.recent]
kind = "history"
length = 50
[features.now]
kind = "time"
[features.device]
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
days = 2
"""


EVENTS = 10_000_000
USERS = 1_000_000
ITEMS = 500_000
"""Size of the whole world; a scale reduces it."""
_ACTIVITY = 1.5
"""Standard deviation of the logarithm of users' events."""
_LOYAL = 0.6
"""Share of events in the user's own group."""
_ROWS = 1 << 18
"""Rows of a row group."""
_DEVICES = ["phone", "tablet", "desktop"]
_EVENTS = pa.schema(
    [
        ("user", pa.string()),
        ("item", pa.string()),
        ("time", pa.timestamp("us", "UTC")),
        ("device", pa.string()),
    ]
)


def make_logs(folder: Path, events: int, users: int, items: int, seed: int) -> None:
    """Writes `events/dt=D/` of two days and `items/dt=D/` of the first.

    Args:
      events: number of events of each day.
      users: number of users who may be active.
      items: number of items in the catalogue.
    """
    rng = np.random.default_rng(seed)
    groups = max(1, items // 500)
    user_ids = _ids(users, rng)
    item_ids = _ids(items, rng)
    activity = rng.lognormal(0, _ACTIVITY, users)
    bounds = np.cumsum(activity / activity.sum())
    home = rng.integers(0, groups, users)
    for day in (BEFORE, DAY):
        path = _place(folder, "events", day)
        start = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1_000_000)
        time = np.sort(rng.integers(start, start + 86_400_000_000, events))
        with pq.ParquetWriter(path, _EVENTS, compression="zstd") as writer:
            for first in range(0, events, _ROWS):
                times = time[first : first + _ROWS]
                user = np.minimum(np.searchsorted(bounds, rng.random(len(times))), users - 1)
                group = np.where(
                    rng.random(len(times)) < _LOYAL, home[user], rng.integers(0, groups, len(times))
                )
                # The rank in a group: low ranks are taken more often. Item i is in group i mod groups.
                rank = (items // groups * rng.random(len(times)) ** 3).astype(np.int64)
                columns = [
                    user_ids.take(pa.array(user)),
                    item_ids.take(pa.array(group + groups * rank)),
                    pa.array(times).cast(pa.timestamp("us", "UTC")),
                    pa.array(_DEVICES).take(pa.array(rng.integers(0, len(_DEVICES), len(times)))),
                ]
                writer.write_table(pa.table(columns, schema=_EVENTS), _ROWS)
    table = {
        "item": item_ids,
        "kind": pa.array([f"kind {n % groups}" for n in range(items)]),
        "price": rng.lognormal(3, 1, items).astype(np.float32),
    }
    pq.write_table(pa.table(table), _place(folder, "items", BEFORE), compression="zstd")


def _ids(number: int, rng: np.random.Generator) -> pa.Array:
    drawn = rng.bytes(16 * number)
    return pa.array(
        [str(uuid.UUID(bytes=drawn[16 * n : 16 * n + 16], version=4)) for n in range(number)]
    )


def _place(folder: Path, table: str, day: date) -> Path:
    path = folder / table / f"dt={day}" / "part-0.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def lay_out(folder: Path, events: int) -> None:
    """Writes the logs of a synthetic day with this many events, unless they exist."""
    if (folder / "items").exists():
        return
    scale = events / EVENTS
    users = round(scale * USERS)
    items = round(scale * ITEMS)
    make_logs(folder, events, users, items, seed=7)


def pipeline_file(folder: Path, shards: int) -> Path:
    """The pipeline file of a day."""
    file = folder / f"shards-{shards}.toml"
    file.write_text(PIPELINE.format(folder=folder, shards=shards))
    return file


def run_stage(folder: Path, shards: int) -> Taken:
    """Times the stage on a day without partials; the day before has some."""
    file = str(pipeline_file(folder, shards))
    command = ("features", file, "--date", str(DAY), "--force")
    partials = folder / "work" / f"shards-{shards}" / "partials"
    if not partials.exists():
        Checkout.own().twinspire(*command)
    shutil.rmtree(partials / f"dt={DAY}")
    attempts = folder / "work" / f"shards-{shards}" / f"dt={DAY}"
    shutil.rmtree(attempts)  # those of earlier runs would fill the disk
    return Checkout.own().twinspire(*command)


def run_script(folder: Path) -> Taken:
    """Times the script."""
    out = folder / "polars"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.feature_script", str(folder), str(out)]
    return timed(command, ROOT)


def measure(work: Path, sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Times each way at each size; yields rows."""
    for events in sorted(sizes):
        folder = work / str(events)
        lay_out(folder, events)
        for way in WAYS:
            cost = run_stage(folder, SHARDS) if way == "stage" else run_script(folder)
            yield _row(way, events, cost)


def _row(way: str, events: int, cost: Taken) -> dict[str, Any]:
    row = {
        "way": way,
        "events": events,
        "cpu_seconds": round(cost.cpu_seconds, 1),
        "seconds": round(cost.seconds, 1),
        "peak_mb": round(cost.peak_mb),
    }
    print(
        f"{way:7} {events:12,} events {cost.seconds:8.1f} s {cost.cpu_seconds:8.1f} CPU s"
        f" {cost.peak_mb:7,.0f} MB",
        flush=True,
    )
    return row


def marginal(rows: Sequence[Mapping[str, Any]], way: str) -> float | None:
    """CPU seconds of a million more events; None with only one size."""
    sizes = sorted((row["events"], row["cpu_seconds"]) for row in rows if row["way"] == way)
    if len(sizes) < 2:
        return None
    (few, least), (many, most) = sizes[0], sizes[-1]
    return (most - least) / (many - few) * 1_000_000


def table(results: Mapping[str, Any]) -> str:
    """The tables of a run for docs/measurements.md."""
    rows = results["rows"]
    costs = {way: marginal(rows, way) for way in WAYS}
    stage = costs["stage"]
    lines = ["| training rows of a day | a million more events | of the stage |", "|---|--:|--:|"]
    for way, cost in costs.items():
        if cost is not None and stage:
            lines.append(f"| {WAYS[way]} | {cost:.1f} CPU s | {cost / stage:.2f} |")
    lines += [
        "",
        "| way | events | CPU seconds | seconds | peak, GB |",
        "|---|--:|--:|--:|--:|",
    ]
    for row in rows:
        lines.append(
            f"| {row['way']} | {row['events']:,} | {row['cpu_seconds']:,.1f} | {row['seconds']:,.0f} |"
            f" {row['peak_mb'] / 1000:.2f} |"
        )
    lines += ["", f"Before it began, the machine had a load average of {results['load']:.1f}."]
    return "\n".join(lines)


def write_page(results: Mapping[str, Any]) -> None:
    """Writes the tables of a run between the marks of docs/measurements.md."""
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{rest.split(END)[1]}")


def main() -> None:
    """Writes the days, times both ways, and prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 3_000_000])
    parser.add_argument("--work", type=Path, help="folder for logs and working files")
    parser.add_argument(
        "--write", action="store_true", help=f"write {RESULTS.name} and docs/measurements.md"
    )
    args = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="twinspire-features-") as scratch:
        work = (args.work or Path(scratch)).resolve()
        rows = list(measure(work, args.events))
    results = {"machine": machine(), "load": load, "rows": rows}
    print(table(results))
    if args.write:
        write_whole(RESULTS, json.dumps(results, indent=1) + "\n")
        write_page(results)


if __name__ == "__main__":
    main()
