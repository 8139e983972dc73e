"""Trains the recommender of pipelines/groceries.toml for a day: `groceries.py WORK OUT` writes its
vectors to OUT.
"""

import sys
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks.neighbours.corpora import DAY, DAYS, ROOT
from benchmarks.quality.data import groceries
from benchmarks.quality.prepare import override
from twinspire.runs import runner
from twinspire.runs.day_run import DayRun
from twinspire_core.config import pipeline
from twinspire_core.contracts.embedded_vectors import read_items, read_queries


def main(work: Path, out: Path) -> None:
    places = {f"source.{table}": place for table, place in groceries(work).items()}
    places |= {"pipeline.work_root": str(work / "stages"), "registry.root": str(work / "registry")}
    window = {
        "window.train_days": DAYS,
        "window.history_days": DAYS,
        "window.vocabulary_days": DAYS,
    }
    p = override(pipeline.load(ROOT / "pipelines" / "groceries.toml"), {**places, **window})
    run = DayRun(p, date.fromisoformat(DAY))
    for stage in ("features", "train", "embed"):
        told = runner.run_stage(run, stage, mode="full")
    _, items = read_items(told["attempt"])
    np.savez(out, items=items, queries=read_queries(told["attempt"]))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
