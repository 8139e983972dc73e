"""Whether SASRec and HSTU, run as quality/rectools_peer.py runs them, learn what is known. Runs in its
environment.

    python -m benchmarks.quality.rectools_check
"""

import logging
import warnings

import numpy as np
import pytorch_lightning
import rectools

from benchmarks.quality.rectools_peer import DAY, rank, train

SMALL = {
    "blocks": 1,
    "heads": 1,
    "factors": 32,
    "length": 5,
    "dropout": 0.0,
    "loss": "softmax",
    "negatives": 1,
    "learning_rate": 0.01,
    "batch_size": 64,
    "epochs": 30,
    "patience": 30,
    "cpu_seconds": 60,
    "days": 0,
    "seed": 0,
    "threads": 1,
}


def check():
    """Both are taught that item n is followed by n + 1, 20 items round, and asked by strangers. HSTU is
    then taught that after a minute the item next to the newest follows, and after a day the one next
    to that before it, and has to give both.
    """
    rng = np.random.default_rng(1)
    item = (rng.integers(0, 20, (300, 1)) + np.arange(6)) % 20
    # Of any length from 2 on.
    kept = np.arange(6) < rng.integers(2, 7, (300, 1))
    moment = np.broadcast_to(1 + np.arange(6) * DAY, kept.shape)
    asked = {"start": np.arange(21), "item": np.arange(20), "time": np.full(20, DAY)}
    asked["moment"] = asked["time"] + DAY
    for model in ("sasrec", "hstu"):
        found = _learned(model, item, moment, kept, asked)
        _right(f"{model}: what follows", found, (np.arange(20) + 1) % 20)

    older, newer = rng.integers(0, 20, (2, 2_000, 1))
    soon = rng.random((2_000, 1)) < 0.5
    item = np.concatenate([older, newer, (np.where(soon, newer, older) + 1) % 20], axis=1)
    last = np.where(soon, DAY // 1440, DAY)
    moment = np.concatenate([np.ones_like(last), np.full_like(last, DAY // 24)], axis=1)
    moment = np.concatenate([moment, moment[:, 1:] + last], axis=1)
    pairs = item[:400, :2]
    asked = {"start": np.arange(0, 1601, 2), "item": np.tile(pairs.ravel(), 2)}
    asked["time"] = np.tile([1, DAY // 24], 800)
    asked["moment"] = DAY // 24 + np.repeat([DAY // 1440, DAY], 400)
    found = _learned("hstu", item, moment, np.ones_like(item, bool), asked)
    _right("hstu: a minute later", found[:400], (pairs[:, 1] + 1) % 20)
    _right("hstu: a day later", found[400:], (pairs[:, 0] + 1) % 20)


def _learned(model, item, moment, kept, asked):
    """[Q] the first item of each list of a model trained on `kept` of so many users' events."""
    user = np.broadcast_to(np.arange(len(item))[:, None], item.shape)
    log = {"user": user[kept], "item": item[kept], "time": moment[kept], "place": np.arange(20)}
    settings = {**SMALL, "model": model}
    return rank(train(log, settings), settings, log, asked)[:, 0]


def _right(what, found, wanted):
    right = np.mean(found == wanted)
    print(f"{what}: {right:.0%} of strangers get it", flush=True)
    assert right >= 0.8, found  # chance is 5%


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    check()
    versions = f"RecTools {rectools.__version__}, Lightning {pytorch_lightning.__version__}"
    print(f"{versions}: as it should be")
