"""VSTAN: neighbours of the current session (Ludewig et al., *Empirical Analysis of Session-Based
Recommendation Algorithms*, UMUAI 2021; STAN: Garg et al., *Sequence and Time Aware Neighborhood for
Session-based Recommendations*, SIGIR 2019), written from the papers' description in numpy and scipy.

    python -m benchmarks.quality.session_peer FOLDER SETTINGS.json OUT.npz

FOLDER holds what quality/arrays.py wrote: the log and the histories of the queries, by number of user
and item.

1. A user's events are parted into sessions where `pause` hours lie between two of them. The place of
   an event in its session is the rank of its moment: what was bought together stands in one place.
2. The current session is the newest `last` sessions of the query's user. An item of it that stands p
   places before its end weighs exp(-p / item_decay).
3. Candidates are, of the `sample` newest sessions that held each item before the query's moment, the
   `sample` newest. Sessions of the days asked about are known up to that moment, but for the one that
   the query belongs to. Their similarity is the weight of the shared items over the root of both
   lengths' product, times exp(-age / session_decay) for an age in days, and exp(-p / match_decay) for
   the newest shared item (VSTAN). The `nearest` are kept.
4. An item's score is the sum of the similarities of the sessions that hold it, times
   exp(-places between it and the newest shared item / place_decay), times 1 + rarity * log(sessions
   over those that hold it) (VSTAN).

A decay of 0 is none.
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
"""Queries at a time."""
DAY = 86_400_000_000
HOUR = DAY // 24
SPAN = 2**36
"""Milliseconds, more than a log has: moments of one session, or item, stand before those of the next."""
MOST_ITEMS = 100
"""Items of a session, those taken last."""


class Sessions(NamedTuple):
    """S sessions of M distinct items.

    Attributes:
      start: [S + 1] where each begins.
      item: [M] numbers.
      place: [M] ranks of the items' moments from the end of the session: 0 is the newest.
      time: [M] microseconds, the newest first in each session.
      owner: [S] whose it is.
    """

    start: np.ndarray
    item: np.ndarray
    place: np.ndarray
    time: np.ndarray
    owner: np.ndarray

    def take(self, sessions):
        """Some of them, by number."""
        lengths = np.diff(self.start)[sessions]
        values = ranges(self.start[sessions], lengths)
        start = np.concatenate([[0], np.cumsum(lengths)])
        columns = self.item[values], self.place[values], self.time[values]
        return Sessions(start, *columns, self.owner[sessions])


def sessions_of(owner, item, moment, pause, last=None):
    """Parts events into sessions.

    Args:
      owner: [N] numbers of users or queries.
      item: [N].
      moment: [N] microseconds.
      pause: hours; a longer pause begins a new session.
      last: the newest so many sessions of each owner are made one, and only these are kept.

    Returns: the sessions, by owner and time.
    """
    order = np.lexsort((moment, owner))
    owner, item, moment = owner[order], item[order], moment[order]
    other = np.diff(owner, prepend=-1) != 0
    begins = other | (np.diff(moment, prepend=0) > pause * HOUR)
    number = np.cumsum(begins) - 1
    if last is not None:
        # Sessions counted from the owner's newest one.
        final = np.zeros(int(owner.max(initial=-1)) + 1, np.int64)
        np.maximum.at(final, owner, number)
        kept = final[owner] - number < last
        owner, item, moment = owner[kept], item[kept], moment[kept]
        number = np.unique(owner, return_inverse=True)[1]
    # Of an item that is there twice the newest event counts.
    newest = np.lexsort((-moment, item, number))
    first = np.diff(number[newest] * (item.max(initial=0) + 1) + item[newest], prepend=-1) != 0
    chosen = newest[first]
    chosen = chosen[np.lexsort((-moment[chosen], number[chosen]))]
    owner, item, moment, number = owner[chosen], item[chosen], moment[chosen], number[chosen]
    begins = np.diff(number, prepend=-1) != 0
    step = np.cumsum(begins | (np.diff(moment, prepend=0) != 0))
    start = np.flatnonzero(begins)
    of = np.cumsum(begins) - 1
    place = step - step[start][of]
    short = np.arange(len(item)) - start[of] < MOST_ITEMS
    lengths = np.bincount(of[short], minlength=len(start))
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    return Sessions(bounds, item[short], place[short], moment[short], owner[start])


def known_sessions(log, settings):
    """The log's sessions of two items or more, of items in the catalogue."""
    listed = log["place"][log["item"]] >= 0
    every = sessions_of(
        log["user"][listed], log["item"][listed], log["time"][listed], settings["pause"]
    )
    return every.take(np.flatnonzero(np.diff(every.start) > 1))


