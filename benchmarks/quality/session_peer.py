"""VSTAN: neighbours of the current session (Ludewig et al., *Empirical Analysis of Session-Based
Recommendation Algorithms*, UMUAI 2021; STAN: Garg et al., *Sequence and Time Aware Neighborhood for
Session-based Recommendations*, SIGIR 2019), written from the papers in numpy and scipy.

    python -m benchmarks.quality.session_peer FOLDER SETTINGS.json OUT.npz

FOLDER has the files of quality/arrays.py: the log and the histories of the queries, with numbers for users
and items.

1. A pause of `pause` hours ends a session. The place of an event in its session is the rank of its time:
   items that were bought together have the same place.
2. The current session consists of the newest `last` sessions of the query's user. An item p places before
   its end has the weight exp(-p / item_decay).
3. Candidates: for each item, the `sample` newest sessions with it before the query's moment; of all these,
   the `sample` newest. Sessions of the test days are known up to that moment, except the query's own. Their
   similarity is the weight of the shared items, divided by the root of the product of both lengths, times
   exp(-age in days / session_decay), times exp(-p / match_decay) for the newest shared item (VSTAN). The
   `nearest` are kept.
4. An item's score is the sum of the similarities of the sessions with it, times exp(-places between it and
   the newest shared item / place_decay), times 1 + rarity * log(sessions / sessions with it) (VSTAN).

A decay of 0 means no decay.
"""

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

LENGTH = 600
QUERIES = 500
"""Queries in a block."""
DAY = 86_400_000_000
HOUR = DAY // 24
SPAN = 2**36
"""Milliseconds, longer than any log, so that one number can order sessions (or items) and then times."""
MOST_ITEMS = 100
"""Most items of a session, the newest ones."""


class Sessions(NamedTuple):
    """S sessions of M distinct items.

    Attributes:
      start: [S + 1] start of each session.
      item: [M] numbers.
      place: [M] ranks of the items' times from the end of the session: 0 is the newest.
      time: [M] microseconds, the newest first in each session.
      owner: [S] user or query of each session.
    """

    start: np.ndarray
    item: np.ndarray
    place: np.ndarray
    time: np.ndarray
    owner: np.ndarray

    def take(self, sessions):
        """The sessions with these numbers."""
        lengths = np.diff(self.start)[sessions]
        values = ranges(self.start[sessions], lengths)
        start = np.concatenate([[0], np.cumsum(lengths)])
        columns = self.item[values], self.place[values], self.time[values]
        return Sessions(start, *columns, self.owner[sessions])


def sessions_of(owner, item, moment, pause, last=None):
    """Divides events into sessions.

    Args:
      owner: [N] numbers of users or queries.
      moment: [N] microseconds.
      pause: hours; a longer pause begins a new session.
      last: joins this many of the newest sessions of each owner, and drops the others.

    Returns: the sessions, by owner and time.
    """
    order = np.lexsort((moment, owner))
    owner, item, moment = owner[order], item[order], moment[order]
    is_first = np.diff(owner, prepend=-1) != 0
    begins = is_first | (np.diff(moment, prepend=0) > pause * HOUR)
    number = np.cumsum(begins) - 1
    if last is not None:
        # Count sessions from the owner's newest one.
        final = np.zeros(int(owner.max(initial=-1)) + 1, np.int64)
        np.maximum.at(final, owner, number)
        kept = final[owner] - number < last
        owner, item, moment = owner[kept], item[kept], moment[kept]
        number = np.unique(owner, return_inverse=True)[1]
    # If an item occurs twice, its newest event counts.
    newest = np.lexsort((-moment, item, number))
    first = np.diff(number[newest] * (item.max(initial=0) + 1) + item[newest], prepend=-1) != 0
    chosen = newest[first]
    chosen = chosen[np.lexsort((-moment[chosen], number[chosen]))]
    owner, item, moment, number = owner[chosen], item[chosen], moment[chosen], number[chosen]
    begins = np.diff(number, prepend=-1) != 0
    step = np.cumsum(begins | (np.diff(moment, prepend=0) != 0))
    start = np.flatnonzero(begins)
    session = np.cumsum(begins) - 1
    place = step - step[start][session]
    short = np.arange(len(item)) - start[session] < MOST_ITEMS
    lengths = np.bincount(session[short], minlength=len(start))
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    return Sessions(bounds, item[short], place[short], moment[short], owner[start])


