"""ALS, BPR and item-to-item of the library implicit. Runs in an environment of its own, without
this project.

    python -m benchmarks.quality.implicit_peer FOLDER SETTINGS.json OUT.npz

FOLDER holds what quality/arrays.py wrote: interactions by number of user and item.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # implicit threads by itself

import implicit
import numpy as np
from implicit.als import AlternatingLeastSquares
from implicit.bpr import BayesianPersonalizedRanking
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender
from scipy.sparse import csr_matrix

LENGTH = 600
DAY = 86_400_000_000


def model_of(settings):
    seed = settings["seed"]
    if settings["model"] == "als":
        return AlternatingLeastSquares(
            factors=settings["factors"],
            regularization=settings["regularization"],
            alpha=settings["alpha"],
            iterations=settings["iterations"],
            random_state=seed,
        )
    if settings["model"] == "bpr":
        return BayesianPersonalizedRanking(
            factors=settings["factors"],
            learning_rate=settings["learning_rate"],
            regularization=settings["regularization"],
            iterations=settings["iterations"],
            random_state=seed,
        )
    kinds = {"cosine": CosineRecommender, "bm25": BM25Recommender}
    return kinds[settings["similarity"]](K=settings["neighbours"])


def matrix(seen, settings):
    """[users, items] events of the last days."""
    recent = (
        seen["time"] >= seen["time"].max() - settings["days"] * DAY
        if settings["days"]
        else slice(None)
    )
    user = seen["user"][recent]
    item = seen["item"][recent]
    found = csr_matrix(
        (np.ones(len(user), np.float32), (user, item)), (int(seen["users"]), len(seen["place"]))
    )
    found.sum_duplicates()
    return found


def before(asked, items, decay):
    """[Q, items] what each query's user had before; `decay` weighs each item by that of the next
    newer one.
    """
    lengths = np.diff(asked["start"])
    row = np.repeat(np.arange(len(lengths)), lengths)
    from_end = np.repeat(asked["start"][1:], lengths) - 1 - np.arange(len(row))
    found = csr_matrix(
        (np.float32(decay) ** from_end.astype(np.float32), (row, asked["item"])),
        (len(lengths), items),
    )
    found.sum_duplicates()
    return found


def rank(model, settings, seen, asked):
    """[Q, 600] positions in the catalogue, -1 behind the end."""
    history = before(asked, len(seen["place"]), settings.get("decay", 1.0))
    inside = np.flatnonzero(seen["place"] >= 0)
    n = min(LENGTH, len(inside))
    if settings["model"] == "item_to_item":
        found = scored(history, model.similarity, seen["place"] >= 0, n)
    elif settings["model"] == "als":
        everybody = np.arange(history.shape[0])
        how = {"filter_already_liked_items": False, "recalculate_user": True}
        found, _ = model.recommend(everybody, history, N=n, items=inside, **how)
    else:
        vectors = bpr_users(model, asked["user"], history)
        all_scores = vectors @ model.item_factors[inside].T
        found = inside[np.argsort(-all_scores, axis=1, kind="stable")[:, :n]]
    ranked = np.full((len(found), LENGTH), -1, np.int64)
    ranked[:, :n] = np.where(found >= 0, seen["place"][found], -1)
    return ranked


def scored(history, similarity, inside, n, chunk=1024):
    """Items by the sum of their similarities to what was had; those without any are left out."""
    found = np.full((history.shape[0], n), -1)
    keep = np.flatnonzero(inside)
    narrow = similarity.tocsr()[:, keep]
    for start in range(0, history.shape[0], chunk):
        scores = (history[start : start + chunk] @ narrow).toarray()
        order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
        value = np.take_along_axis(scores, order, 1)
        found[start : start + chunk] = np.where(value > 0, keep[order], -1)
    return found


def bpr_users(model, user, history):
    """[Q, factors]: users trained on have their own; others the mean of their items'."""
    weights = history.multiply(1 / np.maximum(history.sum(axis=1), 1e-9)).tocsr()
    vectors = weights @ model.item_factors
    known = user >= 0
    vectors[known] = model.user_factors[user[known]]
    return vectors


def main():
    folder = Path(sys.argv[1])
    settings = json.loads(Path(sys.argv[2]).read_text())
    out = Path(sys.argv[3])
    seen = dict(np.load(folder / "seen.npz"))
    begin = time.perf_counter()
    model = model_of(settings)
    model.fit(matrix(seen, settings), show_progress=False)
    seconds = time.perf_counter() - begin
    ranked = {
        name: rank(model, settings, seen, dict(np.load(folder / f"before-{name}.npz")))
        for name in settings["cases"]
    }
    np.savez(out, _seconds=seconds, **ranked)


if __name__ == "__main__":
    main()
    print(f"implicit {implicit.__version__}")
