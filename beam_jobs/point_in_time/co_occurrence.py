"""Items that the same users took: for each item its nearest others, by users in common.

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
PARTS = 16
"""Parts that the items are cut into: a worker pairs one at a time."""
SHRINKAGE = 5.0
"""Added to the expected users in common, so that few users make no item near."""

TAKEN = pa.schema([("_code", pa.int64()), ("_item", pa.string())])
BASKETS = pa.schema([("user", pa.int32()), ("item", pa.int32())])
USER_COUNTS = pa.schema([("item", pa.int64()), ("n", pa.int64())])
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
    plan = job.plan
    return {
        plan.folder(feature_schema.CO_OCCURRENCE, moment): (
            plan.folder(feature_schema.CORPUS, moment),
            moment,
        )
        for moment in plan.table_days
    }


def baskets(positives: pl.DataFrame, moment: date, train_days: int) -> pa.RecordBatch:
    """What each user took in the training window that ends at the start of a day: `TAKEN`, sorted
    by user, each user's items in the order taken.

    Args:
      positives: `_code`, `_item`, `_time`, `_day`.
      moment: the day.
      train_days: length of the window.
    """
    first = day_plan.number(moment - timedelta(days=train_days))
    end = day_plan.number(moment)
    window = positives.filter(pl.col("_day").is_between(first, end, closed="left"))
    taken = window.group_by("_code", "_item").agg(pl.col("_time").max())
    last = taken.sort("_code", "_time", "_item").group_by("_code", maintain_order=True).tail(BASKET)
    return batches.to_batch(last, TAKEN)


def basket_sizes(user: np.ndarray) -> np.ndarray:
    """How many baskets have each size, [`BASKET` + 1] int64; those of parts of the users add up.

    Args:
      user: [R] int64, ascending.
    """
    starts = np.flatnonzero(np.diff(user, prepend=-1))
    return np.bincount(np.diff(starts, append=len(user)), minlength=BASKET + 1).astype(np.int64)


def longest_paired(sizes: np.ndarray) -> int:
    """How many items of a basket are paired at the most, for all baskets to make up to `MOST_PAIRS`
    pairs: two are in any case.

    Args:
      sizes: [`BASKET` + 1] int64, how many of all users' baskets have each size.
    """
    # In floats, which cannot overflow.
    size = np.arange(len(sizes), dtype=np.float64)
    for longest in range(len(sizes) - 1, 2, -1):
        cut_size = np.minimum(size, longest)
        if sizes @ (cut_size * (cut_size - 1)) <= MOST_PAIRS:
            return longest
    return 2


def cut(user: np.ndarray, longest: int) -> np.ndarray:
    """Which items of baskets are paired, [R] bool: the last `longest` of each user.

    Args:
      user: [R] int64, ascending, each user's items in the order taken.
      longest: see `longest_paired`.
    """
    starts = np.flatnonzero(np.diff(user, prepend=-1))
    sizes = np.diff(starts, append=len(user))
    kept: np.ndarray = np.arange(len(user)) >= np.repeat(starts + sizes - longest, sizes)
    return kept


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
    # Of the basket that a row is in: its first row, and its size.
    first = np.repeat(starts, sizes)
    size = np.repeat(sizes, sizes)
    mine = np.flatnonzero((item >= part.start) & (item < part.stop))
    # A row makes as many pairs as its basket has rows: chunks of about as many pairs are bounded
    # in memory, whatever the baskets are like.
    made_by_then = np.cumsum(size[mine])
    ends = np.flatnonzero(np.diff(made_by_then // _CHUNK)) + 1
    chunks = np.split(mine, ends)
    return added([_paired(rows, first[rows], size[rows], item, items) for rows in chunks])


def _paired(
    rows: np.ndarray, first: np.ndarray, size: np.ndarray, item: np.ndarray, items: int
) -> Pairs:
    """Pairs some rows with all others of their baskets.

    Args:
      rows: [P] int64.
      first: [P] int64, the first row of each one's basket.
      size: [P] int64, rows of each one's basket.
      item: [R] int64.
      items: N, of all.
    """
    # Each row beside all rows of its basket, itself as well.
    other = list_ranges(first, size)
    one = np.repeat(rows, size)
    apart = one != other
    pair = item[one[apart]].astype(np.int64) * items + item[other[apart]]
    return _counted(np.sort(pair))


def _counted(pair: np.ndarray) -> Pairs:
    """How often each number comes, of numbers in ascending order."""
    heads = np.flatnonzero(np.diff(pair, prepend=-1))
    return Pairs(pair[heads], np.diff(heads, append=len(pair)))


def added(several: Sequence[Pairs]) -> Pairs:
    """The same pairs of different users, added up."""
    if len(several) == 1:
        return several[0]
    pair = np.concatenate([np.zeros(0, np.int64), *(found.pair for found in several)])
    users = np.concatenate([np.zeros(0, np.int64), *(found.users for found in several)])
    if not len(pair):
        return Pairs(pair, users)
    order = np.argsort(pair)
    heads = np.flatnonzero(np.diff(pair[order], prepend=-1))
    return Pairs(pair[order][heads], np.add.reduceat(users[order], heads))


def nearest(counted: Pairs, user_counts: np.ndarray, row: np.ndarray, n: int) -> pl.DataFrame:
    """Each item's nearest others.

    Args:
      counted: each pair with all its users.
      user_counts: [N] int64, users who have each item.
      row: [N] int64, its row in the corpus, which has the items in the same order; -1 where it has
        none: only items of the corpus are anybody's neighbours.
      n: the most neighbours of an item.

    Returns: `item`, `_rows` (the neighbours' rows, nearest first, then by row), `_similarities`;
    sorted by item.
    """
    one, other = np.divmod(counted.pair, len(user_counts))
    recommendable = row[other] >= 0
    one = one[recommendable]
    other = other[recommendable]
    in_common = counted.users[recommendable]
    expected = np.sqrt(user_counts[one].astype(np.float64) * user_counts[other])
    similarity = (in_common / (expected + SHRINKAGE)).astype(np.float32)

    # Positive floats sort like their bits, so item and distance fit into one integer. Rows ascend
    # with the pairs and the sort is stable: of equally near ones the first rows come first.
    distance = 0xFFFFFFFF - similarity.view(np.uint32).astype(np.int64)
    order = np.argsort((one << 32) | distance, kind="stable")
    starts = np.flatnonzero(np.diff(one, prepend=-1))
    sizes = np.diff(starts, append=len(one))
    order = order[list_places(sizes) < n]

    offsets = pa.array(list_offsets(np.minimum(sizes, n)))
    rows = pa.LargeListArray.from_arrays(offsets, pa.array(row[other[order]]))
    similarities = pa.LargeListArray.from_arrays(offsets, pa.array(similarity[order]))
    table = pa.table({"item": one[starts], "_rows": rows, "_similarities": similarities})
    return pl.DataFrame(pl.from_arrow(table))
