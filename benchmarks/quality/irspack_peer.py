"""iALS of the library irspack. Runs in its own environment, without this project.

    python -m benchmarks.quality.irspack_peer FOLDER SETTINGS.json OUT.npz

FOLDER has the files of quality/arrays.py: the log and the histories of the queries, with numbers for users
and items.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("IRSPACK_NUM_THREADS_DEFAULT", str(os.cpu_count()))

import numpy as np
from irspack import IALSRecommender
from scipy.sparse import csr_matrix

LENGTH = 600
DAY = 86_400_000_000


def model_of(settings, matrix):
    """An untrained model with regularisation by frequency, as in Rendle et al."""
    return IALSRecommender(
        matrix,
        n_components=settings["factors"],
        alpha0=settings["unobserved_weight"],
        reg=settings["regularization"],
        nu=1.0,
        init_std=0.1,
        solver_type=settings.get("solver", "IALSPP"),
        loss_type="IALSPP",
        train_epochs=settings["iterations"],
        random_seed=settings["seed"],
    )


def interactions(row, item, shape, weights):
    """[rows, items] weights of the pairs that occur n times: 1 (`binary`), log2(1 + n) (`log`) or n (`count`)."""
    matrix = csr_matrix((np.ones(len(row), np.float32), (row, item)), shape)
    matrix.sum_duplicates()
    if weights == "log":
        matrix.data = np.log2(1 + matrix.data)
    elif weights == "binary":
        matrix.data[:] = 1
    return matrix


def train(log, settings):
    """The trained items, and the model."""
    end = log["time"].max()
    recent = np.flatnonzero(log["time"] > end - (settings["days"] or 10_000) * DAY)
    users, user = np.unique(log["user"][recent], return_inverse=True)
    items, item = np.unique(log["item"][recent], return_inverse=True)
    matrix = interactions(user, item, (len(users), len(items)), settings["weights"])
    return items, model_of(settings, matrix).learn()


def rank(items, model, settings, log, asked, chunk=1024):
    """[Q, 600] positions in the catalogue, -1 after the end."""
    number = np.full(len(log["place"]), -1)
    number[items] = np.arange(len(items))
    lengths = np.diff(asked["start"])
    row = np.repeat(np.arange(len(lengths)), lengths)
    age = np.repeat(asked["moment"], lengths) - asked["time"]
    known = (number[asked["item"]] >= 0) & (age <= (settings["days"] or 10_000) * DAY)
    shape = (len(lengths), len(items))
    history = interactions(row[known], number[asked["item"][known]], shape, settings["weights"])
    listed = np.flatnonzero(log["place"][items] >= 0)
    position = log["place"][items[listed]]
    n = min(LENGTH, len(listed))
    ranked = np.full((len(lengths), LENGTH), -1, np.int64)
    for start in range(0, len(lengths), chunk):
        part = history[start : start + chunk]
        scores = np.asarray(model.get_score_cold_user(part))[:, listed]
        top = np.argpartition(-scores, n - 1, axis=1)[:, :n]
        order = np.argsort(-np.take_along_axis(scores, top, 1), axis=1, kind="stable")
        best = position[np.take_along_axis(top, order, 1)]
        # Without a history, scores mean nothing.
        best[np.diff(part.indptr) == 0] = -1
        ranked[start : start + chunk, :n] = best
    return ranked


def main():
    folder = Path(sys.argv[1])
    settings = json.loads(Path(sys.argv[2]).read_text())
    out = Path(sys.argv[3])
    log = dict(np.load(folder / "log.npz"))
    items, model = train(log, settings)
    ranked = {
        name: rank(items, model, settings, log, dict(np.load(folder / f"history-{name}.npz")))
        for name in settings["cases"]
    }
    np.savez(out, **ranked)


if __name__ == "__main__":
    main()
