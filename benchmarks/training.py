"""Examples per CPU second of training, ours and other projects'.

    python -m benchmarks.training --tfrs WORK    against TensorFlow Recommenders
    python -m benchmarks.training --sasrec WORK  against SASRec of RecTools

Rows are synthetic: 1,500 items with frequencies by Zipf's law, 900 users, histories with 40 to 100% of the
longest length. Training with rows in memory is timed, including the making of batches, without the first
step, which compiles. Compare only figures of the same machine and hour.

`--tfrs` trains the same towers (64 dimensions and a hidden layer of 128) on the same rows, in an environment
that it makes under WORK: with the same correction, learning rate and initial Adagrad slots. `--sasrec` trains
on 2,048 shoppers with 51 events each: two blocks of attention over 50 places, 64 wide, and about 1,000
examples a step, with as many negatives as ours has in its batch, and with RecTools's own number of them.
"""

import argparse
import json
import os
import subprocess
from datetime import date
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pyarrow as pa
import tensorflow as tf

from benchmarks.quality.arrays import described
from benchmarks.quality.command import cpu_seconds, environment
from model.data import training_rows
from model.data.training_rows import Rows
from model.losses.sampling_probability import StreamingFrequency
from model.optimizers import EPSILON, START
from model.towers.architecture import Architecture, design
from model.towers.two_tower import TwoTower
from model.training.loop import run_training
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.tables.training import TrainConfig

TIMES = 5
GENRES = 18


