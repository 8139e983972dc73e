"""A user's events, parted into sessions by pauses. Read by quality/session_peer.py in an environment
without this project.
"""

from typing import NamedTuple

import numpy as np

DAY = 86_400_000_000
HOUR = DAY // 24
MOST_ITEMS = 100
"""Items of a session, those taken last."""


class Sessions(NamedTuple):
    """S sessions of M distinct items.

    Attributes:
      start: [S + 1] where each begins.
      item: [M] numbers.
      place: [M] ranks of the items' moments from the end of the session: 0 is the newest.
      end: [S] microseconds.
    """

    start: np.ndarray
    item: np.ndarray
    place: np.ndarray
    end: np.ndarray


def sessions_of(owner, item, moment, pause, last=None):
    """Parts events into sessions.

    Args:
      owner: [N] numbers of users or queries.
      item: [N].
      moment: [N] microseconds.
      pause: hours; a longer pause begins a new session.
      last: the newest so many sessions of each owner are made one, and only these are kept.

    Returns: the sessions, by owner and time; the owner of each.
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
    found = Sessions(
        start=np.concatenate([[0], np.cumsum(lengths)]),
        item=item[short],
        place=place[short],
        end=moment[start],
    )
    return found, owner[start]


def known_sessions(log, settings):
    """The log's sessions of two items or more, oldest end first, of items in the catalogue."""
    listed = log["place"][log["item"]] >= 0
    every, _ = sessions_of(
        log["user"][listed], log["item"][listed], log["time"][listed], settings["pause"]
    )
    lengths = np.diff(every.start)
    kept = np.flatnonzero(lengths > 1)
    kept = kept[np.argsort(every.end[kept], kind="stable")]
    values = ranges(every.start[kept], lengths[kept])
    return Sessions(
        start=np.concatenate([[0], np.cumsum(lengths[kept])]),
        item=every.item[values],
        place=every.place[values],
        end=every.end[kept],
    )


def ranges(starts, lengths):
    """Numbers that rise within each list from its start."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
