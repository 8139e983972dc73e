"""Hashes that are the same on every machine: of users, for shards and samples, and of rows."""

import hashlib
import zlib
from collections.abc import Iterable

import numpy as np
import polars as pl
import pyarrow as pa

from twinspire_core.contracts.feature_schema import ROW

_ALL = 1 << 64
_IDENTITY = ("_user", "_item", "_time", "_type", ROW)


def shards(users: pl.Series, number: int) -> pl.Series:
    """The shard of each of [N] users, or the part of each of [N] other strings: [N] Int32 from 0 to
    `number` - 1.
    """
    if number == 1:
        return pl.zeros(len(users), pl.Int32, eager=True)
    distinct = users.unique()
    # Python's own hash of a string differs from process to process.
    shard_of = [zlib.crc32(user.encode()) % number for user in distinct]
    shard = pl.Series(shard_of, dtype=pl.Int32)
    return users.replace_strict(distinct, shard, return_dtype=pl.Int32)


def sampling_hashes(users: pl.Series, day: str) -> np.ndarray:
    """A uniform random number, [N] uint64, for each of [N] users and the day. The users with the smallest
    numbers are held out.

    Args:
      day: such as 2017-10-16; any other text gives another sample.
    """
    prefix = hashlib.blake2b(f"{day}|".encode(), digest_size=8)

    def digest(user: str) -> bytes:
        whole = prefix.copy()
        whole.update(user.encode())
        return whole.digest()

    # Little-endian on every machine.
    return np.frombuffer(b"".join(map(digest, users)), "<u8")


def limit(share: float) -> int:
    """The hash that is above this share of all hashes."""
    return int(share * _ALL)


def smallest(hashes: np.ndarray, share: float, most: int) -> np.ndarray:
    """The hashes of a shard whose users may be held out: at most `most`, ascending.

    Args:
      hashes: [N] uint64 of a shard's users.
      share: of all users who are held out, in [0, 1].
      most: the most users of all shards together who are held out.
    """
    # A shard cannot contribute more users than are held out in total, so its `most` smallest hashes are
    # enough.
    return np.sort(hashes[hashes < limit(share)])[:most]


def last_held_out_hash(smallest_of_shards: Iterable[bytes], most: int) -> int:
    """The largest hash that is held out: the hash of rank `most` among the smallest of all shards."""
    return int(np.sort(np.frombuffer(b"".join(smallest_of_shards), np.uint64))[:most][-1])


def row_hashes(batch: pa.RecordBatch) -> np.ndarray:
    """A hash, [N] uint64, of the columns that identify each row: user, item, time and type, or time and
    number, as far as the batch has them.
    """
    from pandas.util import hash_array  # imported here, because the embed stage needs no pandas

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
        # Hashed again after each column. A plain sum would give user 1 with item 2 the same hash as user 2
        # with item 1.
        total = hash_array(total)
    return total


def string_hashes(strings: pa.Array) -> np.ndarray:
    """[N] uint64, of [N] strings."""
    from pandas.util import hash_array

    return np.asarray(hash_array(strings.to_numpy(zero_copy_only=False), categorize=False))
