"""What a second objective brings and costs: MovieLens-100K, ratings learned beside what was
watched.

    python -m benchmarks.objectives --json objectives.json            three seeds
    python -m benchmarks.objectives --quick --json objectives.json    one seed, two epochs

Every rating is an event, whatever its stars, and the stars are the label of `train.auxiliary`. The
last fifth of each user's events is held out. Lists of 50 films that the user has not seen are
measured on all of these events (`recall@50`), and on those of four stars or more (`recall@50 of
liked`); predicted stars are measured on each of them (`rmse`, root mean square error). `mean`
predicts the mean of all stars in training; `twinspire/auxiliary=W` has the weight W. Both towers are
linear, with a history, at 32 dimensions. Split by user, the log shows the model other users'
future: good for comparing weights, not for what a new day would give.
"""

import argparse
import json
import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parent.parent

import numpy as np
import polars as pl
import pyarrow as pa

from benchmarks.quality.command import machine, write_whole
from benchmarks.quality.data import LIKED, movielens_ratings, movielens_raw
from model.data.training_rows import Rows
from model.losses.sampling_probability import StreamingFrequency
from model.towers.auxiliary_head import LabelledClicks, measure_head
from model.towers.design import design
from model.towers.two_tower import TwoTower
from model.training.loop import run_training
from twinspire_core.config.pipeline import Pipeline

WEIGHTS = (0.0, 0.1, 0.3, 1.0)
LENGTH = 20
K = 50
HELD_OUT_SHARE = 0.2
WHOLE = {"seeds": 3, "epochs": 8}
QUICK = {"seeds": 1, "epochs": 2}
FEATURES = {
    "user": {"kind": "id", "tower": "query"},
    "recent": {"kind": "history", "length": LENGTH},
    "film": {"kind": "id", "tower": "item"},
}


