"""How good drafted pipeline files are, next to the same files after a search for better settings.

    python -m benchmarks.drafts                  all four logs
    python -m benchmarks.drafts --log films --trials 20

For each log `twinspire init` drafts a file, and `twinspire tune` searches on `SEARCHED` days. Then first
versions with the drafted and with the best settings are measured on `LATER` days, which the search never saw.
`groceries` has 600 households; `weekly` keeps one shopping trip a week of each of them; `news` has one reader
in eight. Files are kept under --work, so the same command continues after a stop.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from statistics import fmean

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # like the command line

import polars as pl

from benchmarks.quality import data
from benchmarks.quality.data import ROOT
from twinspire.runs.runner import run_stage
from twinspire.runs.stages import FEATURES
from twinspire.tuning.tried_settings import first_version, measure
from twinspire_core.config import pipeline

SEARCHED = {
    "weekly": "2017-10-20..2017-10-21",
    "groceries": "2017-10-20..2017-10-21",
    "films": "1998-03-01..1998-03-02",
    "news": "2017-10-09..2017-10-10",
}
"""Days of the search."""
LATER = {
    "weekly": (date(2017, 11, 6), date(2017, 11, 11), date(2017, 11, 16)),
    "groceries": (date(2017, 11, 6), date(2017, 11, 11), date(2017, 11, 16)),
    "films": (date(1998, 3, 16), date(1998, 3, 31), date(1998, 4, 7)),
    "news": (date(2017, 10, 13), date(2017, 10, 14), date(2017, 10, 16)),
}
"""Days after the search. All are days of development."""
HOUSEHOLDS = 600


def lay_out(log: str, work: Path) -> Mapping[str, str]:
    """Writes a log in daily folders; returns the folders by table."""
    if log == "news":
        return {"events": data.globo(work / log, sample=8)}
    if log == "films":
        raw = data.movielens_raw(work / log)
        return data.movielens(work / log, data.movielens_liked(raw), raw)
    if log == "groceries":
        return data.groceries(work / log, households=HOUSEHOLDS)
    return _weekly(work / log)


def _weekly(folder: Path) -> Mapping[str, str]:
    """The groceries with the first shopping trip of each household and week."""
    paths = data.groceries(folder / "all", households=HOUSEHOLDS)
    purchases = pl.read_parquet(paths["events"].format(date="*") + "/*.parquet")
    moment = pl.col("transaction_timestamp")
    week = pl.col("household_id"), moment.dt.truncate("1w").alias("_week")
    first = purchases.with_columns(week[1], moment.min().over(week).alias("_first"))
    file = folder / "weekly.parquet"
    first.filter(moment == pl.col("_first")).drop("_week", "_first").write_parquet(file)
    events = str(folder / "events" / "dt={date}")
    options = ("--time", "transaction_timestamp", "--time-zone", "America/New_York")
    data.lay_out(file, events, *options)
    return {**paths, "events": events}


def compare(log: str, work: Path, trials: int) -> None:
    """Prints both files' recall on each later day."""
    file = work / f"{log}.toml"
    paths = lay_out(log, work)
    if not file.exists():
        folders = {table: str(Path(path).parent) for table, path in paths.items()}
        tables = [f"--{table}={folder}" for table, folder in folders.items() if table != "events"]
        zone = "America/New_York" if log in ("weekly", "groceries") else "UTC"
        _run(
            "init",
            folders["events"],
            *tables,
            f"--name={log}",
            f"--time-zone={zone}",
            f"--out={file}",
        )
    days = SEARCHED[log]
    found = _run("tune", str(file), "--days", days, "--trials", str(trials), "--json")
    best = json.loads(found.splitlines()[-1])["change"]
    p = pipeline.load(file)
    figures: dict[str, list[float]] = {"drafted": [], "tuned": []}
    for day in LATER[log]:
        for name, settings in (("drafted", {}), ("tuned", best)):
            run = first_version(p, dict(settings), day, {})
            run_stage(run, FEATURES.name, mode="full")
            figures[name].append(measure(run)[p.gate.metric])
    drafted, tuned = map(fmean, figures.values())
    print(f"{log}: {p.gate.metric} drafted {drafted:.4f}, tuned {tuned:.4f}, {drafted / tuned:.3f}")
    print(json.dumps({"log": log, "best": best, **figures}), flush=True)


def _run(*arguments: str) -> str:
    command = [sys.executable, "-m", "twinspire", *arguments]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log", action="append", choices=list(LATER), help="may be repeated")
    parser.add_argument("--trials", type=int, default=12, help="trials of each search")
    parser.add_argument("--work", type=Path, default=ROOT / "work" / "drafts")
    options = parser.parse_args()
    for log in options.log or LATER:
        compare(log, options.work.resolve(), options.trials)


if __name__ == "__main__":
    main()
