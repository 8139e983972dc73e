"""The order in which a day's rows are trained on, and the batches that it is cut into.

Rows are shuffled within blocks of an hour, because neighbours in time are often one user's clicks. The
order of the hours is kept, because what is popular changes by the hour. With `order = "shuffled"` all
rows are one block. No batch is smaller than asked for.

Some rows stay together in a group, because they share a history, which is then encoded once: a user's
neighbouring rows if histories are read as sequences; or a part of a basket, what a user took at one
time, if a user's rows are no negatives of each other (`mask_positives`).
"""

from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

import numpy as np

from model.data.sequence_packing import Packing
from model.data.training_rows import Rows
from model.towers.architecture import Architecture
from model.towers.history_encoder import last_of
from model.towers.pooling import EmbeddingBags, bagged
from twinspire_core.config.tables.training import TrainConfig
from twinspire_core.search.ragged import list_offsets, list_places

RUNS = 32
"""The fewest runs of a full batch, if a user's rows stay together: negatives should be of other users
too.
"""
BASKET_PARTS = 64
"""The fewest parts of baskets of a full batch: with half as many recall was somewhat lower
(docs/decisions/0026).
"""

SHUFFLED_MICROSECONDS = 3600 * 10**6
"""An hour."""


class Batch(NamedTuple):
    """What a step trains on.

    Attributes:
      rows: [B] int64, row numbers.
      features: transformed columns of those rows. Lists are laid out as embedding bags, but for
        histories that are read as sequences, which are as `model.towers.history_encoder.attended`
        takes them.
    """

    rows: np.ndarray
    features: dict[str, np.ndarray | EmbeddingBags]


def training_batches(
    rows: Rows, architecture: Architecture, settings: TrainConfig, day: date, epoch: int = 0
) -> Iterator[Batch]:
    """The batches of one pass over a day.

    Args:
      rows: of the day, or of the window, in the order of time.
      architecture: says which histories are read as sequences.
      settings: the table `train` of the pipeline file.
      day: seeds the shuffle, together with `epoch`, the number of the pass.
    """
    sequences = [column.name for column in architecture.columns["query"] if column.attention]
    packing = Packing(rows, sequences) if sequences else None
    plain = [name for name in rows.features if name not in sequences]
    # A function of day and pass alone: a day that is run again sees the same batches.
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
    """Cuts an order into batches of `size` rows or more.

    The rows left over are spread over all batches: an incomplete batch would have fewer negatives
    than the others. Only a day with fewer than `size` rows gives a smaller batch, its only one.

    Examples:
      >>> [len(batch) for batch in batches(np.arange(11), 3)]
      [4, 4, 3]
    """
    # array_split deals what is left over to the first parts: 11 rows by 3 are 4, 4 and 3.
    return np.array_split(order, max(1, len(order) // size)) if len(order) else []


def blocks(rows: Rows, settings: TrainConfig) -> np.ndarray:
    """The block that each row lies in, [N] int64 ascending; rows are shuffled within a block."""
    if settings.order == "shuffled":
        return np.zeros(len(rows), np.int64)
    # The clock's hours, not sixty minutes from the first row: rows that join later change no block.
    return rows.time // SHUFFLED_MICROSECONDS


def baskets(rows: Rows, most: int, rng: np.random.Generator) -> np.ndarray:
    """Cuts what a user took at one time into parts of up to `most` rows, drawn at random and about
    equally large.

    Args:
      rows: in the order of time; rows of a user and a time make a basket only if they stand
        together.
      most: how many rows a part has at most.
      rng: draws which rows are in a part together.

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
    # position * parts // size deals a basket's rows, in random order, to parts that differ by one row.
    part = np.empty(len(rows), np.int64)
    part[order] = first_part[basket] + position * parts[basket] // size[basket]
    return part


def shuffled(block: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Row numbers, block after block, shuffled within each.

    Args:
      block: [N] int64, ascending, the block that each row lies in.
      group: [N] int64 from 0; rows of a group stay together, in their order, and are of one block.
      rng: draws the order of the groups.

    Returns: [N] int64.
    """
    position = rng.permutation(group.max(initial=-1) + 1)
    # lexsort is stable: rows of a group keep their order.
    return np.lexsort((position[group], block))