def ranges(starts, lengths):
    """Numbers that rise within each list from its start."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])


class Neighbours:
    """Sessions that can be asked which held an item before a moment.

    Of a session that goes on after the moment only what came before it is known.
    """

    def __init__(self, sessions, items, settings, until=None):
        """Args:
        sessions: those of the log, and of the days asked about.
        items: how many.
        settings: see above.
        until: the end of the log, which rarity is counted up to; None for all.
        """
        self.sessions = sessions
        self.items = items
        self.settings = settings
        number = np.repeat(np.arange(len(sessions.owner)), np.diff(sessions.start))
        self.oldest = sessions.time.min(initial=2**62) // 1000
        age = SPAN - 1 - (sessions.time // 1000 - self.oldest)
        self.end = sessions.time[sessions.start[:-1]]
        # Both rise: a moment is found in a session, and in all that held an item, newest first.
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
        """[Q, items] sparse scores of as many current sessions.

        Args:
          asked: the current sessions.
          moment: [Q] microseconds.
          user: [Q] whose session that goes on at the moment is not known.
        """
        how = self.settings
        before = SPAN - (moment // 1000 - self.oldest)
        query, session, place, match_place, weight = self._shared(asked, before)
        pair = query * len(self.end) + session
        order = np.lexsort((place, pair))
        pair, match_place, place = pair[order], match_place[order], place[order]
        begins = np.diff(pair, prepend=-1) != 0
        # The first of each pair is the newest shared item.
        similarity = np.bincount(np.cumsum(begins) - 1, weight[order])
        query, session = np.divmod(pair[begins], len(self.end))
        match_place, place = match_place[begins], place[begins]
        newest = np.searchsorted(self.in_session, session * SPAN + before[query])
        other = (self.sessions.owner[session] != user[query]) | (self.end[session] < moment[query])
        kept = np.flatnonzero(other & (self.sessions.start[session + 1] - newest > 1))
        query, (session, newest, similarity, match_place, place) = largest(
            query[kept],
            self.sessions.time[newest[kept]],
            how["sample"],
            *(column[kept] for column in (session, newest, similarity, match_place, place)),
        )
        lengths = np.diff(asked.start)[query] * (self.sessions.start[session + 1] - newest)
        age = (moment[query] - self.sessions.time[newest]) / DAY
        similarity = similarity / np.sqrt(lengths) * decay(age, how["session_decay"])
        similarity = similarity * decay(place, how["match_decay"])
        query, (session, newest, similarity, match_place) = largest(
            query, similarity, how["nearest"], session, newest, similarity, match_place
        )
        return self._items_of(query, session, newest, similarity, match_place, len(moment))

    def _shared(self, asked, before):
        """Items that current sessions share with the newest sessions that held each: numbers of both,
        places in both, weight.
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
    """[Q, 600] positions in the catalogue, -1 behind the end."""
    lengths = np.diff(asked["start"])
    query = np.repeat(np.arange(len(lengths)), lengths)
    current = sessions_of(query, asked["item"], asked["time"], settings["pause"], settings["last"])
    ranked = np.full((len(lengths), LENGTH), -1, np.int64)
    for first in range(0, len(current.owner), QUERIES):
        part = current.take(np.arange(first, min(first + QUERIES, len(current.owner))))
        of = part.owner
        scores = neighbours.scores(part, asked["moment"][of], asked["asker"][of])
        ranked[of] = top(scores, log["place"])
    return ranked


def top(scores, place):
    """[Q, 600] positions of the items with the largest scores above 0, of those in the catalogue; of
    equal ones those with the lower number come first.
    """
    scores.sum_duplicates()
    ranked = np.full((scores.shape[0], LENGTH), -1, np.int64)
    for row, (begin, end) in enumerate(pairwise(scores.indptr)):
        value, item = scores.data[begin:end], scores.indices[begin:end]
        kept = (value > 0) & (place[item] >= 0)
        value, item = value[kept], item[kept]
        if len(value) > LENGTH:
            # Sorting all of them is most of a run where neighbours have many items.
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
    both = {name: np.concatenate([log[name], asked[name]]) for name in ("user", "item", "time")}
    sessions = known_sessions({**both, "place": log["place"]}, settings)
    neighbours = Neighbours(sessions, len(log["place"]), settings, int(log["time"].max()))
    ranked = {
        name: rank(neighbours, log, dict(np.load(folder / f"history-{name}.npz")), settings)
        for name in settings["cases"]
    }
    np.savez(out, **ranked)


if __name__ == "__main__":
    main()
