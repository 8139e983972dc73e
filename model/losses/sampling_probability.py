"""A streaming estimate of each item's sampling probability, without a vocabulary (Yi et al., RecSys
2019, section 3).

Three things differ from Algorithm 2 of the paper, for reasons in docs/decisions/0005-loss-and-frequency.md.

- Time is counted in rows instead of steps, so a changed batch size needs no conversion: the mean gap
  between two hits of an item *is* 1 / q.
- The c hits of one step count as c equal gaps, not as one gap followed by c - 1 gaps of length 0.
- The rows before an item's first hit are not a gap, also in later passes over the same rows, because the
  item may not have existed. The rows from the item's last hit to the end of a pass are a gap.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from model.item_fingerprint import GAMMA, fingerprint

KNOWN_FROM = 10
"""With at least this many rows on a day, the true share of an item is not mostly chance."""
_MAX_POINTS = 300
# Of each hash function: 2 MB in all, with which a small shop's items hardly share a bucket
_LEAST_BUCKETS = 1 << 16


def hash_buckets(items: tf.Tensor, hashes: int, buckets: int) -> tf.Tensor:
    """The bucket of each of N items (int64 fingerprints) for each hash function, [hashes, N] int64. The
    first function uses the numbers below `buckets`, the next function the numbers after them.
    """
    salts = [_signed(GAMMA * (i + 1)) for i in range(hashes)]
    mixed = _splitmix64(items[tf.newaxis, :] ^ tf.constant(salts, tf.int64)[:, tf.newaxis])
    start = tf.range(hashes, dtype=tf.int64)[:, tf.newaxis] * buckets
    # The sign bit is cleared, so that the remainder is not negative.
    return start + _shift(mixed, 1) % buckets


def _splitmix64(x: tf.Tensor) -> tf.Tensor:
    """`model.item_fingerprint.splitmix64` on int64: products wrap like those of unsigned numbers."""
    x = (x ^ _shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shift(x, 31)


def _shift(x: tf.Tensor, bits: int) -> tf.Tensor:
    """Shifts int64 right by `bits`, filling with zeros instead of the sign."""
    return tf.bitwise.right_shift(x, tf.constant(bits, tf.int64)) & ((1 << (64 - bits)) - 1)


def _signed(x: int) -> int:
    """The int64 with the bits of `x` modulo 2^64."""
    x &= (1 << 64) - 1
    return x - (1 << 64) if x >> 63 else x


# Value in `last`: the last hit is in rows that the next pass repeats.
_OPEN = -1


def enough_buckets(items: int, parent: Mapping[str, np.ndarray] | None = None) -> int:
    """Buckets of each hash function: at least five times the items.

    Args:
      items: number of different items to be trained on.
      parent: the state to continue from. Its buckets are doubled until they are enough.
    """
    buckets = _LEAST_BUCKETS
    if parent:
        buckets = int(parent["shape"][1])
        items = max(items, _items_of(parent))
    while buckets < 5 * items:
        buckets *= 2
    return buckets


def _items_of(state: Mapping[str, np.ndarray]) -> int:
    # A state of an earlier release does not count them
    return int(state.get("items", len(state["bucket"]) // state["shape"][0]))


class StreamingFrequency(tf.Module):
    """The current share of each item in the rows, q. The estimate follows a changing corpus.

    Every item has one bucket per hash function. A collision can only make a bucket's mean gap too short,
    so the longest of an item's gaps counts (as in a count-min sketch). The estimate remembers about
    1 / alpha hits: the standard deviation of log q is about sqrt(alpha / 2) for every item, and it follows
    frequent items faster. The first 1 / alpha gaps have equal weights, so that a rare item does not keep
    its initial value for ever.

    Attributes:
      last: [hashes * buckets] int64, rows seen when the bucket was last hit (the paper's A); 0 for
        never, `_OPEN` if that hit is in rows that the next pass repeats.
      gap: [hashes * buckets] float32, mean rows between two hits (the paper's B).
      hits: [hashes * buckets] int32, the number of gaps that the mean was made of.
      seen: scalar int64, rows seen so far.

    Example: item 7 is every second row, so its share is a half.
      >>> frequency = StreamingFrequency(buckets=16)
      >>> for _ in range(50):
      ...     log_q = frequency.update(tf.constant([7, 8], tf.int64))
      >>> round(float(tf.exp(log_q[0])), 2)
      0.5
    """

    def __init__(
        self,
        *,
        buckets: int,
        hashes: int = 1,
        alpha: float = 0.01,
        initial_gap: float = 100_000.0,
    ) -> None:
        """Starts with no item seen.

        Args:
          buckets: buckets of each hash function, of 16 bytes each (`enough_buckets`).
          hashes: how many independent hash functions there are.
          alpha: learning rate, in (0, 1].
          initial_gap: assumed rows between hits for an item that was hit once.
        """
        super().__init__()
        self.buckets = buckets
        self.hashes = hashes
        self.alpha = alpha
        self.initial_gap = initial_gap
        size = buckets * hashes
        self.last = tf.Variable(tf.zeros([size], tf.int64), trainable=False)
        self.gap = tf.Variable(
            tf.fill([size], tf.constant(initial_gap, tf.float32)), trainable=False
        )
        self.hits = tf.Variable(tf.zeros([size], tf.int32), trainable=False)
        self.seen = tf.Variable(tf.constant(0, tf.int64), trainable=False)
        self._items_before = self._used_before = 0

    def update(self, items: tf.Tensor) -> tf.Tensor:
        """Counts one batch.

        Args:
          items: [B] int64 fingerprints, duplicates included.

        Returns: [B] float32, log q of each row's item after the update. B q is the item's expected
        count in a batch (pairing A of duplicates in docs/decisions/0005-loss-and-frequency.md).
        """
        rows = tf.size(items, tf.int64)
        # Time is counted in rows, not in steps, so the batch size does not matter.
        now = self.seen.assign_add(rows)
        places = self._places(items)
        # A batch may hit a bucket several times, but each bucket is written once.
        bucket, _, count = tf.unique_with_counts(tf.reshape(places, [-1]))
        old_mean, gap_sum, old_gaps, new_gaps = self._gaps(bucket, count, now, rows)
        old_weight = self._kept_weight(old_gaps, new_gaps)
        mean = old_weight * old_mean + (1 - old_weight) * gap_sum / tf.cast(count, tf.float32)
        self.gap.scatter_update(tf.IndexedSlices(mean, bucket))
        self.last.scatter_update(tf.IndexedSlices(tf.fill(tf.shape(bucket), now), bucket))
        self.hits.scatter_update(tf.IndexedSlices(old_gaps + new_gaps, bucket))
        return -tf.math.log(tf.reduce_max(tf.gather(self.gap, places), axis=0))

    def log_q(self, items: tf.Tensor) -> tf.Tensor:
        """Log q of any items, [N] int64 fingerprints, also of items outside the current batch: [N] float32.

        A mean gap changes only when its item is hit. So if the open gap is already longer than the mean, the
        open gap is used instead.
        """
        places = self._places(items)
        last = tf.gather(self.last, places)
        open_gap = tf.where(last == _OPEN, tf.zeros_like(last), self.seen - last)
        gap = tf.maximum(tf.gather(self.gap, places), tf.cast(open_gap, tf.float32))
        return -tf.math.log(tf.reduce_max(gap, axis=0))

    def rewind(self, seen: int) -> None:
        """Sets the clock back to the start of the rows that the next pass repeats.

        The estimates stay. The gap from an item's last hit to the end of the rows now counts: c hits in n
        rows since the first hit make a mean gap of n / (c - 1), the maximum likelihood estimate if gaps
        are exponential. The rows before an item's first hit do not count, also not in the next pass.
        Otherwise an item that is new on the last of many days would look rare.

        Args:
          seen: number of rows before the repeated ones.
        """
        was_hit = self.last > seen
        open_gap = tf.cast(self.seen - self.last, tf.float32)
        gaps = tf.clip_by_value(tf.cast(self.hits, tf.float32), 1, 1 / self.alpha)
        # A bucket that was hit once has no gap yet, and keeps the assumed gap.
        gap = tf.where(self.hits > 0, self.gap + open_gap / gaps, tf.maximum(self.gap, open_gap))
        self.gap.assign(tf.where(was_hit, gap, self.gap))
        self.last.assign(tf.where(was_hit, tf.constant(_OPEN, tf.int64), self.last))
        self.seen.assign(seen)

    def state(self) -> dict[str, np.ndarray]:
        """The buckets that were ever hit and the rows seen, as arrays that `restore` takes: `bucket`,
        `hits`, `last` and `gap`, [buckets hit] each; `seen` and `items`, the number of different items
        so far, scalars; and `shape`, [hashes, buckets].
        """
        last = self.last.numpy()
        bucket = np.flatnonzero(last)
        return {
            "bucket": bucket,
            "hits": self.hits.numpy()[bucket],
            "last": last[bucket],
            "gap": self.gap.numpy()[bucket],
            "seen": np.int64(self.seen.numpy()),
            "shape": np.array([self.hashes, self.buckets], np.int64),
            # By linear counting (Whang, Vander-Zanden and Taylor 1990)
            "items": np.int64(
                self._items_before + self._holds(len(bucket)) - self._holds(self._used_before)
            ),
        }

    def _holds(self, used: int) -> int:
        """How many items hit so many buckets, of all functions together."""
        buckets = self.buckets * self.hashes
        return round(-self.buckets * np.log1p(-min(used, buckets - 1) / buckets))

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continues from a `state` of as many hash functions. If its buckets were fewer, each is copied to
        all that items of it may have now: a hash of b buckets is a hash of 2 b buckets, modulo b.

        Raises:
          ValueError: the number of buckets is no multiple of the state's.
        """
        hashes, buckets = state["shape"].tolist()
        if hashes != self.hashes or self.buckets % buckets:
            raise ValueError(
                f"{self.hashes} x {self.buckets} buckets cannot hold {hashes} x {buckets}"
            )
        function, place = np.divmod(state["bucket"], buckets)
        copies = np.arange(0, self.buckets, buckets)[:, np.newaxis]
        bucket = function * self.buckets + place + copies
        for variable, name, empty in (
            (self.hits, "hits", 0),
            (self.last, "last", 0),
            (self.gap, "gap", self.initial_gap),
        ):
            full = np.full(variable.shape, empty, variable.dtype.as_numpy_dtype)
            full[bucket] = state[name]
            variable.assign(full)
        self.seen.assign(int(state["seen"]))
        self._items_before, self._used_before = _items_of(state), bucket.size

    def _gaps(
        self, bucket: tf.Tensor, count: tf.Tensor, now: tf.Tensor, rows: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """The new gaps of the buckets that a batch hits, [H] each.

        Args:
          bucket: [H] int64, distinct numbers of buckets.
          count: [H] int32, hits of the batch.
          now: scalar int64, rows seen after the batch.
          rows: scalar int64, rows of the batch.

        Returns, for each bucket: the mean gap so far, the total rows of the new gaps, the number of gaps so
        far, and the number of new gaps.
        """
        last = tf.gather(self.last, bucket)
        mean = tf.gather(self.gap, bucket)
        gaps = tf.gather(self.hits, bucket)
        gap_sum = tf.cast(now - last, tf.float32)
        # No gap ends at the first hit. So c first hits in a batch are c - 1 gaps of rows / c each.
        first_hits = last <= 0
        mean = tf.where(last == 0, tf.minimum(gap_sum, self.initial_gap), mean)
        gap_sum = tf.where(first_hits, tf.cast(rows, tf.float32), gap_sum)
        return mean, gap_sum, gaps, tf.where(first_hits, count - 1, count)

    def _kept_weight(self, earlier: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """Weight of the old mean after `count` more gaps, each with its own rate.

        While there are fewer than 1 / alpha gaps, gap number n has the rate 1 / n, and the mean
        keeps (n - 1) / n: the product over n = earlier + 1 … earlier + even telescopes to
        earlier / (earlier + even). Each of the others keeps 1 - alpha.
        """
        even = tf.clip_by_value(int(1 / self.alpha) - earlier, 0, count)
        before = tf.cast(earlier, tf.float32)
        averaged = tf.cast(earlier + even, tf.float32)
        rest = tf.cast(count - even, tf.float32)
        # Without evenly weighted gaps the product is empty, so it is 1, even if `earlier` is 0.
        kept_even = tf.where(even > 0, tf.math.divide_no_nan(before, averaged), 1.0)
        return kept_even * tf.pow(1 - self.alpha, rest)

    def _places(self, items: tf.Tensor) -> tf.Tensor:
        """[hashes, N] int64: each item's bucket of each hash function, in the flat arrays."""
        return hash_buckets(items, self.hashes, self.buckets)


def compare_frequency(
    items: pa.Array | pa.ChunkedArray, log_q: Callable[[np.ndarray], np.ndarray]
) -> dict[str, Any] | None:
    """Compares the streaming estimate with the true shares of a day.

    Args:
      items: [N] ids, the item of each row that the day was trained on.
      log_q: the estimate: [M] int64 fingerprints to [M] float32, the log of their shares.

    Returns: `rows`; `items`; `known`, how many rows an item needs for a known true share; `factor`, the
    error of the estimate: e to the mean of |log(estimated / true share)| over the rows of such items,
    None without such items; and `pairs`, [true share, estimated share] of some items, the most frequent
    first, with fewer of the rare ones. None without rows.
    """
    if not len(items):
        return None
    if isinstance(items, pa.ChunkedArray):
        items = items.combine_chunks()
    value_counts = pc.value_counts(items)
    keys = fingerprint(value_counts.field("values"))
    counts = value_counts.field("counts").to_numpy()
    # Ties between equally frequent items are broken by fingerprint, not by the order of rows.
    order = np.lexsort((keys, -counts))
    true = counts[order] / counts.sum()
    estimated = np.exp(log_q(keys[order]).astype(np.float64))
    # The true share of a rare item is mostly chance, so it cannot judge the estimate.
    is_sure = counts[order] >= KNOWN_FROM
    factor = None
    if is_sure.any():
        off = np.abs(np.log(estimated / true))[is_sure]
        factor = float(np.exp(np.average(off, weights=true[is_sure])))
    # Evenly spaced on a logarithmic scale, because the chart has one.
    points = np.geomspace(1, len(order), min(_MAX_POINTS, len(order)))
    shown = np.unique(points.round().astype(int)) - 1
    return {
        "rows": len(items),
        "items": len(order),
        "known": KNOWN_FROM,
        "factor": factor,
        "pairs": [[_short(true[n]), _short(estimated[n])] for n in shown],
    }


def _short(x: float) -> float:
    return float(f"{x:.3g}")
