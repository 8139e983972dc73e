"""Shuffles the rows of a day, cuts them into batches, and packs the histories of many rows into few sequences.

Rows are shuffled within blocks of an hour, because neighbours in time are often clicks of one user. The
order of hours is kept, because popularity changes by the hour. With `order = "shuffled"`, all rows are one
block.

Some rows stay together in a group because they share a history, which is then encoded once. A group is
either several successive rows of a user, if histories are read as sequences; or a part of a basket (the
items that a user took at one time), if rows of a user are not negatives of each other (`mask_positives`).

A user's next history is the last one with new items at its end and, once it is full, without some items at
its start. So all histories of a user are windows of one timeline. Self-attention only looks back here, so
one pass over a stretch of the timeline encodes every row whose window ends in it. That is tens of times
faster than one pass for each row, with almost the same result: the oldest items of a long history may be
missing, but at least half of `length` remain. Otherwise full histories could share nothing.

A history that does not continue the one before it starts a new timeline. Only ids are compared.

N rows, L the longest history, M entries of all timelines, B rows of a batch, S sequences of T places.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np

from model.data.training_rows import Rows
from model.towers.architecture import Architecture
from model.towers.list_encoders import EmbeddingBags, bagged, last_of
from twinspire_core.config.tables.training import TrainConfig
from twinspire_core.search.ragged import list_offsets, list_places, list_ranges

RUNS = 32
"""The fewest runs in a full batch, if rows of a user stay together: most negatives should be items of other
users.
"""
BASKET_PARTS = 64
"""The fewest parts of baskets in a full batch. With half as many, recall was slightly lower
(docs/decisions/0026).
"""
SHUFFLED_MICROSECONDS = 3600 * 10**6
"""An hour."""


class Batch(NamedTuple):
    """The rows of one training step.

    Attributes:
      rows: [B] int64, row numbers.
      features: transformed columns of those rows. Lists are embedding bags, except histories that are
        read as sequences: these have the form that `model.towers.list_encoders.attended` reads.
    """

    rows: np.ndarray
    features: dict[str, np.ndarray | EmbeddingBags]


def training_batches(
    rows: Rows, architecture: Architecture, settings: TrainConfig, day: date, epoch: int = 0
) -> Iterator[Batch]:
    """The batches of one pass over a day.

    Args:
      rows: rows of the day or of the window, in the order of time.
      settings: the table `train` of the pipeline file.
      day: seeds the shuffle, together with `epoch`, the number of the pass.
    """
    sequences = [column.name for column in architecture.columns["query"] if column.attention]
    packing = Packing(rows, sequences) if sequences else None
    plain = [name for name in rows.features if name not in sequences]
    # Seeded by day and pass alone, so that a second run of the day trains on the same batches.
    rng = np.random.default_rng([settings.seed, day.toordinal(), epoch])
    block = blocks(rows, settings)
    if packing:
        group = packing.runs(block, max(1, settings.batch_size // RUNS), rng)
    elif settings.negatives.mask_positives:
        group = baskets(rows, max(1, settings.batch_size // BASKET_PARTS), rng)
    else:
        group = np.arange(len(rows))
    order = shuffled(block, group, rng)
    lists = architecture.lists
    for batch in batches(order, settings.batch_size):
        features = bagged({name: rows.features[name][batch] for name in plain}, lists)
        if packing:
            for name, (ids, last) in packing.take(batch, group[batch]).items():
                features[name] = ids
                features[last_of(name)] = last
        yield Batch(batch, features)


def batches(order: np.ndarray, size: int) -> list[np.ndarray]:
    """Cuts an order into batches of at least `size` rows. Only a day with fewer rows has a smaller batch.

    Examples:
      >>> [len(batch) for batch in batches(np.arange(11), 3)]
      [4, 4, 3]
    """
    # array_split spreads the remaining rows over the batches. A small last batch would have fewer
    # negatives than the others.
    return np.array_split(order, max(1, len(order) // size)) if len(order) else []


def blocks(rows: Rows, settings: TrainConfig) -> np.ndarray:
    """The block of each row, [N] int64 ascending. Rows are shuffled within a block."""
    if settings.order == "shuffled":
        return np.zeros(len(rows), np.int64)
    # Hours of the clock, not since the first row, so that late rows do not change the blocks.
    return rows.time // SHUFFLED_MICROSECONDS


def baskets(rows: Rows, most: int, rng: np.random.Generator) -> np.ndarray:
    """Cuts baskets into random parts of at most `most` rows and about the same size. A basket is what a user
    took at one time.

    Args:
      rows: in the order of time. Only successive rows form a basket.
      most: the largest number of rows in a part.
      rng: draws the rows of each part.

    Returns: [N] int64, the number of each row's part, from 0.
    """
    starts_basket = (np.diff(rows.time) != 0) | (np.diff(rows.user) != 0)
    basket = np.zeros(len(rows), np.int64)
    basket[1:] = np.cumsum(starts_basket)
    size = np.bincount(basket)
    order = np.lexsort((rng.random(len(rows)), basket))
    position = list_places(size)
    parts = -(-size // most)
    first_part = list_offsets(parts)[:-1]
    # position * parts // size deals a basket's rows, in random order, to parts whose sizes differ by at
    # most one row.
    part = np.empty(len(rows), np.int64)
    part[order] = first_part[basket] + position * parts[basket] // size[basket]
    return part


def shuffled(block: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Row numbers, shuffled within each block.

    Args:
      block: [N] int64, ascending, the block of each row.
      group: [N] int64 from 0; rows of a group stay together, in their order, and are in one block.
      rng: draws the order of the groups.

    Returns: [N] int64.
    """
    position = rng.permutation(group.max(initial=-1) + 1)
    # lexsort is stable: rows of a group keep their order.
    return np.lexsort((position[group], block))