class Log(NamedTuple):
    """Events in the order of time, N of them.

    Attributes:
      user: [N] int64, number of the user.
      item: [N] int64, number of the film.
      stars: [N] float32.
      recent: [N, LENGTH] int32, the user's films before that are not held out, padded with 0.
      held_out: [N] bool, whether the event is one of the last of its user.
    """

    user: np.ndarray
    item: np.ndarray
    stars: np.ndarray
    recent: np.ndarray
    held_out: np.ndarray

    def features(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Transformed columns."""
        ids = {
            "user": self.user[rows] + 1,
            "recent": self.recent[rows],
            "film": self.item[rows] + 1,
        }
        return {name: x.astype(np.int32) for name, x in ids.items()}


def log_of(ratings: pl.DataFrame) -> Log:
    """The log of `user_id`, `item_id`, `rating`, in the order of time."""
    user = ratings["user_id"].rank("dense").to_numpy().astype(np.int64) - 1
    item = ratings["item_id"].rank("dense").to_numpy().astype(np.int64) - 1
    counts = np.bincount(user)
    events_before = np.zeros(len(counts), np.int64)
    past: list[list[int]] = [[] for _ in counts]
    recent = np.zeros((len(user), LENGTH), np.int32)
    held_out = np.zeros(len(user), bool)
    for n, (one_user, one_item) in enumerate(zip(user, item, strict=True)):
        newest = past[one_user][-LENGTH:]
        recent[n, : len(newest)] = newest
        held_out[n] = events_before[one_user] >= (1 - HELD_OUT_SHARE) * counts[one_user]
        events_before[one_user] += 1
        if not held_out[n]:
            past[one_user].append(one_item + 1)
    stars = ratings["rating"].to_numpy().astype(np.float32)
    return Log(user, item, stars, recent, held_out)


def run(log: Log, weight: float, seed: int, epochs: int) -> dict[str, float]:
    """Trains once; figures by name."""
    train = {
        "dimension": 32,
        "batch_size": 512,
        "epochs": epochs,
        "order": "shuffled",
        "seed": seed,
    }
    tables = {
        "pipeline": {"name": "films"},
        "source": {"events": "{date}"},
        "columns": {"user": "user_id", "item": "item_id", "time": "timestamp", "label": "rating"},
        "features": FEATURES,
        "train": {**train, "frequency": {"buckets": 20_000}, "auxiliary": {"weight": weight}},
    }
    p = Pipeline.model_validate(tables)
    sizes = {"user": log.user.max() + 1, "film": log.item.max() + 1}
    vocabularies = {name: pa.array(map(str, range(n))) for name, n in sizes.items()}
    model = TwoTower(design(p, vocabularies), seed)
    known = np.flatnonzero(~log.held_out)
    rows = Rows(
        features=log.features(known),
        user=log.user[known],
        item=log.item[known],
        reward=np.ones(len(known), np.float32),
        time=known,
        label=log.stars[known],
    )
    frequency = StreamingFrequency(buckets=20_000)
    result = run_training(model, frequency, [(date(1998, 4, 22), rows)], p.train)
    return {**evaluate(log, model), "examples/s": result.rate}


def evaluate(log: Log, model: TwoTower) -> dict[str, float]:
    """Recall of what was watched and of what was liked, and the error of the stars."""
    rows = np.flatnonzero(log.held_out)
    known = np.flatnonzero(~log.held_out)
    queries = np.asarray(model("query", log.features(rows)))
    items = np.asarray(model("item", {"film": np.arange(1, log.item.max() + 2, dtype=np.int32)}))
    users, first = np.unique(log.user[rows], return_index=True)
    scores = queries[first] @ items.T
    seen = np.zeros((log.user.max() + 1, len(items)), bool)
    seen[log.user[known], log.item[known]] = True
    stars = np.zeros(seen.shape)
    stars[log.user[rows], log.item[rows]] = log.stars[rows]
    # Cosines lie above -9: films seen before come last.
    top = np.argsort(np.where(seen[users], -9, scores), axis=1)[:, : -K - 1 : -1]
    measured = {}
    for name, least in (("recall@50", 1), ("recall@50 of liked", LIKED)):
        wanted = stars[users] >= least
        hits = np.take_along_axis(wanted, top, 1).sum(1)
        total = wanted.sum(1)
        measured[name] = float((hits[total > 0] / total[total > 0]).mean())
    if model.head:
        clicks = LabelledClicks(queries, items[log.item[rows]], log.stars[rows])
        errors = measure_head(model.head, clicks)
        assert errors is not None, "there are labels"
        measured["rmse"] = errors["rmse"]
    return measured


def measure(log: Log, *, seeds: int, epochs: int) -> Iterator[dict[str, Any]]:
    """The rows of the JSON file, printed as they come."""
    true = log.stars[log.held_out].astype(np.float64)
    mean = log.stars[~log.held_out].mean(dtype=np.float64)
    yield _row("mean", "rmse", [float(np.sqrt(np.square(true - mean).mean()))])
    for weight in WEIGHTS:
        runs = [run(log, weight, seed, epochs) for seed in range(seeds)]
        name = f"twinspire/auxiliary={weight:g}" if weight else "twinspire"
        for metric in runs[0]:
            yield _row(name, metric, [one[metric] for one in runs])


def _row(contender: str, metric: str, values: list[float]) -> dict[str, Any]:
    value = float(np.mean(values))
    low = min(values)
    high = max(values)
    print(f"{contender:26} {metric:20} {value:10.4f}  {low:.4f} to {high:.4f}", flush=True)
    return {
        "case": "MovieLens-100K",
        "contender": contender,
        "metric": metric,
        "value": round(value, 5),
        "low": round(low, 5),
        "high": round(high, 5),
        "unit": {"rmse": "stars", "examples/s": "1/s"}.get(metric, ""),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one seed, fewer epochs")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "work" / "objectives", help="where the ratings are kept"
    )
    options = parser.parse_args()
    log = log_of(movielens_ratings(movielens_raw(options.work)))
    rows = list(measure(log, **(QUICK if options.quick else WHOLE)))
    if options.json:
        write_whole(options.json, json.dumps({"machine": machine(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
