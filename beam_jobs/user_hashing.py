"""Hashes of users that are the same on every machine and in every release."""

import hashlib
import zlib
from collections.abc import Iterable

import numpy as np
import polars as pl

_ALL = 1 << 64


def shards(users: pl.Series, number: int) -> pl.Series:
    """The shard of each user.

    Args:
      users: [N] String.
      number: of shards.

    Returns: [N] Int32 in 0..number-1.
    """
    distinct = users.unique()
    found = [zlib.crc32(user.encode()) % number for user in distinct]
    return users.replace_strict(distinct, pl.Series(found, dtype=pl.Int32), return_dtype=pl.Int32)


def sampling_hashes(users: pl.Series, day: str) -> np.ndarray:
    """A number drawn for each user and day, evenly from all of uint64; the smallest are held out.

    Args:
      users: [N] String.
      day: as 2017-10-16.

    Returns: [N] uint64.
    """
    prefix = hashlib.blake2b(f"{day}|".encode(), digest_size=8)

    def draw(user: str) -> bytes:
        drawn = prefix.copy()
        drawn.update(user.encode())
        return drawn.digest()

    return np.frombuffer(b"".join(map(draw, users)), "<u8")


def limit(share: float) -> int:
    """The lots below this one are that share of all."""
    return int(share * _ALL)


def smallest(lots: np.ndarray, share: float, most: int) -> np.ndarray:
    """The lots that may be held out, ascending, at most `most`: all that a shard has to tell the
    others.
    """
    return np.sort(lots[lots < limit(share)])[:most]


def last_held_out_hash(lots: Iterable[bytes], most: int) -> int:
    """The largest lot that is held out: of all shards' smallest ones, the one of rank `most`."""
    return int(np.sort(np.frombuffer(b"".join(lots), np.uint64))[:most][-1])
