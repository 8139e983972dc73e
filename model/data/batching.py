"""The order in which a day's rows are trained on, and the batches it is cut into.

Within a block of `shuffle_minutes` rows are shuffled, because neighbours in time are often one
user's clicks; beyond it the order of time is kept, because what is popular changes by the hour.
With `order = "shuffled"` all rows are one block. No batch is smaller than asked for.

Rows that share a history share its work, so that some stand together: a user's neighbouring rows
where histories are read as sequences; and parts of a basket, what a user took at one time, where a
user's rows are no negatives of each other (`mask_positives`).
"""

from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

import numpy as np

from model.data import training_rows
from model.data.sequence_packing import Packing
from model.data.training_rows import Rows
from model.towers.architecture import Architecture
from model.towers.history_encoder import last_of
from model.towers.pooling import EmbeddingBags, bagged
from twinspire_core.config.tables.training import TrainConfig
from twinspire_core.search.ragged import list_offsets, list_places

RUNS = 32
"""Fewest runs of a full batch, where rows of a user stand together: negatives are to be other
users' too.
"""
BASKET_PARTS = 64
"""Fewest parts of baskets of a full batch: with half as many recall was somewhat lower
(docs/decisions/0032).
"""


class Batch(NamedTuple):
    """What a step is taken on.

    Attributes:
      rows: [B] int64, row numbers.
      features: transformed columns of those rows; lists laid out as bags, but for histories that
        are read as sequences, which are as `model.towers.history_encoder.attended` takes them.
    """

    rows: np.ndarray
    features: dict[str, np.ndarray | EmbeddingBags]


def training_batches(
    rows: Rows, layout: Architecture, settings: TrainConfig, day: date, epoch: int = 0
) -> Iterator[Batch]:
    """The batches of a day.

    Args:
      rows: the day's, or the window's, in order of time.
      layout: tells which histories are read as sequences.
      settings: the pipeline file's `train`.
      day: seeds the shuffle, together with `epoch`.
      epoch: number of the pass.
    """
    sequences = [part.column for part in layout.parts["query"] if part.attention]
    packing = Packing(rows, sequences) if sequences else None
    plain = [name for name in rows.features if name not in sequences]
    lists = layout.lists
    rng = np.random.default_rng([settings.seed, day.toordinal(), epoch])
    block = blocks(rows, settings)
    if packing:
        together = packing.runs(block, max(1, settings.batch_size // RUNS), rng)
    elif settings.negatives.mask_positives:
        together = baskets(rows, max(1, settings.batch_size // BASKET_PARTS), rng)
    else:
        together = np.arange(len(rows))
    for batch in training_rows.batches(shuffled(block, together, rng), settings.batch_size):
        features = bagged(training_rows.take(rows, batch, plain), lists)
        for name, (ids, last) in (packing.take(batch, together[batch]) if packing else {}).items():
            features |= {name: ids, last_of(name): last}
        yield Batch(batch, features)


def blocks(rows: Rows, settings: TrainConfig) -> np.ndarray:
    """The block that each row lies in, [N] int64; rows are shuffled within."""
    if settings.order == "shuffled":
        return np.zeros(len(rows), np.int64)
    if not settings.shuffle_minutes:
        return np.arange(len(rows))
    return rows.time // (settings.shuffle_minutes * 60_000_000)


def baskets(rows: Rows, most: int, rng: np.random.Generator) -> np.ndarray:
    """Cuts what a user took at one time into parts of up to `most` rows, drawn at random and about
    equally large.

    Args:
      rows: in order of time; rows of a user and a time are only found where they stand together.
      most: rows of a part.
      rng: draws who is with whom.

    Returns: [N] int64, the number of each row's part, from 0.
    """
    basket = np.zeros(len(rows), np.int64)
    basket[1:] = np.cumsum((np.diff(rows.time) != 0) | (np.diff(rows.user) != 0))
    size = np.bincount(basket)
    order = np.lexsort((rng.random(len(rows)), basket))
    parts = -(-size // most)
    first_part = list_offsets(parts)[:-1]
    part = np.empty(len(rows), np.int64)
    part[order] = first_part[basket] + list_places(size) * parts[basket] // size[basket]
    return part


def shuffled(block: np.ndarray, together: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Row numbers, block after block, shuffled within each.

    Args:
      block: [N] int64, ascending.
      together: [N] int64 from 0; rows of one number stay together, in their order, and are of one
        block.
      rng: source of the shuffle.

    Returns: [N] int64.
    """
    place = rng.permutation(together.max(initial=-1) + 1)
    return np.lexsort((place[together], block))
