"""Hashes of users and rows that are the same on every machine and in every release."""

import hashlib
import zlib
from collections.abc import Iterable

import numpy as np
import polars as pl
import pyarrow as pa
from pandas.util import hash_array

from twinspire_core.contracts.feature_schema import ROW

_ALL = 1 << 64
_IDENTITY = ("_user", "_item", "_time", "_type", ROW)


def shards(users: pl.Series, number: int) -> pl.Series:
    """The shard of each user; likewise the part of each value where others are spread.

    Args:
      users: [N] String.
      number: of shards.

    Returns: [N] Int32 in 0..number-1.
    """
    if number == 1:
        return pl.zeros(len(users), pl.Int32, eager=True)
    distinct = users.unique()
    # Python's own hash of a string differs from process to process.
    shard_of = [zlib.crc32(user.encode()) % number for user in distinct]
    shard = pl.Series(shard_of, dtype=pl.Int32)
    return users.replace_strict(distinct, shard, return_dtype=pl.Int32)


def sampling_hashes(users: pl.Series, day: str) -> np.ndarray:
    """A number drawn for each user and day, evenly from all of uint64; the smallest are held out.

    Args:
      users: [N] String.
      day: as 2017-10-16.

    Returns: [N] uint64.
    """
    prefix = hashlib.blake2b(f"{day}|".encode(), digest_size=8)

    def digest(user: str) -> bytes:
        whole = prefix.copy()
        whole.update(user.encode())
        return whole.digest()

    # Little-endian on every machine.
    return np.frombuffer(b"".join(map(digest, users)), "<u8")


def limit(share: float) -> int:
    """Hashes below this one are that share of all."""
    return int(share * _ALL)


def smallest(hashes: np.ndarray, share: float, most: int) -> np.ndarray:
    """The hashes whose users may be held out: all that a shard has to tell the others.

    Args:
      hashes: [N] uint64.
      share: of users who are held out, in [0, 1].
      most: users held out, at the most.

    Returns: [M] uint64, ascending, at most `most`.
    """
    return np.sort(hashes[hashes < limit(share)])[:most]


def last_held_out_hash(smallest_of_shards: Iterable[bytes], most: int) -> int:
    """The largest hash that is held out: of all shards' smallest ones, the one of rank `most`."""
    hashes = np.frombuffer(b"".join(smallest_of_shards), np.uint64)
    return int(np.sort(hashes)[:most][-1])


def row_hashes(batch: pa.RecordBatch) -> np.ndarray:
    """[N] uint64, of what tells rows apart: user, item, time and type, or time and number.

    Args:
      batch: [N] rows with some of these columns.
    """
    total = np.zeros(batch.num_rows, np.uint64)
    for name in _IDENTITY:
        if name not in batch.schema.names:
            continue
        column = batch[name]
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            coded = column.dictionary_encode()
            total += string_hashes(coded.dictionary)[coded.indices.to_numpy()]
        else:
            total += column.cast(pa.int64()).to_numpy().view(np.uint64)
        # Else user 1 with item 2 would be user 2 with item 1.
        total = hash_array(total)
    return total


def string_hashes(strings: pa.Array) -> np.ndarray:
    """[N] uint64, of [N] strings."""
    hashes: np.ndarray = hash_array(strings.to_numpy(zero_copy_only=False), categorize=False)
    return hashes
