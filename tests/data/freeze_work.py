"""Freezes the working files of two days and a refresh, for tests of keys and attempts.

    cd EMPTY_FOLDER; PYTHONPATH=CHECKOUT python -m tests.data.freeze_work

The folder then holds the tables of a pipeline file, the logs, the commit of each stage and the
registry's log and manifests: `tests/data/work/`.
"""

import json
import shutil
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np

from twinspire.runs.day_run import DayRun
from twinspire.runs.live_catalogue import refresh
from twinspire.runs.runner import run_stage
from twinspire.runs.stages import STAGES
from twinspire_core.config.pipeline import Pipeline

DAYS = (date(2024, 3, 1), date(2024, 3, 2))
KEPT = (
    "pipeline.json",
    "events/**/*.csv",
    "items/**/*.csv",
    "work/**/DONE.json",
    "registry/**/log/*.json",
)
KEPT += ("registry/**/manifest.json", "registry/**/index.json")
USERS, ITEMS, EVENTS = 30, 20, 120
TABLES = {
    "pipeline": {"name": "tiny"},
    "source": {"events": "events/dt={date}/", "items": "items/dt={date}/"},
    "columns": {"user": "user", "item": "item", "time": "time"},
    "features": {
        "user": {"kind": "id", "tower": "query"},
        "history": {"kind": "history", "length": 5},
        "item": {"kind": "id", "tower": "item"},
        "brand": {"kind": "category", "tower": "item"},
        "sold": {"kind": "count", "days": 1},
    },
    "window": {"history_days": 1, "count_days": 1, "train_days": 1},
    "train": {"dimension": 4, "batch_size": 32, "epochs": 1},
    "gate": {"min_users": 10_000},
    "serving": {"tensorflow": False},
    "beam": {"shards": 1},
}


def lay_out(days: Sequence[date] = DAYS) -> Pipeline:
    """Writes the logs and the tables."""
    draw = np.random.default_rng(0)
    rows = [f"i{n},{'ab'[n % 2]}" for n in range(ITEMS)]
    _write(Path(f"items/dt={days[0]}/part.csv"), ["item,brand", *rows])
    for day in days:
        who, what = draw.integers(USERS, size=EVENTS), draw.integers(ITEMS, size=EVENTS)
        times = [f"{day}T{n // 10:02d}:{n % 10:02d}:00Z" for n in range(EVENTS)]
        rows = [
            f"u{user},i{item},{time}" for user, item, time in zip(who, what, times, strict=True)
        ]
        _write(Path(f"events/dt={day}/part.csv"), ["user,item,time", *rows])
    Path("pipeline.json").write_text(json.dumps(TABLES, indent=1))
    return Pipeline.model_validate(TABLES)


def _write(file: Path, lines: list[str]) -> None:
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Runs the days and a refresh, then deletes what is not frozen."""
    pipeline = lay_out()
    for day in DAYS:
        for name in STAGES:
            print(run_stage(DayRun(pipeline, day), name)["status"], day, name)
    print(refresh(DayRun(pipeline, DAYS[1]))["status"], "refresh")
    kept = {file for pattern in KEPT for file in Path.cwd().glob(pattern)}
    for file in Path.cwd().rglob("*"):
        if file.is_file() and file not in kept:
            file.unlink()
    for folder in sorted(Path.cwd().rglob("*"), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