class Case(NamedTuple):
    """A model and its rows.

    Attributes:
      pooling: `train.history.pooling`.
      length: length of the longest history.
      layers: widths of the hidden layers of both towers.
    """

    batch: int
    pooling: str = "mean"
    length: int = 50
    items: int = 1_500
    users: int = 900
    dimension: int = 64
    layers: tuple[int, ...] = (128,)


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
    """Rows for this number of steps."""
    rng = np.random.default_rng(0)
    n = case.batch * steps
    share = 1 / np.arange(1, case.items + 1)
    share /= share.sum()
    history = rng.integers(1, case.items + 1, (n, case.length), dtype=np.int32)
    filled = rng.integers(case.length * 2 // 5, case.length + 1, n)
    history[np.arange(case.length) >= filled[:, np.newaxis]] = 0
    item = 1 + rng.choice(case.items, n, p=share).astype(np.int32)
    user = rng.integers(1, case.users + 1, n, dtype=np.int32)
    genres = rng.integers(0, GENRES + 1, (n, 3), dtype=np.int32)
    time = np.sort(rng.integers(0, 86_400_000_000, n))
    return Rows(
        features={"user": user, "recent": history, "item": item, "genres": genres},
        user=user.astype(np.int64),
        item=item.astype(np.int64),
        reward=np.ones(n, np.float32),
        time=time,
    )


TFRS_STEPS = {512: 100, 4_096: 40, 16_384: 16}
"""Timed steps by batch size. The losses of the last four are compared."""


def against_tfrs(work: Path) -> None:
    """Prints examples per CPU second and the last losses of both, by batch size."""
    for batch, steps in TFRS_STEPS.items():
        case = Case(batch)
        rows = rows_of(case, steps + 1)
        train = pipeline_of(case).train.model_copy(
            update={"correction": "batch", "id_dropout": 0.0}
        )
        ours = _cost_of_ours(case, rows, train)
        products = _cost_of_products(case)
        print(
            f"{batch} rows, products of the loss alone: {products / ours[0]:.0%} of our CPU seconds"
        )
        for xla in (False, True):
            theirs = _cost_of_tfrs(case, rows, train, xla, work.resolve() / f"tfrs-{batch}")
            print(
                f"{batch} rows, TFRS {'with' if xla else 'without'} XLA: {1 / ours[0]:,.0f} against"
                f" {1 / theirs[0]:,.0f} examples per CPU second, {theirs[0] / ours[0]:.2f} times;"
                f" losses {ours[1]:.4f} and {theirs[1]:.4f}",
                flush=True,
            )


def _cost_of_ours(
    case: Case, rows: Rows, train: TrainConfig, pipeline: Pipeline | None = None
) -> tuple[float, float]:
    """CPU seconds per example, and the loss at the end."""
    model = TwoTower(architecture_of(case, pipeline or pipeline_of(case)), seed=0)
    parts = np.split(np.arange(len(rows)), [case.batch])  # the first step compiles
    days = [(date(2024, 1, 1), training_rows.select(rows, part)) for part in parts]
    ends = []

    def report(_: str, done: int, total: int, *__: float) -> None:
        if done == total:
            ends.append(cpu_seconds())

    frequency = StreamingFrequency(buckets=1_000_000)
    result = run_training(model, frequency, days, train, report=report)
    losses = [loss for _, loss in result.curve]
    return (ends[1] - ends[0]) / len(parts[1]), float(np.mean(losses[-4:]))


def _cost_of_products(case: Case) -> float:
    """CPU seconds per example of the loss's three matrix products, at the machine's speed for large ones."""
    rows = tf.random.normal([min(case.batch, 1_024), case.dimension])
    candidates = tf.random.normal([case.batch, case.dimension])
    logits = tf.matmul(rows, candidates, transpose_b=True)
    times = (
        TIMES * max(TFRS_STEPS) // case.batch
    )  # more of the small ones: the clock has steps of 10 ms
    begin = cpu_seconds()
    for _ in range(times):
        tf.matmul(rows, candidates, transpose_b=True)
        tf.matmul(logits, candidates)
        last = tf.matmul(logits, rows, transpose_a=True)
    last.numpy()
    return (cpu_seconds() - begin) / (times * len(rows))


def _cost_of_tfrs(
    case: Case, rows: Rows, train: TrainConfig, xla: bool, folder: Path
) -> tuple[float, float]:
    """The same for TensorFlow Recommenders, whose losses and gradients are sums over the batch."""
    folder.mkdir(parents=True, exist_ok=True)
    layout = described(architecture_of(case, pipeline_of(case)))
    (folder / "layout.json").write_text(json.dumps(layout))
    share = np.bincount(rows.item)[rows.item] / len(rows)
    more = {"_time": rows.time, "_item": rows.item, "_share": share.astype(np.float32)}
    np.savez(folder / "train.npz", **rows.features, **more)
    settings = train.model_dump(include={"temperature", "learning_rate", "batch_size", "dimension"})
    slots = {"initial_accumulator_value": START * case.batch**2, "epsilon": EPSILON * case.batch}
    settings |= {"layers": case.layers, "seed": 0, "epochs": 1, "order": "time", "cases": []}
    settings |= {"adagrad": slots, "xla": xla}
    (folder / "settings.json").write_text(json.dumps(settings))
    files = [str(folder / name) for name in ("settings.json", "steps.npz")]
    python = environment("tfrs", folder.parent)
    command = [str(python), "-m", "benchmarks.quality.tfrs_peer", str(folder), *files]
    subprocess.run(command, check=True)
    steps = np.load(files[1])["steps"]
    spent = steps[-1, 0] - steps[0, 0]
    return spent / (len(rows) - case.batch), float(steps[-4:, 1].mean()) / case.batch


SHOPPERS = 2_048
SEQUENCES = 20
"""Shoppers whose events fill one step of about 1,000 examples."""


def against_sasrec(work: Path) -> None:
    """Prints examples per CPU second of the sequence encoder and of SASRec."""
    case = Case(SEQUENCES * 50, "attention", users=SHOPPERS, layers=())
    log = np.random.default_rng(0).integers(1, case.items + 1, (SHOPPERS, case.length + 1))
    pipeline = pipeline_of(case)
    features = {name: pipeline.features[name] for name in ("recent", "item")}
    pipeline = pipeline.model_copy(update={"features": features})
    settings = {"correction": "batch", "id_dropout": 0.0, "order": "shuffled"}
    train = pipeline.train.model_copy(update=settings)
    ours, _ = _cost_of_ours(case, _sequence_rows(log), train, pipeline)
    folder = work.resolve() / "sasrec"
    folder.mkdir(parents=True, exist_ok=True)
    user, place = np.indices(log.shape)
    np.savez(folder / "log.npz", user=user.ravel(), item=log.ravel(), time=place.ravel())
    spec = architecture_of(case, pipeline).columns["query"][0].attention
    assert spec is not None
    same = {"blocks": spec.layers, "heads": spec.heads, "dropout": spec.dropout}
    same |= {"factors": spec.width}
    same |= {"model": "sasrec", "length": case.length, "batch_size": SEQUENCES, "cases": []}
    same |= {"loss": "sampled_softmax", "learning_rate": 0.003, "epochs": 1, "patience": 10}
    same |= {"cpu_seconds": 10_000, "days": 0, "seed": 0}
    for negatives in (case.batch, 128):
        files = [str(folder / name) for name in ("settings.json", "steps.npz")]
        Path(files[0]).write_text(json.dumps({**same, "negatives": negatives}))
        python = environment("rectools", work.resolve())
        command = [str(python), "-m", "benchmarks.quality.rectools_peer", str(folder), *files]
        subprocess.run(command, check=True)
        steps = np.load(files[1])["steps"]
        theirs = (steps[-1] - steps[0]) / ((len(steps) - 1) * case.batch)
        print(
            f"SASRec with {negatives} negatives: {1 / ours:,.0f} against {1 / theirs:,.0f} examples"
            f" per CPU second, {theirs / ours:.2f} times",
            flush=True,
        )


def _sequence_rows(log: np.ndarray) -> Rows:
    """A row for each event but a shopper's first, with all earlier ones as its history.

    Args:
      log: [N, L + 1] numbers of items, oldest first.
    """
    shoppers, length = log.shape[0], log.shape[1] - 1
    place = np.tile(np.arange(length), shoppers)
    user = np.repeat(np.arange(shoppers), length)
    history = np.where(np.arange(length) <= place[:, np.newaxis], log[user, :-1], 0)
    order = np.argsort(place, kind="stable")
    item = log[:, 1:].ravel()[order]
    return Rows(
        features={"recent": history[order].astype(np.int32), "item": item.astype(np.int32)},
        user=user[order],
        item=item,
        reward=np.ones(len(item), np.float32),
        time=place[order] * 1_000_000,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    peer = parser.add_mutually_exclusive_group(required=True)
    peer.add_argument("--tfrs", type=Path, metavar="WORK", help="TensorFlow Recommenders")
    peer.add_argument("--sasrec", type=Path, metavar="WORK", help="SASRec of RecTools")
    options = parser.parse_args()
    if options.sasrec:
        against_sasrec(options.sasrec)
    else:
        against_tfrs(options.tfrs)


if __name__ == "__main__":
    main()
