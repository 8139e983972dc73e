"""Seconds and peak memory of each stage of one Globo day, with its parent in place.

    python benchmarks/day.py --json day.json            the day 2017-10-16, the 15 days before it as history
    python benchmarks/day.py --quick --json day.json    the day 2017-10-04, the 3 days before it
    python benchmarks/day.py --repeat 3                 the day three times: medians, with the least and the most

The clicks are found by TWINSPIRE_CLICKS, or beside the checkout. The parent, the day before, is trained first and is
not timed. Every stage is a process of its own, as Airflow runs it.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
CLICKS = Path(os.environ.get("TWINSPIRE_CLICKS", ROOT.parent / "shared" / "data" / "globo_clicks.parquet"))
STAGES = ("features", "train", "embed", "index", "publish")


def twinspire(*arguments: str, env: dict[str, str]) -> tuple[dict, float, float]:
    """Runs a command; its JSON line, seconds and peak memory in MB (largest process)."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "twinspire", *arguments], env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    output = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"twinspire {' '.join(arguments)} ended with {process.returncode}")
    return json.loads(output.splitlines()[-1]), time.monotonic() - started, usage.ru_maxrss / 1024


def measure(day: date, history: int, repeat: int, folder: Path) -> list[dict]:
    """Lays out the clicks, trains the parent, then times each stage of the day, all of them `repeat` times."""
    env = {**os.environ, "TWINSPIRE_NEWS": str(folder)}
    first = day - timedelta(days=history)
    layout = ("--out", f"{folder}/events/dt={{date}}/", "--time", "click_timestamp", "--time-unit", "ms")
    span = ("--time-zone", "Etc/GMT+3", "--from", str(first), "--to", str(day))
    twinspire("partition", str(CLICKS), *layout, *span, env=env)
    pipeline = str(ROOT / "pipelines" / "news.toml")
    twinspire("run", pipeline, "--date", str(day - timedelta(days=1)), env=env)
    twinspire("day", pipeline, "--date", str(day), env=env)
    seconds, peaks = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for number in range(repeat):
        if repeat > 1:
            print(f"{number + 1} of {repeat}", flush=True)
        for stage in STAGES:
            _, taken, peak = twinspire(stage, pipeline, "--date", str(day), "--force", env=env)
            seconds[stage].append(taken)
            peaks[stage].append(peak)
            print(f"{stage:10} {taken:7.1f} s {peak:8.0f} MB", flush=True)
        seconds["all"].append(sum(seconds[stage][number] for stage in STAGES))
        print(f"{'all':10} {seconds['all'][-1]:7.1f} s", flush=True)
    rows = [_row(case, "seconds", times, "s") for case, times in seconds.items()]
    rows += [_row(case, "peak_mb", found, "MB") for case, found in peaks.items()]
    if repeat > 1:
        for row in rows:
            print(
                f"{row['case']:10} {row['metric']:8} median {row['value']:.1f}, {row['low']:.1f} to {row['high']:.1f}"
            )
    return rows


def _row(case: str, metric: str, values: Sequence[float], unit: str) -> dict:
    """The median, and the range."""
    return {
        "case": case,
        "contender": "twinspire/batch",
        "metric": metric,
        "value": round(median(values), 1),
        "low": round(min(values), 1),
        "high": round(max(values), 1),
        "unit": unit,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smaller day")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run the day so many times")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    if not CLICKS.exists():
        sys.exit(f"The Globo clicks are needed; nothing at {CLICKS}. Set TWINSPIRE_CLICKS to globo_clicks.parquet.")
    day, history = (date(2017, 10, 4), 3) if options.quick else (date(2017, 10, 16), 15)
    with tempfile.TemporaryDirectory(prefix="twinspire-day-") as folder:
        rows = measure(day, history, max(1, options.repeat), Path(folder))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "memory_gb": memory}
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
