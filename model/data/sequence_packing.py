"""Packs the histories of many rows into few sequences.

A user's next history is the one before with new items behind it and, once it is full, with items
gone in front. Laid end to end, a user's histories are windows of one timeline. Self-attention here
looks back only, so one pass over a stretch of the timeline encodes every row whose window ends in
it. To encode each history by itself takes tens of times as long.

A row's encoding is what it would be alone, but for one thing: of a history of `length` items the
oldest may be missing, as long as half of `length` remains. Otherwise full histories could share
nothing.

A history that does not continue the row before it, whatever the reason, starts a timeline of its
own: only the ids are compared.

N rows, L the longest history, M entries of all timelines, B rows of a batch, S sequences of T
places.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model.data.training_rows import Rows
from twinspire_core.search.ragged import list_ranges

ROWS_COMPARED = 65_536
"""Rows compared at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timelines:
    """One column's histories, as windows of timelines that lie end to end.

    Attributes:
      ids: [M] int32, all timelines.
      start: [N] int64, where each row's window starts in `ids`.
      stop: [N] int64, where it ends.
      number: [N] int64, which timeline it is a window of.
      length: the most ids of a window, L.
    """

    ids: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    number: np.ndarray
    length: int


class Packing:
    """Rows with histories that are read as sequences.

    Attributes:
      columns: timelines by column.
    """

    def __init__(self, rows: Rows, columns: Sequence[str]) -> None:
        """Compares each row's histories with those of the user's row before.

        Args:
          rows: in the order of time.
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

        Returns: [N] int64, numbers from 0, in the order of user and time.
        """
        order = self._order
        rows = np.arange(len(order))
        end = rows + most
        breaks = np.diff(block[order]) != 0
        for column in self.columns.values():
            start = column.start[order]
            stop = column.stop[order]
            # A run's sequence is the window of its last row. A row may be in the run as long as
            # that window holds its newest items, half of `length` of them or all there are. Starts
            # ascend, so the furthest such last row is found by bisection.
            needed = np.minimum(stop - start, (column.length + 1) // 2)
            end = np.minimum(end, np.searchsorted(start, stop - needed, side="right"))
            breaks |= np.diff(column.number[order]) != 0
        bounds = np.concatenate([[0], np.flatnonzero(breaks) + 1, [len(order)]])
        first_rows = _first_rows(end, bounds, rng.random(len(bounds)))
        numbers = np.empty(len(order), np.int64)
        numbers[order] = np.searchsorted(first_rows, rows, side="right") - 1
        return numbers

    def take(self, batch: np.ndarray, run: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """The sequences of a batch, by column.

        Args:
          batch: [B] int64 row numbers; those of a run stand together, in the order of time. A part
            of a run is a run.
          run: [B] int64, the run of each row.

        Returns: [S, T] int32, sequences padded with 0 at the end; and [B] int32, where each row's
        last item stands in the sequences when they are laid end to end, -1 for an empty history.
        """
        return {name: _pack(column, batch, run) for name, column in self.columns.items()}


def timelines(history: np.ndarray, order: np.ndarray, user: np.ndarray) -> Timelines:
    """Finds out how histories overlap.

    Args:
      history: [N, L] int32, oldest first, padded with 0 at the end.
      order: [N] int64, row numbers by user and time.
      user: [N] int64, a number for each row's user.
    """
    count = (history > 0).sum(1)
    # By place in `order`: how many ids are gone since the row before; -1 starts a timeline.
    gone = np.full(len(order), -1, np.int64)
    for first in range(1, len(order), ROWS_COMPARED):
        places = np.arange(first, min(first + ROWS_COMPARED, len(order)))
        places = places[user[order[places]] == user[order[places - 1]]]
        gone[places] = _gone_in_front(history, count, order[places - 1], order[places])
    count_before = np.concatenate([[0], count[order[:-1]]]) if len(order) else count
    shared = np.where(gone >= 0, count_before - gone, 0)
    added = count[order] - shared
    stop = np.cumsum(added)
    # Each history adds its last ids: these places of it.
    position = list_ranges(count[order] - added, added)
    place_in_order = np.empty_like(order)
    place_in_order[order] = np.arange(len(order))
    return Timelines(
        ids=history[np.repeat(order, added), position],
        start=(stop - count[order])[place_in_order],
        stop=stop[place_in_order],
        number=np.cumsum(gone < 0)[place_in_order],
        length=history.shape[1],
    )


def _gone_in_front(
    history: np.ndarray, count: np.ndarray, before: np.ndarray, after: np.ndarray
) -> np.ndarray:
    """How many ids at the front of a history are no longer in the next one; -1 if the next one does
    not continue it.

    Args:
      history: [N, L] int32, padded with 0 at the end.
      count: [N], how many ids each history has.
      before: [P] numbers of rows.
      after: [P] numbers of the rows that follow them.

    Returns: [P] int64.
    """
    result = np.full(len(before), -1, np.int64)
    open_pairs = np.arange(len(before))
    for gone in range(history.shape[1]):
        earlier = before[open_pairs]
        later = after[open_pairs]
        kept = count[earlier] - gone
        # Any history continues an empty one, and none continues one that is all gone. Comparing the
        # first id that is kept rules out most pairs.
        first_alike = history[earlier, gone] == history[later, 0]
        may_continue = (kept <= count[later]) & np.where(kept > 0, first_alike, gone == 0)
        candidates = np.flatnonzero(may_continue)
        width = history.shape[1] - gone
        alike = history[earlier[candidates], gone:] == history[later[candidates], :width]
        behind_end = np.arange(width) >= kept[candidates, np.newaxis]
        continued = candidates[(alike | behind_end).all(1)]
        result[open_pairs[continued]] = gone
        open_pairs = np.delete(open_pairs, continued)
        if not len(open_pairs):
            break
    return result


def _first_rows(end: np.ndarray, bounds: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Where runs begin, as places in the order of user and time.

    Of a timeline that makes several runs the first is cut short at random. Otherwise the same rows
    would be in a run together in every pass.

    Args:
      end: [N], the furthest end of a run that begins at each place.
      bounds: places that no run may reach across, 0 and N among them.
      draws: in [0, 1), one per bound: the share that is left of the first run.
    """
    first_rows = []
    pairs = zip(bounds[:-1].tolist(), bounds[1:].tolist(), draws.tolist(), strict=False)
    for first, last, share in pairs:
        row = first
        next_row = int(end[first])
        if next_row < last:
            next_row = first + 1 + int(share * (next_row - first))
        while row < last:
            first_rows.append(row)
            row = next_row
            next_row = int(end[row]) if row < last else last
    return np.array(first_rows, np.int64)


def _pack(column: Timelines, batch: np.ndarray, run: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    is_last = np.append(run[1:] != run[:-1], True)
    sequence = np.cumsum(is_last) - is_last
    start = column.start[batch[is_last]]
    stop = column.stop[batch[is_last]]
    width = max(1, int((stop - start).max()))
    position = start[:, np.newaxis] + np.arange(width)
    inside = position < stop[:, np.newaxis]
    ids = np.zeros(position.shape, np.int32)
    ids[inside] = column.ids[position[inside]]
    last_item = sequence * width + column.stop[batch] - start[sequence] - 1
    is_empty = column.stop[batch] <= column.start[batch]
    return ids, np.where(is_empty, -1, last_item).astype(np.int32)
