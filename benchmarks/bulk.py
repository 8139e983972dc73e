"""Users a second and peak memory of `twinspire recommend --queries`: lists for a whole file of
requests.

    python -m benchmarks.bulk --json bulk.json            100 items each of 50,000, for 20,000 users and for 100,000
    python -m benchmarks.bulk --quick --json bulk.json    of 5,000, for 4,000 users and for 16,000

The version is made by the commands (load/world.py) and kept under `work/serving` for the next run;
its query tower takes raw features and a history of 20, and pools that by its mean, and its ranker is
of made-up labels (load/made_ranker.py). A line of the file gives one user's. Each row is a process
of its own, from which the lists come as Parquet or as JSON lines; starting it, loading the version
and the first 2,048 lists are not timed, and the median is of alternating runs. `seconds of CPU`
tells of the work where other programs take part of the machine. Memory is the process's peak: it
must not grow with the number of users.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
# In this order: the package `serving`, not its benchmark

import numpy as np

from benchmarks.load import made_ranker, world
from benchmarks.quality.command import machine, write_whole

K = 100
WHOLE = {"items": 50_000, "users": (20_000, 100_000), "times": 3}
QUICK = {"items": 5_000, "users": (4_000, 16_000), "times": 1}
RUN = """
import json, resource, sys, time
from serving.batch.bulk import recommend_lines
from serving.batch.request_lines import BATCH
from serving.version.loaded_version import Version
from twinspire_core.config.pipeline import load

pipeline, warm, queries, out, k, source = sys.argv[1:]
version, how = Version.open(load(pipeline)), {"source": source or None}
recommend_lines(version, warm, out, int(k), **how)
clock, cpu = time.perf_counter(), time.process_time()
done = recommend_lines(version, queries, out, int(k), **how)
clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"users": done["queries"], "short": done["short"], "seconds": clock, "cpu": cpu, "peak_mb": peak}))
"""


class Case(NamedTuple):
    """What is measured: so many users' lists by a source, in a format."""

    users: int
    contender: str
    ending: str

    @property
    def name(self) -> str:
        """As in the table."""
        return f"{self.users:,} users, {'Parquet' if self.ending == '.parquet' else 'JSON Lines'}"


def cases(users: tuple[int, ...]) -> list[Case]:
    """All of them, by the two-tower alone, by the mix, and in the order of a ranker."""
    contenders = ("twinspire/two_tower", "twinspire/mix", "twinspire/ranked")
    endings = (".parquet", ".jsonl")
    return [
        Case(n, contender, ending) for contender in contenders for ending in endings for n in users
    ]


def write_queries(file: Path, users: int, items: int) -> None:
    """Requests of so many users, one a line."""
    with file.open("wb") as lines:
        for start in range(0, users, 1000):
            for body in world.bodies(items, K, None, min(1000, users - start), seed=start):
                lines.write(json.dumps(json.loads(body)["query"]).encode() + b"\n")


def measure(case: Case, pipeline: Path, folder: Path) -> dict[str, float]:
    """One run of one case."""
    source = case.contender.rpartition("/")[2]
    files = [folder / "warm.jsonl", folder / f"{case.users}.jsonl", folder / f"out{case.ending}"]
    command = [sys.executable, "-c", RUN, str(pipeline), *map(str, files), str(K), source]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{case} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    if told["users"] != case.users or told["short"]:
        sys.exit(
            f"Every user gets {K} items; {case} gave {told['users']} lists, {told['short']} of them"
            " shorter."
        )
    speed = {"users/s": case.users / told["seconds"], "users/s of CPU": case.users / told["cpu"]}
    print(
        f"{case.name:28} {case.contender:22} {speed['users/s']:8,.0f} users/s"
        f" {told['peak_mb']:7,.0f} MB",
        flush=True,
    )
    return {**speed, "peak_mb": told["peak_mb"]}


def rows(found: dict[Case, list[dict[str, float]]]) -> Iterator[dict[str, Any]]:
    """The figures in the house form."""
    units = {"users/s": "1/s", "users/s of CPU": "1/s", "peak_mb": "MB"}
    for case, runs in found.items():
        for metric, unit in units.items():
            low, value, high = (
                round(float(x), 1) for x in np.quantile([run[metric] for run in runs], [0, 0.5, 1])
            )
            figures = {"metric": metric, "value": value, "low": low, "high": high, "unit": unit}
            yield {"case": case.name, "contender": case.contender, **figures}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer users and items")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    size = QUICK if options.quick else WHOLE
    pipeline = made_ranker.published(world.scratch(), size["items"])
    all_cases = cases(size["users"])
    found: dict[Case, list[dict[str, float]]] = {case: [] for case in all_cases}
    with tempfile.TemporaryDirectory() as scratch:
        for name, users in [("warm", 2048), *((str(users), users) for users in size["users"])]:
            write_queries(Path(scratch) / f"{name}.jsonl", users, size["items"])
        for _ in range(size["times"]):
            for case in all_cases:
                found[case].append(measure(case, pipeline, Path(scratch)))
    if options.json:
        write_whole(
            options.json, json.dumps({"machine": machine(), "rows": list(rows(found))}, indent=1)
        )


if __name__ == "__main__":
    main()
