"""What the same users took: for each item its nearest others, by users in common.

With n_a the users who have item a in their basket and n_ab those who have both a and b, their
similarity is

    n_ab / (sqrt(n_a n_b) + SHRINKAGE)

the cosine of the two items' columns in the table of users by items, drawn towards 0 where few users
tell. A basket is what a user took in the training window, the last `BASKET` items at the most: it
bounds the pairs of a user, and so the work. Where all users together would have more than
`MOST_PAIRS`, baskets are cut to as many items as that allows: a user's pairs grow with the square
of the basket, so that a few long ones are most of the work and have most of the say.
Source: Sarwar et al., *Item-Based Collaborative Filtering Recommendation Algorithms*, WWW 2001.

Items are numbers here: places in the sorted items of the count table, N of them.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from beam_jobs import day_plan
from beam_jobs.beam import batches
from beam_jobs.point_in_time.job import FeatureJob
from twinspire_core.contracts import feature_schema
from twinspire_core.search.ragged import list_offsets, list_places, list_ranges

BASKET = 50
"""The most items of a user that are paired, the last taken."""
MOST_PAIRS = 100_000_000
"""The most pairs of all users, each in both orders."""
SHRINKAGE = 5.0
"""Users in common that an item of few users lacks, in a manner of speaking."""

TAKEN = pa.schema([("_code", pa.int64()), ("_item", pa.string())])
BASKETS = pa.schema([("user", pa.int32()), ("item", pa.int32())])
TAKERS = pa.schema([("item", pa.int64()), ("n", pa.int64())])
NO_BASKETS = pa.RecordBatch.from_pylist([], schema=BASKETS)

_CHUNK = 1 << 22
"""Pairs made at a time, roughly."""


class Pairs(NamedTuple):
    """Pairs of items, each in both orders.

    Attributes:
      pair: [P] int64, item * N + other, ascending.
      users: [P] int64, who have both.
    """

    pair: np.ndarray
    users: np.ndarray


def moments(job: FeatureJob) -> dict[str, tuple[str, date]]:
    """By folder of the output: the corpus whose rows its neighbours are, and the day at whose start
    they are known.
    """
    day = job.plan.day
    both = {
        feature_schema.CO_OCCURRENCE_START: (feature_schema.CORPUS_START, day),
        feature_schema.CO_OCCURRENCE_END: (feature_schema.CORPUS_END, day_plan.after(day)),
    }
    return {folder: found for folder, found in both.items() if found[1] in job.plan.corpora}


def baskets(positives: pl.DataFrame, moment: date, train_days: int, most: int) -> pa.RecordBatch:
    """What each user took in the training window that ends at the start of a day: `TAKEN`, sorted
    by user.

    Args:
      positives: `_code`, `_shard`, `_item`, `_time`, `_day`.
      moment: the day.
      train_days: length of the window.
      most: pairs of a shard's users.
    """
    first = day_plan.number(moment - timedelta(days=train_days))
    window = positives.filter(
        pl.col("_day").is_between(first, day_plan.number(moment), closed="left")
    )
    taken = window.group_by("_code", "_item").agg(pl.col("_time").max(), pl.col("_shard").first())
    last = taken.sort("_code", "_time", "_item").group_by("_code", maintain_order=True).tail(BASKET)
    user, shard = last["_code"].to_numpy(), last["_shard"].to_numpy()
    kept = np.ones(len(last), bool)
    for number in np.unique(shard):
        kept[shard == number] = cut(user[shard == number], most)
    return batches.to_batch(last.filter(pl.Series(kept)), TAKEN)


def cut(user: np.ndarray, most: float) -> np.ndarray:
    """Which items of baskets are paired: all, or the last of each user, as many as make up to
    `most` pairs.

    Args:
      user: [R] int64, ascending, each user's items in the order taken.
      most: pairs, each in both orders.

    Returns: [R] bool.
    """
    starts = np.flatnonzero(np.diff(user, prepend=-1))
    sizes = np.diff(starts, append=len(user))
    longest = sizes.max(initial=0)
    while (
        longest > 2 and (kept := np.minimum(sizes, longest).astype(np.float64)) @ (kept - 1) > most
    ):
        longest -= 1
    return np.arange(len(user)) >= np.repeat(starts + sizes - longest, sizes)


def of_part(user: np.ndarray, item: np.ndarray, part: range) -> np.ndarray:
    """Which rows of baskets the pairs of a part's items are made of, [R] bool: whole baskets of two
    items or more.

    Args:
      user: [R] int64, numbers from 0.
      item: [R] int64.
      part: items.
    """
    touched = np.zeros(user.max(initial=-1) + 1, bool)
    touched[user[(item >= part.start) & (item < part.stop)]] = True
    touched &= np.bincount(user, minlength=len(touched)) > 1
    items: np.ndarray = touched[user]
    return items


def pairs(user: np.ndarray, item: np.ndarray, part: range, items: int) -> Pairs:
    """Counts the pairs of the same user whose first item is one of a part.

    Args:
      user: [R] int64, each user's rows beside each other.
      item: [R] int64, none twice for a user.
      part: items.
      items: N, of all.
    """
    starts = np.flatnonzero(np.diff(user, prepend=-1))
    sizes = np.diff(starts, append=len(user))
    # Of the basket that a row is in
    first, size = np.repeat(starts, sizes), np.repeat(sizes, sizes)
    mine = np.flatnonzero((item >= part.start) & (item < part.stop))
    chunks = np.split(mine, np.flatnonzero(np.diff(np.cumsum(size[mine]) // _CHUNK)) + 1)
    return added([_paired(rows, first[rows], size[rows], item, items) for rows in chunks])


def _paired(
    rows: np.ndarray, first: np.ndarray, size: np.ndarray, item: np.ndarray, items: int
) -> Pairs:
    """Pairs some rows with all others of their baskets."""
    other = list_ranges(first, size)
    one = np.repeat(rows, size)
    apart = one != other
    pair = np.sort(item[one[apart]].astype(np.int64) * items + item[other[apart]])
    heads = np.flatnonzero(np.diff(pair, prepend=-1))
    return Pairs(pair[heads], np.diff(heads, append=len(pair)))


def added(several: Sequence[Pairs]) -> Pairs:
    """The same pairs of different users, added up."""
    if len(several) == 1:
        return several[0]
    pair = np.concatenate([np.zeros(0, np.int64), *(found.pair for found in several)])
    users = np.concatenate([np.zeros(0, np.int64), *(found.users for found in several)])
    order = np.argsort(pair)
    heads = np.flatnonzero(np.diff(pair[order], prepend=-1))
    return Pairs(pair[order][heads], np.add.reduceat(users[order], heads) if len(heads) else users)


def nearest(counted: Pairs, takers: np.ndarray, row: np.ndarray, n: int) -> pl.DataFrame:
    """Each item's nearest others.

    Args:
      counted: each pair with all its users.
      takers: [N] int64, users who have each item.
      row: [N] int64, its row in the corpus, which has the items in the same order; -1 where it has
        none: only items of the corpus are anybody's neighbours.
      n: the most neighbours of an item.

    Returns: `item`, `_rows` (the neighbours' rows, nearest first, then by row), `_similarities`;
    sorted by item.
    """
    one, other = np.divmod(counted.pair, len(takers))
    known = row[other] >= 0
    one, other, both = one[known], other[known], counted.users[known]
    similarity = both / (np.sqrt(takers[one].astype(np.float64) * takers[other]) + SHRINKAGE)
    similarity = similarity.astype(np.float32)
    # Positive floats sort like their bits: item and nearness in one integer. Rows ascend, and the
    # sort is stable.
    far = 0xFFFFFFFF - similarity.view(np.uint32).astype(np.int64)
    order = np.argsort((one << 32) | far, kind="stable")
    starts = np.flatnonzero(np.diff(one, prepend=-1))
    sizes = np.diff(starts, append=len(one))
    order = order[list_places(sizes) < n]
    lists = {"_rows": row[other[order]], "_similarities": similarity[order]}
    offsets = pa.array(list_offsets(np.minimum(sizes, n)))
    columns = {
        name: pa.LargeListArray.from_arrays(offsets, pa.array(values))
        for name, values in lists.items()
    }
    return pl.DataFrame(pl.from_arrow(pa.table({"item": one[starts], **columns})))
