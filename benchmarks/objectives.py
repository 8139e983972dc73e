"""What a second objective brings and costs: MovieLens-100K, ratings learned beside what was
watched.

    python -m benchmarks.objectives --json objectives.json            three seeds
    python -m benchmarks.objectives --quick --json objectives.json    one seed, two epochs

Every rating is an event, whatever its stars, and the stars are the label of `train.auxiliary`.
Asked is the last fifth of each user's events: lists of 50 films not seen before, for all of them
(`recall@50`) and for those of four stars or more (`recall@50 of liked`); and the stars of each
(`rmse`, root mean square error). `mean` is the mean of all stars in training,
`twinspire/auxiliary=W` has the weight W. Both towers are linear, with a history, at 32 dimensions.
Split by user, the log shows the model other users' future: good for comparing weights, not for what
a new day would give.
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
from model.towers.architecture import design
from model.towers.auxiliary_head import LabelledClicks, measure_head
from model.towers.two_tower import TwoTower
from model.training.loop import run_training
from twinspire_core.config.pipeline import Pipeline

WEIGHTS, LENGTH, K, ASKED = (0.0, 0.1, 0.3, 1.0), 20, 50, 0.2
WHOLE, QUICK = {"seeds": 3, "epochs": 8}, {"seeds": 1, "epochs": 2}
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
      recent: [N, LENGTH] int32, the user's films before that were not asked for, padded with 0.
      asked: [N] bool, whether the event is one of the last of its user.
    """

    user: np.ndarray
    item: np.ndarray
    stars: np.ndarray
    recent: np.ndarray
    asked: np.ndarray

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
    user, item = (
        ratings[name].rank("dense").to_numpy().astype(np.int64) - 1
        for name in ("user_id", "item_id")
    )
    counts, seen = np.bincount(user), np.zeros(user.max() + 1, np.int64)
    recent, asked = np.zeros((len(user), LENGTH), np.int32), np.zeros(len(user), bool)
    past: list[list[int]] = [[] for _ in counts]
    for n, (who, what) in enumerate(zip(user, item, strict=True)):
        newest = past[who][-LENGTH:]
        recent[n, : len(newest)] = newest
        asked[n] = seen[who] >= (1 - ASKED) * counts[who]
        seen[who] += 1
        if not asked[n]:
            past[who].append(what + 1)
    return Log(user, item, ratings["rating"].to_numpy().astype(np.float32), recent, asked)


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
    model = TwoTower(
        design(p, {name: pa.array(map(str, range(n))) for name, n in sizes.items()}), seed
    )
    known = np.flatnonzero(~log.asked)
    rows = Rows(
        features=log.features(known),
        user=log.user[known],
        item=log.item[known],
        reward=np.ones(len(known), np.float32),
        time=known,
        label=log.stars[known],
    )
    told = run_training(
        model, StreamingFrequency(buckets=20_000), [(date(1998, 4, 22), rows)], p.train
    )
    return {**judge(log, model), "examples/s": told.rate}


def judge(log: Log, model: TwoTower) -> dict[str, float]:
    """Recall of what was watched and of what was liked, and the error of the stars."""
    rows = np.flatnonzero(log.asked)
    queries = np.asarray(model("query", log.features(rows)))
    items = np.asarray(model("item", {"film": np.arange(1, log.item.max() + 2, dtype=np.int32)}))
    users, first = np.unique(log.user[rows], return_index=True)
    scores, shape = queries[first] @ items.T, (log.user.max() + 1, len(items))
    seen, stars = np.zeros(shape, bool), np.zeros(shape)
    seen[log.user[~log.asked], log.item[~log.asked]] = True
    stars[log.user[rows], log.item[rows]] = log.stars[rows]
    top = np.argsort(np.where(seen[users], -9, scores), axis=1)[:, : -K - 1 : -1]
    found = {}
    for name, least in (("recall@50", 1), ("recall@50 of liked", LIKED)):
        wanted = stars[users] >= least
        hits, total = np.take_along_axis(wanted, top, 1).sum(1), wanted.sum(1)
        found[name] = float((hits[total > 0] / total[total > 0]).mean())
    if model.head:
        told = (
            measure_head(
                model.head, LabelledClicks(queries, items[log.item[rows]], log.stars[rows])
            )
            or {}
        )
        found["rmse"] = told["rmse"]
    return found


def measure(log: Log, *, seeds: int, epochs: int) -> Iterator[dict[str, Any]]:
    """The rows of the JSON file, printed as they come."""
    asked, known = (
        log.stars[log.asked].astype(np.float64),
        log.stars[~log.asked].mean(dtype=np.float64),
    )
    yield _row("mean", "rmse", [float(np.sqrt(np.square(asked - known).mean()))])
    for weight in WEIGHTS:
        runs = [run(log, weight, seed, epochs) for seed in range(seeds)]
        name = f"twinspire/auxiliary={weight:g}" if weight else "twinspire"
        yield from (_row(name, metric, [one[metric] for one in runs]) for metric in runs[0])


def _row(contender: str, metric: str, values: list[float]) -> dict[str, Any]:
    low, value, high = min(values), float(np.mean(values)), max(values)
    print(f"{contender:26} {metric:20} {value:10.4f}  {low:.4f} to {high:.4f}", flush=True)
    unit = {"rmse": "stars", "examples/s": "1/s"}.get(metric, "")
    figures = {name: round(x, 5) for name, x in (("value", value), ("low", low), ("high", high))}
    return {
        "case": "MovieLens-100K",
        "contender": contender,
        "metric": metric,
        **figures,
        "unit": unit,
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
