"""Stable 64-bit fingerprints of string ids. With them a training step identifies items without a vocabulary."""

import numpy as np
import pyarrow as pa

GAMMA = 0x9E3779B97F4A7C15
"""2^64 divided by the golden ratio, as in splitmix64 (Steele, Lea and Flood, OOPSLA 2014)."""


def fingerprint(ids: pa.Array | pa.ChunkedArray | np.ndarray | list[str]) -> np.ndarray:
    """Hashes strings, the same on every machine and in every release.

    The string's UTF-8 bytes are taken as little-endian words of 8 bytes, the last one padded with
    zeros. From `h = splitmix64(length + GAMMA)` they are folded by `h = splitmix64(h xor word)`.
    Ids of one length up to 8 bytes never collide.

    Args:
      ids: [N] strings; a null counts as the empty string.

    Returns: [N] int64.
    """
    # Not Python's `hash`, which differs from process to process.
    data, offsets = _utf8_bytes(ids)
    start = offsets[:-1]
    length = np.diff(offsets)
    state = splitmix64(length.astype(np.uint64) + np.uint64(GAMMA))
    rows = np.flatnonzero(length > 0)
    # One word of all strings at a time, so the Python loop has one iteration for each word of the longest
    # string.
    for at in range(0, int(length.max(initial=0)), 8):
        rows = rows[length[rows] > at]
        state[rows] = splitmix64(state[rows] ^ _words(data, start[rows] + at, length[rows] - at))
    return state.view(np.int64)


def splitmix64(x: np.ndarray) -> np.ndarray:
    """Splitmix64's finaliser: a bijection of [N] uint64 in which every input bit moves every output
    bit.
    """
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _words(data: np.ndarray, start: np.ndarray, left: np.ndarray) -> np.ndarray:
    """The 8 bytes from each `start`, zero beyond `left` bytes, as [N] uint64."""
    # "abc" is read as 0x0000000000636261: the first byte is the lowest.
    byte = np.arange(8)
    taken = data[start[:, np.newaxis] + byte]
    taken[byte >= left[:, np.newaxis]] = 0
    return taken.view("<u8")[:, 0].astype(np.uint64)


def _utf8_bytes(
    ids: pa.Array | pa.ChunkedArray | np.ndarray | list[str],
) -> tuple[np.ndarray, np.ndarray]:
    """UTF-8 bytes of all ids, and [N + 1] int64 offsets into them.

    Eight bytes are appended after the last id, so that its last word can be read completely.
    """
    array = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(ids, pa.string())
    # Cast before chunks are combined, because strings with 32-bit offsets are limited to 2 GiB.
    array = array.cast(pa.large_string())
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    array = array.fill_null("").cast(pa.large_binary())
    _, offsets, content = array.buffers()
    bounds = np.zeros(1, np.int64)
    if len(array):
        # A slice of an array shares the buffers of the whole array.
        first = array.offset
        bounds = np.frombuffer(offsets, np.int64)[first : first + len(array) + 1]
    data = np.zeros(0, np.uint8)
    if content is not None:
        data = np.frombuffer(content, np.uint8)
    return np.concatenate([data, np.zeros(8, np.uint8)]), np.asarray(bounds, np.int64)
