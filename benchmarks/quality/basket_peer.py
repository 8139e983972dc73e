"""TIFU-KNN, a next-basket recommender (Hu et al., *Modeling Personalized Item Frequency Information for
Next-basket Recommendation*, SIGIR 2020), written from the paper in numpy and scipy.
docs/decisions/0017-evaluation.md says why it is not a library's.

    python -m benchmarks.quality.basket_peer FOLDER SETTINGS.json OUT.npz

FOLDER has the files of quality/arrays.py: the log and the histories of the queries, with numbers for users
and items. A basket is a user's items of one day.

A user's baskets are divided into `groups` groups of equal size; if that is impossible, newer groups are
larger. The weight of a basket is within_decay^(baskets to the newest of its group) / (size of the group). The
weight of a group is group_decay^(groups to the newest) / (number of groups). With fewer baskets than groups,
each basket is a group. Scores are alpha * own + (1 - alpha) * the mean of the `neighbours` nearest other users
by Euclidean distance.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.quality.session_peer import LENGTH, top

QUERIES = 500
"""Queries in a block."""


class Baskets(NamedTuple):
    """M items of baskets.

    Attributes:
      owner: [M] numbers of users or queries.
      age: [M] number of newer baskets of the owner.
      count: [owners] number of baskets.
    """

    owner: np.ndarray
    item: np.ndarray
    age: np.ndarray
    count: np.ndarray


def baskets_of(owner, item, day, owners):
    """Groups events into baskets. An item counts once per basket."""
    span = (int(day.min(initial=0)), int(day.max(initial=0)))
    width = span[1] - span[0] + 1
    key = owner * width + (day - span[0])
    rows = np.unique(np.stack([key, item]), axis=1)
    key, item = rows
    basket, number = np.unique(key, return_inverse=True)
    basket_owner = basket // width
    count = np.bincount(basket_owner, minlength=owners)
    newest = np.cumsum(count) - 1
    return Baskets(basket_owner[number], item, newest[basket_owner[number]] - number, count)


def frequencies(baskets, items, settings):
    """Weights of the items of each owner, [owners, items]."""
    groups = settings["groups"]
    count = baskets.count[baskets.owner]
    size, extra = np.divmod(count, groups)
    # From the newest basket on: `extra` larger groups, then the others.
    in_larger = baskets.age < extra * (size + 1)
    group_size = np.maximum(np.where(in_larger, size + 1, size), 1)
    behind = np.where(in_larger, baskets.age, baskets.age - extra * (size + 1))
    group, steps = np.divmod(behind, group_size)
    group = np.where(in_larger, group, extra + group)
    weight = settings["within_decay"] ** steps / group_size
    weight = weight * settings["group_decay"] ** group / np.minimum(count, groups)
    return csr_matrix((weight, (baskets.owner, baskets.item)), (len(baskets.count), items))


def tifu_scores(known, asked, users, settings):
    """[Q, items] sparse.

    Args:
      known: [U, items] vectors of the log's users.
      asked: [Q, items] vectors of the queries.
      users: [Q] the number of each query's user, who is not their own neighbour; -1 for new users.
    """
    squares = np.asarray(known.multiply(known).sum(axis=1)).ravel()
    query_squares = np.asarray(asked.multiply(asked).sum(axis=1)).ravel()
    distance = query_squares[:, None] + squares - 2 * (asked @ known.T).toarray()
    known_users = np.flatnonzero(users >= 0)
    distance[known_users, users[known_users]] = np.inf
    k = min(settings["neighbours"], len(squares) - 1)
    near = np.argpartition(distance, k - 1, axis=1)[:, :k]
    row = np.repeat(np.arange(len(near)), k)
    mean = csr_matrix((np.full(row.shape, 1 / k), (row, near.ravel())), distance.shape) @ known
    return settings["alpha"] * asked + (1 - settings["alpha"]) * mean


class Model:
    """The baskets of the log's users."""

    def __init__(self, log, settings):
        self.settings = settings
        self.place = log["place"]
        self.baskets = baskets_of(log["user"], log["item"], log["day"], int(log["users"]))

    def rank(self, asked):
        """[Q, 100] positions in the catalogue, -1 after the end."""
        lengths = np.diff(asked["start"])
        query = np.repeat(np.arange(len(lengths)), lengths)
        baskets = baskets_of(query, asked["item"], asked["day"], len(lengths))
        ranked = np.full((len(lengths), LENGTH), -1, np.int64)
        known, vectors = (
            frequencies(owned, len(self.place), self.settings) for owned in (self.baskets, baskets)
        )
        for start in range(0, len(lengths), QUERIES):
            rows = slice(start, start + QUERIES)
            scores = tifu_scores(known, vectors[rows], asked["user"][rows], self.settings)
            ranked[rows] = top(scores.tocsr(), self.place)
        # Without a history, the users with the fewest baskets would be the nearest.
        ranked[baskets.count == 0] = -1
        return ranked


def main():
    folder = Path(sys.argv[1])
    settings = json.loads(Path(sys.argv[2]).read_text())
    out = Path(sys.argv[3])
    log = dict(np.load(folder / "log.npz"))
    model = Model(log, settings)
    ranked = {
        name: model.rank(dict(np.load(folder / f"history-{name}.npz")))
        for name in settings["cases"]
    }
    np.savez(out, **ranked)


if __name__ == "__main__":
    main()
