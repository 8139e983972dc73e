"""Hashes of users that are the same on every machine and in every release."""

import hashlib
import zlib
from collections.abc import Iterable

import numpy as np
import polars as pl

_ALL = 1 << 64


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
