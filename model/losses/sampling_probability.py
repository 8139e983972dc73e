"""A streaming estimate of how often each item is drawn, without a vocabulary (Yi et al., RecSys
2019, section 3).

Three things differ from the paper's Algorithm 2, for reasons in docs/decisions/0005-frequency.md.
Time is counted in rows, not steps, so that a changed batch size needs no conversion: the mean gap
between two hits of an item *is* 1 / q. The c hits of one step count as c gaps of a c-th each, not
as one gap followed by c - 1 gaps of nothing. And what lies before an item's first hit is no gap: it
may not have existed. Nor is it in another pass over the same rows, but from its last hit to their
end an item was there and was not drawn.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from model.item_fingerprint import GAMMA

_OPEN = -1


class StreamingFrequency(tf.Module):
    """Share of the rows that hold an item, as of now; it follows a corpus that changes.

    Every item falls into one bucket per hash. A collision can only make a bucket's gap too short,
    so the longest of an item's gaps counts. Memory is 1 / alpha hits: the standard deviation of log
    q is about sqrt(alpha / 2) for every item, and frequent items are followed faster. The first 1 /
    alpha gaps are averaged evenly, so that a rare item does not keep its start value for ever.

    Attributes:
      last: [hashes * buckets] int64, rows seen when the bucket was last hit (the paper's A); 0 for
        never, `_OPEN` if that is in rows about to come again.
      gap: [hashes * buckets] float32, mean rows between two hits (the paper's B).
      hits: [hashes * buckets] int32, gaps that the mean is made of.
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
          buckets: length of each hash's arrays (16 bytes each); at least 5 times the items.
          hashes: independent hash functions.
          alpha: learning rate, in (0, 1].
          initial_gap: rows between hits that are assumed of an item met once.
        """
        super().__init__()
        self.buckets, self.hashes, self.alpha, self.initial_gap = (
            buckets,
            hashes,
            alpha,
            initial_gap,
        )
        size = buckets * hashes
        self.last = _variable("last", tf.zeros([size], tf.int64))
        self.gap = _variable("gap", tf.fill([size], tf.constant(initial_gap, tf.float32)))
        self.hits = _variable("hits", tf.zeros([size], tf.int32))
        self.seen = _variable("seen", tf.constant(0, tf.int64))

    def update(self, items: tf.Tensor) -> tf.Tensor:
        """Counts one batch. Of several replicas of a `tf.distribute` strategy all call it, each
        with its own part of
        the batch: the parts are put together first and counted once.

        Args:
          items: [B] int64 fingerprints, duplicates included.

        Returns: [B] float32, log q of each row's item after the update, q = its share of the rows
        (pairing A of
          duplicates: q times B is the item's expected count in a batch).
        """
        every = _of_all_replicas(items)
        now = self.seen.assign_add(tf.size(every, tf.int64))
        hit, _, count = tf.unique_with_counts(tf.reshape(self._places(every), [-1]))
        old, gap, hits, gaps = self._before(hit, count, now, tf.size(every, tf.int64))
        kept = self._retained(hits, gaps)
        mean = kept * old + (1 - kept) * gap / tf.cast(count, tf.float32)
        self.gap.scatter_update(tf.IndexedSlices(mean, hit))
        self.last.scatter_update(tf.IndexedSlices(tf.fill(tf.shape(hit), now), hit))
        self.hits.scatter_update(tf.IndexedSlices(hits + gaps, hit))
        return -tf.math.log(tf.reduce_max(tf.gather(self.gap, self._places(items)), axis=0))

    def log_q(self, items: tf.Tensor) -> tf.Tensor:
        """Log q of any items, whether in the current batch or not.

        A gap moves only on hits, so one that is still open and already longer counts in its place.

        Args:
          items: [N] int64 fingerprints.

        Returns: [N] float32.
        """
        places = self._places(items)
        last = tf.gather(self.last, places)
        silent = tf.cast(tf.where(last == _OPEN, tf.zeros_like(last), self.seen - last), tf.float32)
        return -tf.math.log(tf.reduce_max(tf.maximum(tf.gather(self.gap, places), silent), axis=0))

    def rewind(self, seen: int) -> None:
        """Turns the clock back, as the rows since then come once more.

        What was learned of them stays, and an item's silence from its last hit to their end now
        counts: c hits in n rows since the first are a mean gap of n / (c - 1), which is the most
        likely one if the gaps are exponential. The silence before its first hit, then and in the
        next pass, does not: of an item that is new on the last of many days it would make a rare
        one.

        Args:
          seen: rows seen when those to come began.
        """
        hit = self.last > seen
        silent = tf.cast(self.seen - self.last, tf.float32)
        longer = self.gap + silent / tf.clip_by_value(
            tf.cast(self.hits, tf.float32), 1, 1 / self.alpha
        )
        once = tf.maximum(self.gap, silent)
        self.gap.assign(tf.where(hit, tf.where(self.hits > 0, longer, once), self.gap))
        self.last.assign(tf.where(hit, tf.constant(_OPEN, tf.int64), self.last))
        self.seen.assign(seen)

    def state(self) -> dict[str, np.ndarray]:
        """The buckets ever hit and the clock, as arrays that `restore` takes."""
        last = self.last.numpy()
        bucket = np.flatnonzero(last)
        return {
            "bucket": bucket,
            "hits": self.hits.numpy()[bucket],
            "last": last[bucket],
            "gap": self.gap.numpy()[bucket],
            "seen": np.int64(self.seen.numpy()),
            "shape": np.array([self.hashes, self.buckets], np.int64),
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on from a `state` of as many buckets and hashes."""
        if not self.fits(state):
            raise ValueError(
                f"The state has the shape {state['shape']}, not {[self.hashes, self.buckets]}."
            )
        for variable, name, empty in (
            (self.hits, "hits", 0),
            (self.last, "last", 0),
            (self.gap, "gap", self.initial_gap),
        ):
            full = np.full(variable.shape, empty, variable.dtype.as_numpy_dtype)
            full[state["bucket"]] = state[name]
            variable.assign(full)
        self.seen.assign(int(state["seen"]))

    def fits(self, state: Mapping[str, np.ndarray]) -> bool:
        """Whether a `state` has as many buckets and hashes."""
        return list(state["shape"]) == [self.hashes, self.buckets]

    def adopt(self, state: Mapping[str, np.ndarray], items: np.ndarray) -> None:
        """Goes on from a `state` of other buckets or hashes, as far as it tells of some items;
        others start anew.

        Each item is as frequent as it was taken for. Those that now share a bucket are as frequent
        as all of them.

        Args:
          state: of any shape.
          items: [N] int64 fingerprints, distinct.
        """
        hashes, buckets = map(int, state["shape"])
        old = StreamingFrequency(
            buckets=buckets, hashes=hashes, alpha=self.alpha, initial_gap=self.initial_gap
        )
        old.restore(state)
        last, gap, hits = (variable.numpy() for variable in (old.last, old.gap, old.hits))
        places = old._places(tf.constant(items)).numpy()
        met = (last[places] > 0).all(0)
        rarest = gap[places[:, met]].argmax(0)
        place = places[rarest, np.flatnonzero(met)]
        size = self.buckets * self.hashes
        new_last, new_hits, rate = (
            np.zeros(size, np.int64),
            np.zeros(size, np.int32),
            np.zeros(size),
        )
        for own in self._places(tf.constant(items[met])).numpy():
            np.maximum.at(new_last, own, last[place])
            np.maximum.at(new_hits, own, hits[place])
            np.add.at(rate, own, 1 / gap[place])
        self.last.assign(new_last)
        self.hits.assign(new_hits)
        self.gap.assign(
            np.divide(1, rate, out=np.full(size, float(self.initial_gap)), where=rate > 0)
        )
        self.seen.assign(int(state["seen"]))

    def filled(self) -> float:
        """Share of the buckets ever hit."""
        return float(tf.reduce_mean(tf.cast(self.last != 0, tf.float64)))

    def _before(
        self, hit: tf.Tensor, count: tf.Tensor, now: tf.Tensor, batch: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """For each bucket hit: its mean gap, the rows that its new hits share, its gaps so far, and
        its new gaps.
        """
        last = tf.gather(self.last, hit)
        old, hits = tf.gather(self.gap, hit), tf.gather(self.hits, hit)
        gap = tf.cast(now - last, tf.float32)
        # Its hits in this batch lie batch / count rows apart; the first of them follows no gap
        new = last <= 0
        old = tf.where(last == 0, tf.minimum(gap, self.initial_gap), old)
        gap = tf.where(new, tf.cast(batch, tf.float32), gap)
        return old, gap, hits, tf.where(new, count - 1, count)

    def _retained(self, earlier: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """Weight that the old mean keeps after `count` gaps in turn, each at its own rate.

        While gaps are fewer than 1 / alpha, number n has the rate 1 / n and keeps (n - 1) / n: the
        product over n = earlier + 1 … earlier + even telescopes to earlier / (earlier + even). The
        others keep 1 - alpha each.
        """
        even = tf.clip_by_value(int(1 / self.alpha) - earlier, 0, count)
        old, averaged, rest = (
            tf.cast(x, tf.float32) for x in (earlier, earlier + even, count - even)
        )
        return tf.where(even > 0, tf.math.divide_no_nan(old, averaged), 1.0) * tf.pow(
            1 - self.alpha, rest
        )

    def _places(self, items: tf.Tensor) -> tf.Tensor:
        """[hashes, N] int64: where each hash keeps each item in the flat arrays."""
        salts = [_signed(GAMMA * (i + 1)) for i in range(self.hashes)]
        mixed = _mix(items[None, :] ^ tf.constant(salts, tf.int64)[:, None])
        start = tf.range(self.hashes, dtype=tf.int64)[:, None] * self.buckets
        return start + _shift(mixed, 1) % self.buckets


def _variable(name: str, values: tf.Tensor) -> tf.Variable:
    """Of replicas, which all write the same, the first one writes to every copy."""
    return tf.Variable(
        values, trainable=False, name=name, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
    )


def _of_all_replicas(items: tf.Tensor) -> tf.Tensor:
    """[B] of each replica -> the same of all, one behind the other."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return items
    return replica.all_gather(items, axis=0)


def _mix(x: tf.Tensor) -> tf.Tensor:
    """`model.item_fingerprint.mix` on int64: products wrap, as they do for unsigned numbers."""
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