def known_sessions(log, settings):
    """The log's sessions with at least two items of the catalogue."""
    listed = log["place"][log["item"]] >= 0
    sessions = sessions_of(
        log["user"][listed], log["item"][listed], log["time"][listed], settings["pause"]
    )
    return sessions.take(np.flatnonzero(np.diff(sessions.start) > 1))


def ranges(starts, lengths):
    """Consecutive numbers for each list, from its start."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])


class Neighbours:
    """Finds sessions with an item before a moment. Later events of these sessions stay unknown."""

    def __init__(self, sessions, items, settings, until=None):
        """Args:
        sessions: those of the log and of the test days.
        items: number of items.
        settings: see above.
        until: only earlier events count for rarity; None for all.
        """
        self.sessions = sessions
        self.items = items
        self.settings = settings
        number = np.repeat(np.arange(len(sessions.owner)), np.diff(sessions.start))
        self.oldest = sessions.time.min(initial=2**62) // 1000
        age = SPAN - 1 - (sessions.time // 1000 - self.oldest)
        self.end = sessions.time[sessions.start[:-1]]
        # Both are ascending, for binary search of a time in a session, and among the sessions with an
        # item, newest first.
        self.in_session = number * SPAN + age
        order = np.lexsort((age, sessions.item))
        self.in_item = (sessions.item * SPAN + age)[order]
        self.holder = number[order]
        self.holder_place = sessions.place[order]
        self.last = np.cumsum(np.bincount(sessions.item, minlength=items))
        old = slice(None) if until is None else sessions.time <= until
        holders = np.maximum(np.bincount(sessions.item[old], minlength=items), 1)
        known = len(np.unique(number[old]))
        self.rarity = 1 + settings["rarity"] * np.log(np.maximum(known, 1) / holders)

    def scores(self, asked, moment, user):
        """[Q, items] sparse scores of Q current sessions.

        Args:
          asked: the current sessions.
          moment: [Q] microseconds.
          user: [Q] users, whose session at the moment stays unknown.
        """
        settings = self.settings
        before = SPAN - (moment // 1000 - self.oldest)
        query, session, place, match_place, weight = self._shared(asked, before)
        pair = query * len(self.end) + session
        order = np.lexsort((place, pair))
        pair, match_place, place = pair[order], match_place[order], place[order]
        begins = np.diff(pair, prepend=-1) != 0
        # The first entry of each pair is the newest shared item.
        similarity = np.bincount(np.cumsum(begins) - 1, weight[order])
        query, session = np.divmod(pair[begins], len(self.end))
        match_place, place = match_place[begins], place[begins]
        newest = np.searchsorted(self.in_session, session * SPAN + before[query])
        is_known = (self.sessions.owner[session] != user[query]) | (
            self.end[session] < moment[query]
        )
        kept = np.flatnonzero(is_known & (self.sessions.start[session + 1] - newest > 1))
        query, (session, newest, similarity, match_place, place) = largest(
            query[kept],
            self.sessions.time[newest[kept]],
            settings["sample"],
            *(column[kept] for column in (session, newest, similarity, match_place, place)),
        )
        lengths = np.diff(asked.start)[query] * (self.sessions.start[session + 1] - newest)
        age = (moment[query] - self.sessions.time[newest]) / DAY
        similarity = similarity / np.sqrt(lengths) * decay(age, settings["session_decay"])
        similarity = similarity * decay(place, settings["match_decay"])
        query, (session, newest, similarity, match_place) = largest(
            query, similarity, settings["nearest"], session, newest, similarity, match_place
        )
        return self._items_of(query, session, newest, similarity, match_place, len(moment))

    def _shared(self, asked, before):
        """Items that current sessions share with the newest sessions with each item: numbers of both
        sessions, places in both, weights.
        """
        query = np.repeat(np.arange(len(before)), np.diff(asked.start))
        first = np.searchsorted(self.in_item, asked.item * SPAN + before[query])
        holders = np.clip(self.last[asked.item] - first, 0, self.settings["sample"])
        at = ranges(first, holders)
        weight = decay(asked.place, self.settings["item_decay"])
        return (
            np.repeat(query, holders),
            self.holder[at],
            np.repeat(asked.place, holders),
            self.holder_place[at],
            np.repeat(weight, holders),
        )

    def _items_of(self, query, session, newest, similarity, match_place, queries):
        lengths = self.sessions.start[session + 1] - newest
        at = ranges(newest, lengths)
        item = self.sessions.item[at]
        apart = np.abs(self.sessions.place[at] - np.repeat(match_place, lengths))
        value = np.repeat(similarity, lengths) * decay(apart, self.settings["place_decay"])
        row = np.repeat(query, lengths)
        return csr_matrix((value * self.rarity[item], (row, item)), (queries, self.items))


def decay(distance, scale):
    """exp(-distance / scale), 1 if the scale is 0."""
    return np.exp(-distance / scale) if scale else np.ones(len(distance))


def largest(row, by, most, *columns):
    """The entries with the largest values of each row, with their columns."""
    order = np.lexsort((-by, row))
    row = row[order]
    start = np.searchsorted(row, row)
    kept = order[np.arange(len(row)) - start < most]
    return row[np.arange(len(row)) - start < most], [column[kept] for column in columns]


def rank(neighbours, log, asked, settings):
    """[Q, 600] positions in the catalogue, -1 after the end."""
    lengths = np.diff(asked["start"])
    query = np.repeat(np.arange(len(lengths)), lengths)
    current = sessions_of(query, asked["item"], asked["time"], settings["pause"], settings["last"])
    ranked = np.full((len(lengths), LENGTH), -1, np.int64)
    for first in range(0, len(current.owner), QUERIES):
        part = current.take(np.arange(first, min(first + QUERIES, len(current.owner))))
        rows = part.owner
        scores = neighbours.scores(part, asked["moment"][rows], asked["asker"][rows])
        ranked[rows] = top(scores, log["place"])
    return ranked


def top(scores, place):
    """[Q, 600] positions of the catalogue's items with the largest positive scores; of equal scores, the
    lower number comes first.
    """
    scores.sum_duplicates()
    ranked = np.full((scores.shape[0], LENGTH), -1, np.int64)
    for row, (begin, end) in enumerate(pairwise(scores.indptr)):
        value, item = scores.data[begin:end], scores.indices[begin:end]
        kept = (value > 0) & (place[item] >= 0)
        value, item = value[kept], item[kept]
        if len(value) > LENGTH:
            # If neighbours have many items, sorting all of them would take most of a run.
            least = np.partition(value, -LENGTH)[-LENGTH]
            value, item = value[value >= least], item[value >= least]
        order = np.argsort(-value, kind="stable")[:LENGTH]
        ranked[row, : len(order)] = place[item[order]]
    return ranked


def main():
    folder = Path(sys.argv[1])
    settings = json.loads(Path(sys.argv[2]).read_text())
    out = Path(sys.argv[3])
    log = dict(np.load(folder / "log.npz"))
    asked = np.load(folder / "asked.npz")
    events = {name: np.concatenate([log[name], asked[name]]) for name in ("user", "item", "time")}
    sessions = known_sessions({**events, "place": log["place"]}, settings)
    neighbours = Neighbours(sessions, len(log["place"]), settings, int(log["time"].max()))
    ranked = {
        name: rank(neighbours, log, dict(np.load(folder / f"history-{name}.npz")), settings)
        for name in settings["cases"]
    }
    np.savez(out, **ranked)


if __name__ == "__main__":
    main()
