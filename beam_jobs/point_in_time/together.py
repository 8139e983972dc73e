"""What the same users took: for each item its nearest others, by users in common.

With n_a the users who have item a in their basket and n_ab those who have both a and b, their similarity is

    n_ab / (sqrt(n_a n_b) + SHRINKAGE)

the cosine of the two items' columns in the table of users by items, drawn towards 0 where few users tell. A basket is
what a user took in the training window, the last `BASKET` items at the most: it bounds the pairs of a user, and so the
work. Source: Sarwar et al., *Item-Based Collaborative Filtering Recommendation Algorithms*, WWW 2001.

Items are numbers here: places in the sorted items of the count table, N of them.
"""

from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np
import polars as pl
import pyarrow as pa

from beam_jobs import batches, days, schema
from beam_jobs.point_in_time.job import Job

BASKET = 50
"""The most items of a user that are paired, the last taken."""
SHRINKAGE = 5.0
"""Users in common that an item of few users lacks, in a manner of speaking."""

TAKEN = pa.schema([("_code", pa.int64()), ("_item", pa.string())])
PAIRS = pa.schema([("item", pa.int64()), ("other", pa.int64()), ("n", pa.int64())])
TAKERS = pa.schema([("item", pa.int64()), ("n", pa.int64())])
NO_PAIRS = pa.RecordBatch.from_pylist([], schema=PAIRS)

_CHUNK = 50_000
"""Rows of baskets paired at a time: at most `BASKET` times as many pairs."""


def moments(job: Job) -> dict[str, tuple[str, date]]:
    """By folder of the output: the corpus whose rows its neighbours are, and the day at whose start they are known."""
    day = job.plan.day
    both = {
        schema.CO_OCCURRENCE_START: (schema.CORPUS_START, day),
        schema.CO_OCCURRENCE_END: (schema.CORPUS_END, days.after(day)),
    }
    return {folder: found for folder, found in both.items() if found[1] in job.plan.corpora}


def baskets(positives: pl.DataFrame, moment: date, train_days: int) -> pa.RecordBatch:
    """What each user took in the training window that ends at the start of a day: `TAKEN`, sorted by user.

    Args:
      positives: `_code`, `_item`, `_time`, `_day`.
      moment: the day.
      train_days: length of the window.
    """
    first = days.number(moment - timedelta(days=train_days))
    window = positives.filter(pl.col("_day").is_between(first, days.number(moment), closed="left"))
    taken = window.group_by("_code", "_item").agg(pl.col("_time").max()).sort("_code", "_time", "_item")
    return batches.to_batch(taken.group_by("_code", maintain_order=True).tail(BASKET), TAKEN)


def pairs(user: np.ndarray, item: np.ndarray) -> Iterator[pl.DataFrame]:
    """Counts the pairs of the same user.

    Args:
      user: [R] int64, ascending.
      item: [R] int64, none twice for a user.

    Yields: `item`, `other`, `n`: users who have both, in both orders. One pair may come in several frames.
    """
    ends = np.flatnonzero(np.diff(user, append=-1)) + 1
    start = 0
    while start < len(user):
        stop = int(ends[np.searchsorted(ends, min(start + _CHUNK, len(user)))])
        yield _counted(user[start:stop], item[start:stop])
        start = stop


def _counted(user: np.ndarray, item: np.ndarray) -> pl.DataFrame:
    found = []
    for apart in range(1, len(user)):
        same = user[apart:] == user[:-apart]
        if not same.any():
            break
        one, other = item[:-apart][same], item[apart:][same]
        found += [pl.DataFrame({"item": one, "other": other}), pl.DataFrame({"item": other, "other": one})]
    none = pl.DataFrame(schema={"item": pl.Int64, "other": pl.Int64})
    return pl.concat([none, *found]).group_by("item", "other").agg(pl.len().cast(pl.Int64).alias("n"))


def nearest(counted: pl.DataFrame, takers: np.ndarray, row: np.ndarray, n: int) -> pl.DataFrame:
    """Each item's nearest others.

    Args:
      counted: `item`, `other`, `n`, each pair of items with all its users.
      takers: [N] int64, users who have each item.
      row: [N] int64, its row in the corpus, -1 where it has none: only items of the corpus are anybody's neighbours.
      n: the most neighbours of an item.

    Returns: `item`, `_rows` (the neighbours' rows, nearest first, then by row), `_similarities`; sorted by item.
    """
    known = counted.filter(pl.Series(row[counted["other"].to_numpy()] >= 0))
    one, other = known["item"].to_numpy(), known["other"].to_numpy()
    similarity = known["n"].to_numpy() / (np.sqrt(takers[one].astype(np.float64) * takers[other]) + SHRINKAGE)
    found = known.select("item", _rows=pl.Series(row[other]), _similarities=pl.Series(similarity).cast(pl.Float32))
    found = found.sort("item", "_similarities", "_rows", descending=[False, True, False])
    return found.group_by("item", maintain_order=True).agg(pl.col("_rows", "_similarities").head(n))
