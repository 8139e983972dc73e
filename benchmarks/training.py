"""Examples per second of training, by batch size, length of histories, size of the corpus, and
encoder.

    python -m benchmarks.training --json training.json            100 steps of each, five times in turn
    python -m benchmarks.training --quick --json training.json    20 steps, once

Rows are made up: 1,500 items with frequencies by Zipf's law, 900 users, histories that are two
fifths to entirely full, 64 dimensions and a hidden layer of 128 in both towers, and the correction
of the paper. `long` has histories of 200 instead of 50; `large` has 200,000 items and 100,000
users. `baskets` is as large as pipelines/groceries.toml: 256 dimensions and no layers, sums of
histories of 200 over the root of their length, 92,331 items that are as frequent in histories as in
rows, and baskets of ten rows that share a history. What is timed is what training does with rows in
memory, batches included, without the first step, which compiles. To compare two versions, run both
in turn on a machine that does nothing else.
"""

import argparse
import json
import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pyarrow as pa

from benchmarks.quality.command import machine, write_whole
from model.data.training_rows import Rows
from model.losses.sampling_probability import StreamingFrequency
from model.towers.architecture import Architecture
from model.towers.design import design
from model.towers.two_tower import TwoTower
from model.training.loop import run_training
from twinspire_core.config.pipeline import Pipeline

WHOLE = {"steps": 100, "times": 5}
QUICK = {"steps": 20, "times": 1}
GENRES = 18
BASKET = 10


class Case(NamedTuple):
    """What is trained.

    Attributes:
      batch: rows of a batch.
      pooling: of the history (`train.history.pooling`).
      length: of the longest history.
      items: size of the corpus.
      users: how many.
      dimension: of the vectors.
      layers: widths of the hidden layers of both towers.
      baskets: whether a user's rows stand together with one history, of frequent items, and are no
        negatives of each other.
    """

    batch: int
    pooling: str = "mean"
    length: int = 50
    items: int = 1_500
    users: int = 900
    dimension: int = 64
    layers: tuple[int, ...] = (128,)
    baskets: bool = False


CASES: Mapping[str, Case] = {
    "256": Case(256),
    "1024": Case(1024),
    "256 long": Case(256, length=200),
    "1024 large": Case(1024, items=200_000, users=100_000),
    "256 baskets": Case(256, "sqrtn", 200, 92_331, 2_469, 256, (), baskets=True),
    "256 attention": Case(256, "attention"),
}


def pipeline_of(case: Case) -> Pipeline:
    """A recommender without logs."""
    tables = {
        "pipeline": {"name": "made-up"},
        "source": {"events": "/none/dt={date}/", "items": "/none/items/dt={date}/"},
        "columns": {"user": "user", "item": "item", "time": "time"},
        "features": {
            "user": {"kind": "id", "tower": "query"},
            "recent": {"kind": "history", "length": case.length},
            "item": {"kind": "id", "tower": "item"},
            "genres": {"kind": "categories", "tower": "item", "from": "items"},
        },
        "train": {
            "dimension": case.dimension,
            "layers": case.layers,
            "skip": not case.layers,
            "negatives": {"mask_positives": case.baskets},
            "batch_size": case.batch,
            "epochs": 1,
            "history": {"pooling": case.pooling},
        },
    }
    return Pipeline.model_validate(tables)


def architecture_of(case: Case, pipeline: Pipeline) -> Architecture:
    """Both towers, with vocabularies of numbers."""
    sizes = {"user": case.users, "item": case.items, "genres": GENRES}
    vocabularies = {
        name: pa.array(map(str, range(size)), pa.string()) for name, size in sizes.items()
    }
    return design(pipeline, vocabularies)


def rows_of(case: Case, steps: int) -> Rows:
    """As many rows as the steps take."""
    rng = np.random.default_rng(0)
    n = case.batch * steps
    share = 1 / np.arange(1, case.items + 1)
    share /= share.sum()
    history = rng.integers(1, case.items + 1, (n, case.length), dtype=np.int32)
    if case.baskets:
        history = 1 + rng.choice(case.items, history.shape, p=share).astype(np.int32)
    filled = rng.integers(case.length * 2 // 5, case.length + 1, n)
    history[np.arange(case.length) >= filled[:, np.newaxis]] = 0
    item = 1 + rng.choice(case.items, n, p=share).astype(np.int32)
    user = rng.integers(1, case.users + 1, n, dtype=np.int32)
    genres = rng.integers(0, GENRES + 1, (n, 3), dtype=np.int32)
    time = np.sort(rng.integers(0, 86_400_000_000, n))
    if case.baskets:
        first = np.arange(n) // BASKET * BASKET
        user = user[first]
        history = history[first]
        time = time[first]
    return Rows(
        features={"user": user, "recent": history, "item": item, "genres": genres},
        user=user.astype(np.int64),
        item=item.astype(np.int64),
        reward=np.ones(n, np.float32),
        time=time,
    )


def rate(case: Case, steps: int) -> float:
    """Examples per second of one run from scratch."""
    pipeline = pipeline_of(case)
    model = TwoTower(architecture_of(case, pipeline), seed=0)
    frequency = StreamingFrequency(buckets=1_000_000)
    days = [(date(2024, 1, 1), rows_of(case, steps))]
    return run_training(model, frequency, days, pipeline.train).rate


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer steps, once")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    size = QUICK if options.quick else WHOLE
    names = list(CASES)
    runs = [
        {name: rate(CASES[name], size["steps"]) for name in names} for _ in range(size["times"])
    ]
    rows = []
    for name in names:
        low, value, high = np.quantile([run[name] for run in runs], [0, 0.5, 1]).round().tolist()
        print(f"{name:16} {value:10,.0f} examples/s ({low:,.0f} to {high:,.0f})")
        row = {"case": name, "contender": f"twinspire/{CASES[name].pooling}", "unit": "1/s"}
        rows.append({**row, "metric": "examples/s", "value": value, "low": low, "high": high})
    if options.json:
        write_whole(options.json, json.dumps({"machine": machine(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
