"""EASE and iALS of the library irspack. Runs in an environment of its own, without this project.

    python -m benchmarks.quality.irspack_peer FOLDER SETTINGS.json OUT.npz
    python -m benchmarks.quality.irspack_peer --check

FOLDER holds what quality/arrays.py wrote: the log and the histories of the queries, by number of user
and item. `--check` compares both models with plain numpy on a small log.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("IRSPACK_NUM_THREADS_DEFAULT", str(os.cpu_count()))

import irspack
import numpy as np
from irspack import DenseSLIMRecommender, IALSRecommender
from scipy.sparse import csr_matrix

LENGTH = 600
DAY = 86_400_000_000


def model_of(settings, matrix):
    """A model that is not trained yet; iALS as Rendle et al. tune it, with regularisation by
    frequency.
    """
    if settings["model"] == "ease":
        return DenseSLIMRecommender(matrix, reg=settings["regularization"])
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
    """[rows, items] how often each pair is there, n: as 1 (`binary`), log2(1 + n) (`log`) or n
    (`count`).
    """
    found = csr_matrix((np.ones(len(row), np.float32), (row, item)), shape)
    found.sum_duplicates()
    if weights == "log":
        found.data = np.log2(1 + found.data)
    elif weights == "binary":
        found.data[:] = 1
    return found


def kept_items(log, recent, most):
    """Numbers of the items trained on: the most frequent, as many as `most` if that is not 0."""
    count = np.bincount(log["item"][recent], minlength=len(log["place"]))
    order = np.argsort(-count, kind="stable")[: np.count_nonzero(count)]
    return np.sort(order[:most] if most else order)


def train(log, settings):
    """The items trained on, and the model."""
    end = log["time"].max()
    recent = np.flatnonzero(log["time"] > end - (settings["days"] or 10_000) * DAY)
    items = kept_items(log, recent, settings.get("items", 0))
    number = np.full(len(log["place"]), -1)
    number[items] = np.arange(len(items))
    recent = recent[number[log["item"][recent]] >= 0]
    matrix = interactions(
        np.unique(log["user"][recent], return_inverse=True)[1],
        number[log["item"][recent]],
        (len(np.unique(log["user"][recent])), len(items)),
        settings["weights"],
    )
    return items, model_of(settings, matrix).learn()


def rank(items, model, settings, log, asked, chunk=1024):
    """[Q, 600] positions in the catalogue, -1 behind the end."""
    number = np.full(len(log["place"]), -1)
    number[items] = np.arange(len(items))
    lengths = np.diff(asked["start"])
    row = np.repeat(np.arange(len(lengths)), lengths)
    age = np.repeat(asked["moment"], lengths) - asked["time"]
    known = (number[asked["item"]] >= 0) & (age <= (settings["days"] or 10_000) * DAY)
    shape = (len(lengths), len(items))
    history = interactions(row[known], number[asked["item"][known]], shape, settings["weights"])
    listed = np.flatnonzero(log["place"][items] >= 0)
    place = log["place"][items[listed]]
    n = min(LENGTH, len(listed))
    ranked = np.full((len(lengths), LENGTH), -1, np.int64)
    for start in range(0, len(lengths), chunk):
        part = history[start : start + chunk]
        scores = np.asarray(model.get_score_cold_user(part))[:, listed]
        top = np.argpartition(-scores, n - 1, axis=1)[:, :n]
        order = np.argsort(-np.take_along_axis(scores, top, 1), axis=1, kind="stable")
        found = place[np.take_along_axis(top, order, 1)]
        # Of whom nothing is known, no score says anything.
        found[np.diff(part.indptr) == 0] = -1
        ranked[start : start + chunk, :n] = found
    return ranked


def check():
    """Both models against numpy, on 60 users and 12 items."""
    rng = np.random.default_rng(0)
    matrix = csr_matrix((rng.random((60, 12)) < 0.3).astype(np.float32))
    dense = matrix.toarray().astype(float)
    ease = {"model": "ease", "regularization": 7.0}
    inverse = np.linalg.inv(dense.T @ dense + 7.0 * np.eye(12))
    wanted = -inverse / np.diag(inverse)
    np.fill_diagonal(wanted, 0)
    found = np.asarray(model_of(ease, matrix).learn().get_score_cold_user(matrix))
    print(f"EASE: scores differ from numpy's by {np.abs(found - dense @ wanted).max():.1e} at most")
    assert np.allclose(found, dense @ wanted, atol=1e-4)

    ials = {
        "model": "ials",
        "factors": 4,
        "unobserved_weight": 0.2,
        "regularization": 0.03,
        "seed": 1,
        "iterations": 16,
        "solver": "CHOLESKY",
    }
    model = model_of(ials, matrix).learn()
    items = np.asarray(model.get_item_embedding(), float)
    wanted = np.stack([_user_vector(row, items, 0.2, 0.03) for row in dense])
    found = np.asarray(model.compute_user_embedding(matrix))
    print(f"iALS: users differ from a dense solve by {np.abs(found - wanted).max():.1e} at most")
    assert np.allclose(found, wanted, atol=1e-3)
    losses = []
    for iterations in (1, 4, 16):
        model = model_of({**ials, "iterations": iterations, "solver": "IALSPP"}, matrix).learn()
        losses.append(_loss(dense, model, 0.2, 0.03))
    print(f"iALS: loss after 1, 4 and 16 passes {np.round(losses, 3)}")
    assert losses[0] > losses[1] > losses[2] * (1 - 1e-6)


def _user_vector(row, items, unobserved, regularization):
    """The minimum of the loss for one user."""
    own = items[row > 0]
    strength = regularization * (len(own) + unobserved * len(items))
    left = own.T @ own + unobserved * items.T @ items + strength * np.eye(items.shape[1])
    return np.linalg.solve(left, own.sum(0))


def _loss(dense, model, unobserved, regularization):
    """Rendle et al.'s loss, with nu = 1."""
    users = np.asarray(model.get_user_embedding(), float)
    items = np.asarray(model.get_item_embedding(), float)
    scores = users @ items.T
    of_users = (dense.sum(1) + unobserved * len(items)) @ (users**2).sum(1)
    of_items = (dense.sum(0) + unobserved * len(users)) @ (items**2).sum(1)
    return (
        (dense * (scores - 1) ** 2).sum()
        + unobserved * (scores**2).sum()
        + regularization * (of_users + of_items)
    )


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
    if "--check" in sys.argv:
        check()
        print(f"irspack {irspack.__version__}: as it should be")
    else:
        main()
