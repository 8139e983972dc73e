"""TIFU-KNN, a next-basket recommender (Hu et al., *Modeling Personalized Item Frequency Information for
Next-basket Recommendation*, SIGIR 2020), written from the paper's description in numpy and scipy;
docs/decisions/0017-evaluation.md says why not that of a library.

    python -m benchmarks.quality.basket_peer FOLDER SETTINGS.json OUT.npz

FOLDER holds what quality/arrays.py wrote: the log and the histories of the queries, by number of user
and item. A basket is what a user took on one day.

A user's B baskets are parted into `groups` groups of equal size, the newer ones the larger
where B does not divide. A basket counts within_decay^(steps before the newest of its group) over the
group's size, a group group_decay^(steps before the newest group) over the number of groups; with
fewer baskets than groups each is its own. Scores are alpha * own + (1 - alpha) * the mean of the
`neighbours` nearest other users by Euclid's distance.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.quality.session_peer import LENGTH, top

QUERIES = 500
"""Queries at a time."""


class Baskets(NamedTuple):
    """M items of the baskets of so many owners.

    Attributes:
      owner: [M] numbers of users or queries.
      item: [M].
      age: [M] how many newer baskets the owner has.
      count: [owners] baskets of each.
    """

    owner: np.ndarray
    item: np.ndarray
    age: np.ndarray
    count: np.ndarray


def baskets_of(owner, item, day, owners):
    """Parts events into baskets; an item that is twice in a basket is in it once."""
    span = (int(day.min(initial=0)), int(day.max(initial=0)))
    width = span[1] - span[0] + 1
    key = owner * width + (day - span[0])
    rows = np.unique(np.stack([key, item]), axis=1)
    key, item = rows
    basket, number = np.unique(key, return_inverse=True)
    of = basket // width
    count = np.bincount(of, minlength=owners)
    newest = np.cumsum(count) - 1
    return Baskets(of[number], item, newest[of[number]] - number, count)


def frequencies(baskets, items, settings):
    """[owners, items] weights of what each took."""
    groups = settings["groups"]
    count = baskets.count[baskets.owner]
    size, extra = np.divmod(count, groups)
    # Counted from the newest basket: `extra` larger groups, then the others.
    in_larger = baskets.age < extra * (size + 1)
    own_size = np.maximum(np.where(in_larger, size + 1, size), 1)
    behind = np.where(in_larger, baskets.age, baskets.age - extra * (size + 1))
    group, steps = np.divmod(behind, own_size)
    group = np.where(in_larger, group, extra + group)
    weight = settings["within_decay"] ** steps / own_size
    weight = weight * settings["group_decay"] ** group / np.minimum(count, groups)
    return csr_matrix((weight, (baskets.owner, baskets.item)), (len(baskets.count), items))


def tifu_scores(known, asked, users, settings):
    """[Q, items] sparse.

    Args:
      known: [U, items] vectors of the log's users.
      asked: [Q, items] of the queries.
      users: [Q] the number of each query's user, who is no neighbour of himself; -1 is none.
      settings: see above.
    """
    squares = np.asarray(known.multiply(known).sum(axis=1)).ravel()
    own = np.asarray(asked.multiply(asked).sum(axis=1)).ravel()
    distance = own[:, None] + squares - 2 * (asked @ known.T).toarray()
    mine = np.flatnonzero(users >= 0)
    distance[mine, users[mine]] = np.inf
    k = min(settings["neighbours"], len(squares) - 1)
    near = np.argpartition(distance, k - 1, axis=1)[:, :k]
    row = np.repeat(np.arange(len(near)), k)
    mean = csr_matrix((np.full(row.shape, 1 / k), (row, near.ravel())), distance.shape) @ known
    return settings["alpha"] * asked + (1 - settings["alpha"]) * mean


class Model:
    """What the log's users had."""

    def __init__(self, log, settings):
        self.settings = settings
        self.place = log["place"]
        self.baskets = baskets_of(log["user"], log["item"], log["day"], int(log["users"]))

    def rank(self, asked):
        """[Q, 100] positions in the catalogue, -1 behind the end."""
        lengths = np.diff(asked["start"])
        query = np.repeat(np.arange(len(lengths)), lengths)
        baskets = baskets_of(query, asked["item"], asked["day"], len(lengths))
        ranked = np.full((len(lengths), LENGTH), -1, np.int64)
        known, vectors = (
            frequencies(of, len(self.place), self.settings) for of in (self.baskets, baskets)
        )
        for start in range(0, len(lengths), QUERIES):
            rows = slice(start, start + QUERIES)
            scores = tifu_scores(known, vectors[rows], asked["user"][rows], self.settings)
            ranked[rows] = top(scores.tocsr(), self.place)
        # Of whom nothing is known, those with the fewest baskets would be the nearest.
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