ROWS_COMPARED = 65_536
"""Rows compared at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timelines:
    """The histories of one column, as windows of timelines.

    Attributes:
      ids: [M] int32, all timelines, one after the other.
      start: [N] int64, the start of each row's window in `ids`.
      stop: [N] int64, the end of the window.
      number: [N] int64, the number of the timeline.
      length: the largest number of ids in a window, L.
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
        """Compares each row's histories with those of the user's last row before it.

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
          block: [N] int64; a run is in one block.
          most: the largest number of rows in a run.
          rng: draws the first cut of a timeline that becomes several runs.

        Returns: [N] int64, numbers from 0, in the order of user and time.
        """
        order = self._order
        rows = np.arange(len(order))
        end = rows + most
        breaks = np.diff(block[order]) != 0
        for column in self.columns.values():
            start = column.start[order]
            stop = column.stop[order]
            # A run's sequence is the window of its last row. A row may be in the run if this window
            # contains its newest items: half of `length`, or all if it has fewer. Starts are ascending,
            # so bisection finds the furthest such last row.
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
          batch: [B] int64 row numbers; rows of a run are together, in the order of time. A part of a
            run is a run.
          run: [B] int64, the run of each row.

        Returns: [S, T] int32, sequences padded with 0 at the end; and [B] int32, the position of each
        row's last item in the flattened sequences, -1 for an empty history.
        """
        return {name: _pack(column, batch, run) for name, column in self.columns.items()}


def timelines(history: np.ndarray, order: np.ndarray, user: np.ndarray) -> Timelines:
    """Finds how the histories of each user overlap.

    Args:
      history: [N, L] int32, oldest first, padded with 0 at the end.
      order: [N] int64, row numbers by user and time.
      user: [N] int64, a number for each row's user.
    """
    count = (history > 0).sum(1)
    # By place in `order`: the number of ids that left since the row before; -1 starts a new timeline.
    gone = np.full(len(order), -1, np.int64)
    for first in range(1, len(order), ROWS_COMPARED):
        places = np.arange(first, min(first + ROWS_COMPARED, len(order)))
        places = places[user[order[places]] == user[order[places - 1]]]
        gone[places] = _gone_in_front(history, count, order[places - 1], order[places])
    count_before = np.concatenate([[0], count[order[:-1]]]) if len(order) else count
    shared = np.where(gone >= 0, count_before - gone, 0)
    added = count[order] - shared
    stop = np.cumsum(added)
    # Each history adds only its last ids to the timeline.
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
    """The number of ids at the start of a history that the next one no longer has; -1 if the next one does
    not continue it.

    Args:
      history: [N, L] int32, padded with 0 at the end.
      count: [N], the number of ids in each history.
      before: [P] row numbers.
      after: [P] the row number after each of them.

    Returns: [P] int64.
    """
    result = np.full(len(before), -1, np.int64)
    open_pairs = np.arange(len(before))
    for gone in range(history.shape[1]):
        earlier = before[open_pairs]
        later = after[open_pairs]
        left = count[earlier] - gone
        # Any history continues an empty one; none continues a history whose ids have all left. Comparing
        # only the first kept id already rules out most pairs.
        first_alike = history[earlier, gone] == history[later, 0]
        may_continue = (left <= count[later]) & np.where(left > 0, first_alike, gone == 0)
        candidates = np.flatnonzero(may_continue)
        width = history.shape[1] - gone
        alike = history[earlier[candidates], gone:] == history[later[candidates], :width]
        behind_end = np.arange(width) >= left[candidates, np.newaxis]
        continued = candidates[(alike | behind_end).all(1)]
        result[open_pairs[continued]] = gone
        open_pairs = np.delete(open_pairs, continued)
        if not len(open_pairs):
            break
    return result


def _first_rows(end: np.ndarray, bounds: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The first row of each run, as places in the order of user and time.

    Args:
      end: [N], the furthest end of a run that begins at each place.
      bounds: places that no run may cross, including 0 and N.
      draws: in [0, 1), one per bound: the share of the first run that is kept.
    """
    first_rows = []
    pairs = zip(bounds[:-1].tolist(), bounds[1:].tolist(), draws.tolist(), strict=False)
    for first, last, share in pairs:
        row = first
        next_row = int(end[first])
        if next_row < last:
            # The first of several runs is cut short at random. Otherwise the same rows would be in a
            # run together in every pass.
            next_row = first + 1 + int(share * (next_row - first))
        while row < last:
            first_rows.append(row)
            row = next_row
            next_row = int(end[row]) if row < last else last
    return np.array(first_rows, np.int64)


def _pack(column: Timelines, batch: np.ndarray, run: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Rows of the runs [7, 7, 9] are in the sequences [0, 0, 1].
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
