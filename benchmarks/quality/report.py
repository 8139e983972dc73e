"""Results as they are committed, and the tables of README.md and docs/measurements.md, which are
written from them between marks.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality import tables
from benchmarks.quality.command import machine, write_whole
from benchmarks.quality.data import ROOT
from benchmarks.quality.figures import Result
from benchmarks.quality.ratios import ratios
from benchmarks.quality.tables import FIGURE, ORDER, RATIO

RESULTS = Path(__file__).resolve().parent / "results.json"
README = ROOT / "README.md"
MEASUREMENTS = ROOT / "docs" / "measurements.md"


def told(results: Sequence[Result]) -> dict[str, Any]:
    """What is committed of a run: each figure with its settings, seeds and commit, and each ratio."""
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    commit = found.stdout.strip()
    return {
        "machine": machine(),
        "figures": [{**result.row(), "commit": commit} for result in results],
        "ratios": ratios(results),
    }


def merged(new: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """A run's results with those of earlier runs, of other cases and contenders."""
    for part, key in (("figures", FIGURE), ("ratios", RATIO)):
        done = {tuple(row[name] for name in key) for row in new[part]}
        kept = [row for row in before.get(part, []) if tuple(row[name] for name in key) not in done]
        new[part] = sorted(kept + new[part], key=lambda row: ORDER.get(row["case"], 0))
    return new


def write(new: dict[str, Any]) -> None:
    """Puts a run's results into results.json, and writes the pages' tables from it."""
    found = merged(new, json.loads(RESULTS.read_text()) if RESULTS.exists() else {})
    write_whole(RESULTS, json.dumps(found, indent=1) + "\n")
    for page in (README, MEASUREMENTS):
        page.write_text(tables.with_tables(page.read_text(), found))
