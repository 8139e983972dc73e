"""Next-basket recommenders: TIFU-KNN (Hu et al., *Modeling Personalized Item Frequency Information for
Next-basket Recommendation*, SIGIR 2020) and UP-CF (Faggioli et al., *Recency Aware Collaborative
Filtering for Next Basket Recommendation*, UMAP 2020), written from the papers' description in numpy
and scipy; docs/decisions/0017-evaluation.md says why not those of a library.

    python -m benchmarks.quality.basket_peer FOLDER SETTINGS.json OUT.npz

FOLDER holds what quality/arrays.py wrote: the log and the histories of the queries, by number of user
and item. A basket is what a user took on one day.

TIFU-KNN: a user's B baskets are parted into `groups` groups of equal size, the newer ones the larger
where B does not divide. A basket counts within_decay^(steps before the newest of its group) over the
group's size, a group group_decay^(steps before the newest group) over the number of groups; with
fewer baskets than groups each is its own. Scores are alpha * own + (1 - alpha) * the mean of the
`neighbours` nearest other users by Euclid's distance.

UP-CF: a user's share of an item is that of the newest `recency` baskets (0: all) that hold it. Two users
are as similar as |A and B| / (|A|^asymmetry |B|^(1 - asymmetry)) for the sets of all their items, to the
power of `locality`. Scores are the user's own shares and those of the `neighbours` most similar others,
weighted so.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.quality.session_peer import LENGTH, largest, top

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
    """[owners, items] TIFU-KNN's vectors."""
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


def shares(baskets, items, recency):
    """[owners, items] UP-CF's share of the newest baskets that hold an item."""
    count = baskets.count[baskets.owner]
    seen = np.minimum(count, recency) if recency else count
    recent = baskets.age < seen
    where = (baskets.owner[recent], baskets.item[recent])
    return csr_matrix((1 / seen[recent], where), (len(baskets.count), items))


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


def upcf_scores(known, asked, known_shares, asked_shares, users, settings):
    """[Q, items] sparse.

    Args:
      known: [U, items] which items the log's users had, 1 or nothing.
      asked: [Q, items] the same of the queries.
      known_shares: [U, items] of the log's users.
      asked_shares: [Q, items] of the queries.
      users: [Q] the number of each query's user; -1 is none.
      settings: see above.
    """
    common = (asked @ known.T).tocoo()
    sizes = np.diff(asked.indptr)[common.row], np.diff(known.indptr)[common.col]
    power = settings["asymmetry"]
    similarity = common.data / (sizes[0] ** power * sizes[1] ** (1 - power))
    # Himself counts once, as he is now.
    other = common.col != users[common.row]
    row, (user, value) = largest(
        common.row[other],
        similarity[other],
        settings["neighbours"],
        common.col[other],
        similarity[other],
    )
    weights = csr_matrix((value ** settings["locality"], (row, user)), common.shape)
    return (asked_shares + weights @ known_shares).tocsr()


class Model:
    """One of the two, of what the log's users had."""

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
        known, vectors = self._vectors(self.baskets), self._vectors(baskets)
        for start in range(0, len(lengths), QUERIES):
            rows = slice(start, start + QUERIES)
            part = [vector[rows] for vector in vectors]
            scores = self._scores(known, part, asked["user"][rows]).tocsr()
            ranked[rows] = top(scores, self.place)
        # Of whom nothing is known, those with the fewest baskets would be the nearest.
        ranked[baskets.count == 0] = -1
        return ranked

    def _vectors(self, baskets):
        items = len(self.place)
        if self.settings["model"] == "tifu":
            return [frequencies(baskets, items, self.settings)]
        had = shares(baskets, items, 0)
        had.data[:] = 1
        return [had, shares(baskets, items, self.settings["recency"])]

    def _scores(self, known, part, users):
        if self.settings["model"] == "tifu":
            return tifu_scores(known[0], part[0], users, self.settings)
        return upcf_scores(known[0], part[0], known[1], part[1], users, self.settings)


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
