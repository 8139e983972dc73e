"""The histories of many rows as few sequences.

A user's next history is the one before with something behind it and, once it is full, with
something gone in front. Laid end to end, a user's histories are windows of one timeline; and since
self-attention only looks back, one pass over a stretch of it encodes every row whose window ends
there. Encoding each history by itself takes tens of times as long.

A row's encoding is what it would be alone, but for one thing: of a history of `length` items the
oldest may be missing, as long as half of `length` remains. Otherwise full histories could not share
anything.

A history that does not go on from the row before, whatever the reason, starts a timeline of its
own: only the ids in them are compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.data.training_rows import Rows
from twinspire_core.search.ragged import list_ranges

SLICE = 65_536
"""Rows compared at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timelines:
    """One column's histories, as windows of timelines that lie end to end.

    Attributes:
      ids: [M] int32, all timelines.
      start: [N] int64, where each row's window starts in `ids`.
      stop: [N] int64, where it ends.
      number: [N] int64, which timeline it is a window of.
      length: the most ids in a window.
    """

    ids: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    number: np.ndarray
    length: int


class Packing:
    """Rows with histories that are read as sequences.

    Attributes:
      columns: by name.
    """

    def __init__(self, rows: Rows, columns: Sequence[str]) -> None:
        """Compares each row's histories with those of the user's row before.

        Args:
          rows: in order of time.
          columns: the histories, [N, L] int32 each.
        """
        self._order = np.argsort(rows.user, kind="stable")
        self.columns = {
            name: timelines(rows.features[name], self._order, rows.user) for name in columns
        }

    def runs(self, block: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
        """Cuts the rows into runs, each of which shares a sequence.

        Args:
          block: [N] int64; a run lies in one block.
          most: rows in a run.
          rng: draws where a timeline that makes several runs is cut first.

        Returns: [N] int64, numbers from 0, in order of user and time.
        """
        order = self._order
        rows = np.arange(len(order))
        end = rows + most
        breaks = np.diff(block[order]) != 0
        for lines in self.columns.values():
            start, stop = lines.start[order], lines.stop[order]
            needed = np.minimum(stop - start, (lines.length + 1) // 2)
            # Windows start one behind the other, and a run's sequence is the window of its last
            # row.
            end = np.minimum(end, np.searchsorted(start, stop - needed, side="right"))
            breaks |= np.diff(lines.number[order]) != 0
        bounds = np.concatenate([[0], np.flatnonzero(breaks) + 1, [len(order)]])
        begins = _cut(end, bounds, rng.random(len(bounds)))
        numbers = np.empty(len(order), np.int64)
        numbers[order] = np.searchsorted(begins, rows, side="right") - 1
        return numbers

    def take(self, batch: np.ndarray, run: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """The sequences of a batch, by column.

        Args:
          batch: [B] row numbers; those of a run stand together, in order of time. A part of a run
            is a run.
          run: [B] int64, the run of each.

        Returns: [S, T] int32, sequences padded with 0 at the end, and [B] int32, where each row's
          last item stands in them when they are laid end to end; -1 for an empty history.
        """
        return {name: _pack(lines, batch, run) for name, lines in self.columns.items()}


def timelines(history: np.ndarray, order: np.ndarray, user: np.ndarray) -> Timelines:
    """Finds out how histories overlap.

    Args:
      history: [N, L] int32, oldest first, padded with 0 at the end.
      order: [N] row numbers by user and time.
      user: [N] int64.
    """
    count = (history > 0).sum(1)
    gone = np.full(len(order), -1, np.int64)
    for first in range(1, len(order), SLICE):
        after = np.arange(first, min(first + SLICE, len(order)))
        after = after[user[order[after]] == user[order[after - 1]]]
        gone[after] = _gone(history, count, order[after - 1], order[after])
    before = np.concatenate([[0], count[order[:-1]]]) if len(order) else count
    added = count[order] - np.where(gone >= 0, before - gone, 0)
    stop = np.cumsum(added)
    # Each history adds its last ids: their places in it.
    place = list_ranges(count[order] - added, added)
    by_row = np.empty_like(order)
    by_row[order] = np.arange(len(order))
    return Timelines(
        ids=history[np.repeat(order, added), place],
        start=(stop - count[order])[by_row],
        stop=stop[by_row],
        number=np.cumsum(gone < 0)[by_row],
        length=history.shape[1],
    )


def _gone(
    history: np.ndarray, count: np.ndarray, before: np.ndarray, after: np.ndarray
) -> np.ndarray:
    """How many ids of a history are gone in front in the one after it, [P]; -1 where that does not
    go on from it.

    Args:
      history: [N, L].
      count: [N], ids in each.
      before: [P] row numbers.
      after: [P] row numbers.
    """
    found = np.full(len(before), -1, np.int64)
    left = np.arange(len(before))
    for gone in range(history.shape[1]):
        a, b = before[left], after[left]
        kept = count[a] - gone
        # Anything goes on from an empty history, nothing from one that is all gone. Most others end
        # at the first id.
        able = (kept <= count[b]) & np.where(kept > 0, history[a, gone] == history[b, 0], gone == 0)
        some = np.flatnonzero(able)
        width = history.shape[1] - gone
        same = history[a[some], gone:] == history[b[some], :width]
        some = some[(same | (np.arange(width) >= kept[some, np.newaxis])).all(1)]
        found[left[some]] = gone
        left = np.delete(left, some)
        if not len(left):
            break
    return found


def _cut(end: np.ndarray, bounds: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Where runs begin.

    Args:
      end: [N], the furthest end of a run that begins at each row.
      bounds: where no run may reach across, 0 and N among them.
      draws: in [0, 1), one per bound: of what would be the first run, the share that is.
    """
    begins = []
    for first, last, share in zip(
        bounds[:-1].tolist(), bounds[1:].tolist(), draws.tolist(), strict=False
    ):
        at, to = first, int(end[first])
        if to < last:
            to = first + 1 + int(share * (to - first))
        while at < last:
            begins.append(at)
            at, to = to, int(end[to]) if to < last else last
    return np.array(begins, np.int64)


def _pack(lines: Timelines, batch: np.ndarray, run: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    last = np.append(run[1:] != run[:-1], True)
    sequence = np.cumsum(last) - last
    start, stop = lines.start[batch[last]], lines.stop[batch[last]]
    width = max(1, int((stop - start).max()))
    place = start[:, np.newaxis] + np.arange(width)
    ids = np.zeros(place.shape, np.int32)
    inside = place < stop[:, np.newaxis]
    ids[inside] = lines.ids[place[inside]]
    at = sequence * width + lines.stop[batch] - start[sequence] - 1
    return ids, np.where(lines.stop[batch] > lines.start[batch], at, -1).astype(np.int32)
