"""The estimator against a slow one that goes hit by hit, against known frequencies, and the paper's
own simulation.
"""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from model.item_fingerprint import fingerprint
from model.losses.sampling_probability import StreamingFrequency, compare_frequency, enough_buckets


class OneByOne:
    """No buckets, gaps one at a time: the c hits of a step share the rows since the last hit in equal
    parts; before an item's first hit there is no gap, so that c hits in its first batch are c - 1.
    """

    def __init__(self, alpha: float, initial_gap: float) -> None:
        self.alpha, self.initial_gap = alpha, initial_gap
        self.mean: dict[int, float] = {}
        self.last: dict[int, int] = {}
        self.gaps: Counter[int] = Counter()
        self.seen = 0

    def update(self, items: list[int]) -> list[float]:
        self.seen += len(items)
        for item, count in Counter(items).items():
            if item in self.last:
                new_gaps = [(self.seen - self.last[item]) / count] * count
            else:
                self.mean[item] = min(self.seen, self.initial_gap)
                new_gaps = [len(items) / count] * (count - 1)
            for gap in new_gaps:
                self.gaps[item] += 1
                rate = max(self.alpha, 1 / self.gaps[item])
                self.mean[item] = (1 - rate) * self.mean[item] + rate * gap
            self.last[item] = self.seen
        return [-np.log(self.mean[item]) for item in items]


def zipf(items: int) -> np.ndarray:
    return 1 / np.arange(1, items + 1) / (1 / np.arange(1, items + 1)).sum()


def drawn(rng: np.random.Generator, q: np.ndarray, size: int) -> np.ndarray:
    return rng.choice(len(q), size, p=q)


def ids_of(items) -> tf.Tensor:
    return tf.constant(fingerprint([str(i) for i in items]))


@pytest.mark.parametrize(("small", "large"), [(1 << 12, 1 << 14), (5000, 20_000)])
def test_an_estimate_goes_on_in_more_buckets(small, large):
    """More than there are of an earlier release, too. The other estimate had as many from the start."""
    rng, q, names = np.random.default_rng(3), zipf(300), ids_of(range(300))
    grown = StreamingFrequency(buckets=small, hashes=2, initial_gap=1000)
    whole = StreamingFrequency(buckets=large, hashes=2, initial_gap=1000)
    for _ in range(40):
        batch = tf.gather(names, drawn(rng, q, 100))
        grown.update(batch)
        whole.update(batch)
    state, before = grown.state(), grown.log_q(names)
    grown = StreamingFrequency(buckets=large, hashes=2, initial_gap=1000)
    grown.restore(state)
    np.testing.assert_array_equal(grown.log_q(names), before)
    seen = len(np.unique(drawn(np.random.default_rng(3), q, 100 * 40)))
    assert abs(grown.state()["items"] / seen - 1) < 0.1
    for _ in range(40):
        batch = tf.gather(names, drawn(rng, q, 100))
        found, expected = grown.update(batch).numpy(), whole.update(batch).numpy()
        # Items that shared both of the fewer buckets keep a trace of that
        assert np.mean(np.abs(found - expected) < 1e-3) > 0.95
    for other in ({"buckets": large + 1, "hashes": 2}, {"buckets": large, "hashes": 1}):
        with pytest.raises(ValueError, match="cannot hold"):
            StreamingFrequency(**other).restore(state)


def test_buckets_follow_the_items_that_come_day_by_day():
    """Copies of buckets are no items: else each day would double them."""
    assert enough_buckets(0) == enough_buckets(13_107) == 1 << 16
    assert enough_buckets(13_108) == 1 << 17 and enough_buckets(1_000_000) == 1 << 23
    state, sizes = None, []
    for day in range(8):
        items = tf.range(2000 * day, 2000 * day + 4000, dtype=tf.int64) * 7919
        frequency = StreamingFrequency(buckets=enough_buckets(4000, state), hashes=2)
        if state:
            frequency.restore(state)
        frequency.update(items)
        state = frequency.state()
        sizes.append(frequency.buckets)
        assert abs(state["items"] / (4000 + 2000 * day) - 1) < 0.03
    assert sizes == [1 << 16] * 6 + [1 << 17] * 2
    old = {name: value for name, value in state.items() if name != "items"}
    assert enough_buckets(1, {**old, "shape": np.array([2, 1_000_000])}) == 1_000_000


@pytest.mark.parametrize("hashes", [1, 3])
@pytest.mark.parametrize("alpha", [0.01, 0.15, 1.0])
def test_equals_the_slow_estimator(hashes, alpha):
    rng, q, names = np.random.default_rng(1), zipf(200), ids_of(range(200))
    fast = StreamingFrequency(buckets=1 << 20, hashes=hashes, alpha=alpha, initial_gap=1000)
    slow = OneByOne(alpha, 1000)
    update = tf.function(fast.update)
    # The head has dozens of hits in a step, the tail a few in all
    for size in [64] * 60 + [200] * 30:
        batch = drawn(rng, q, size)
        np.testing.assert_allclose(
            update(tf.gather(names, batch)), slow.update(batch.tolist()), rtol=1e-4, atol=1e-4
        )


def test_estimates_shares_without_bias_from_the_head_to_the_tail():
    rng, q = np.random.default_rng(2), np.concatenate([[0.5, 0.1, 0.02], zipf(500) * 0.38])
    names, estimate = ids_of(range(len(q))), StreamingFrequency(buckets=1 << 16)
    update, errors = tf.function(estimate.update), [[] for _ in q]
    for step in range(400):
        batch = drawn(rng, q, 1024)
        value = update(tf.gather(names, batch)).numpy()
        if step >= 200:
            for item, log_q in dict(zip(batch, value, strict=True)).items():
                errors[item].append(log_q - np.log(q[item]))
    for item in (0, 1, 2, 3, 10, 100):  # from 512 expected hits in a batch to .6
        assert abs(np.mean(errors[item])) < 0.1, item
        assert np.std(errors[item]) < 1.5 * np.sqrt(0.01 / 2) + 0.02, item
    assert abs(np.mean(errors[0])) < 0.01  # 512 zero gaps a batch would put it at exp(-512 alpha)


def test_items_of_one_bucket_count_together():
    estimate = StreamingFrequency(buckets=1, alpha=0.5)
    for _ in range(3):
        value = estimate.update(tf.constant([1, 2, 3, 4], tf.int64))
    # The bucket is hit by every row: its gap is 1
    np.testing.assert_allclose(value, np.zeros(4), atol=1e-6)


def test_an_item_that_fell_silent_is_as_rare_as_its_silence_is_long():
    estimate = StreamingFrequency(buckets=1 << 16)
    for _ in range(50):
        estimate.update(tf.constant([1, 2, 1, 2], tf.int64))
    before = estimate.log_q(tf.constant([1, 1, 1], tf.int64)).numpy()  # asking is not counting
    for _ in range(25):
        estimate.update(tf.constant([2, 3, 2, 3], tf.int64))
    np.testing.assert_allclose(before, np.log(1 / 2), rtol=1e-5)
    value = estimate.log_q(tf.constant([1, 2], tf.int64))
    np.testing.assert_allclose(value, np.log([1 / 100, 1 / 2]), rtol=1e-5)


def _trained(steps: int, estimate: StreamingFrequency, seed: int) -> np.ndarray:
    rng, names = np.random.default_rng(seed), ids_of(range(300))
    for _ in range(steps):
        value = estimate.update(tf.gather(names, drawn(rng, zipf(300), 50)))
    return value.numpy()


def test_goes_on_from_its_state_as_if_never_interrupted(tmp_path):
    def fresh() -> StreamingFrequency:
        return StreamingFrequency(buckets=1 << 12, hashes=2)

    first = fresh()
    _trained(20, first, seed=4)
    np.savez(tmp_path / "frequency.npz", **first.state())
    checkpoint = tf.train.Checkpoint(frequency=first).save(str(tmp_path / "checkpoint"))
    again, restored = fresh(), fresh()
    _trained(3, again, seed=9)  # forgotten by restore
    with np.load(tmp_path / "frequency.npz", allow_pickle=False) as state:
        again.restore(state)
    tf.train.Checkpoint(frequency=restored).restore(checkpoint).assert_consumed()
    expected = _trained(20, first, seed=5)
    np.testing.assert_array_equal(_trained(20, again, seed=5), expected)
    np.testing.assert_array_equal(_trained(20, restored, seed=5), expected)
    unknown = tf.constant([12345], tf.int64)
    np.testing.assert_array_equal(again.log_q(unknown), first.log_q(unknown))


def test_the_state_grows_with_the_items_met():
    estimate = StreamingFrequency(buckets=100_000, hashes=2)
    estimate.update(tf.constant([1, 2, 3, 1], tf.int64))
    assert sum(x.nbytes for x in estimate.state().values()) < 1000


ITEMS = np.arange(20_000)


@pytest.mark.parametrize("items", [ITEMS, ITEMS << 20, ITEMS * 7919, -ITEMS, ITEMS << 44])
def test_each_hash_fills_buckets_at_random_and_independently(items):
    estimate = StreamingFrequency(buckets=20_000, hashes=2)
    estimate.update(tf.constant(items, tf.int64))
    used = estimate.last.numpy().reshape(2, -1) > 0
    np.testing.assert_allclose(used.mean(axis=1), 1 - np.exp(-1), atol=0.02)
    # Items that share a bucket in one hash: 1/e have theirs alone. In both hashes alike only by the
    # product's chance.
    gap = estimate.update(tf.constant(items, tf.int64)).numpy()
    shared_in_both = (gap > -np.log(20_000) + 0.01).mean()
    np.testing.assert_allclose(shared_in_both, (1 - np.exp(-1)) ** 2, atol=0.02)


M, BATCH = 1000, 128


def _simulate(steps: int, *, switch: int, at: list[int], **settings) -> list[float]:
    """The paper's section 6.1: q grows as i^2, is turned round at `switch`; sum |p_hat - p| / 2B."""
    rng, names = np.random.default_rng(6), ids_of(range(M))
    estimate = StreamingFrequency(initial_gap=100 * BATCH, **settings)
    update, q, errors = tf.function(estimate.update), np.arange(M) ** 2.0, []
    with np.errstate(divide="ignore"):
        for step in range(1, steps + 1):
            q = q[::-1] if step == switch + 1 else q
            # Without replacement
            batch = np.argpartition(rng.exponential(size=M) / q, BATCH)[:BATCH]
            update(tf.gather(names, batch))
            if step in at:
                gap = tf.gather(estimate.gap, estimate._places(names)).numpy().max(axis=0)
                errors.append(np.abs(BATCH / gap - _in_batch(q)).sum() / 2 / BATCH)
    return errors


def _in_batch(q: np.ndarray) -> np.ndarray:
    """Chance of each item to be in a batch of distinct ones: 1 - exp(-c q), which add up to it."""
    low, high = 0.0, 1e6
    share = q / q.sum()
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 - np.exp(-middle * share)).sum() < BATCH else (low, middle)
    return 1 - np.exp(-low * share)


def test_the_papers_simulation_in_short():
    at = [250, 1000, 1100, 1600]
    run = {"steps": 1600, "switch": 1000, "at": at}
    fast = _simulate(**run, alpha=0.1, buckets=5000)
    slow = _simulate(**run, alpha=0.01, buckets=5000)
    hashed = _simulate(**run, alpha=0.01, buckets=1250, hashes=4)
    assert fast[1] > slow[1] + 0.02  # a larger rate ends noisier,
    assert fast[3] < slow[3] - 0.1  # and follows a change sooner;
    assert hashed[1] < 0.7 * slow[1]  # hashes help at equal memory while buckets are ample;
    # The first hits are averaged: .45 with the paper's fixed rate;
    assert hashed[0] == pytest.approx(0.085, abs=0.015)
    # All are thrown back by the switch,
    assert all(run[2] > 2 * run[1] for run in (fast, slow, hashed))
    assert all(run[3] < run[2] for run in (fast, slow, hashed))  # and recover.


def _in_one_pass(update, days, item):
    """Estimated shares of an item after each batch of the last day that holds it."""
    found = []
    for day in days:
        for batch in day:
            log_q = update(ids_of(batch)).numpy()
            if day is days[-1] and item in batch:
                found.append(np.exp(log_q[list(batch).index(item)]))
    return np.array(found)


@pytest.mark.parametrize("alpha", [0.01, 0.05])
def test_what_is_new_on_the_last_day_is_no_rare_item_in_the_second_pass(alpha):
    rng, new, batch = np.random.default_rng(5), 999, 256
    days = [list(rng.integers(0, 500, (40, batch))) for _ in range(7)]
    for rows in days[-1]:
        rows[rng.random(batch) < 0.02] = new
    estimate = StreamingFrequency(buckets=100_000, alpha=alpha)
    update = tf.function(estimate.update)
    first = _in_one_pass(update, days, new)
    estimate.rewind(0)
    _in_one_pass(update, days[:-1], new)
    # As of a negative drawn from the catalogue
    before = np.exp(estimate.log_q(ids_of([new])).numpy()[0])
    second = _in_one_pass(update, days[-1:], new)
    assert first[-1] == pytest.approx(0.02, rel=0.5) and before == pytest.approx(first[-1], rel=0.1)
    assert second == pytest.approx(0.02, rel=0.5)
    assert int(estimate.seen.numpy()) == 7 * 40 * batch


def test_a_pass_that_ends_counts_how_long_an_item_was_there_and_not_drawn():
    """By hand, from the places of each item's hits."""
    rng, rows = np.random.default_rng(7), 400
    stream = rng.choice(60, rows, p=np.arange(60, 0, -1) / 1830)
    estimate = StreamingFrequency(buckets=10_000, alpha=0.001)
    update = tf.function(estimate.update)
    for item in stream:
        update(ids_of([item]))
    estimate.rewind(0)
    places = {item: np.flatnonzero(stream == item) + 1 for item in set(stream)}
    lived = {item: rows - at[0] for item, at in places.items() if len(at) > 1}
    expected = [(len(places[item]) - 1) / lived[item] for item in lived]
    np.testing.assert_allclose(np.exp(estimate.log_q(ids_of(list(lived)))), expected, rtol=1e-5)
    once = [item for item, at in places.items() if len(at) == 1]
    assert once
    for item in once:  # at least the longer of what lies before and behind its only hit
        longer = max(places[item][0], rows - places[item][0])
        assert 1 / np.exp(estimate.log_q(ids_of([item]))[0]) == pytest.approx(longer)


def test_a_second_pass_leaves_what_it_does_not_hold_as_it_was():
    """Items of the parent's days are as long silent after two passes over a day as after one."""
    rng = np.random.default_rng(6)
    before, day = list(rng.integers(0, 50, (30, 64))), list(rng.integers(50, 100, (30, 64)))
    once, twice = (StreamingFrequency(buckets=10_000, alpha=0.05) for _ in range(2))
    for rows in before:
        once.update(ids_of(rows)), twice.update(ids_of(rows))
    seen = int(twice.seen.numpy())
    for estimate, passes in ((once, 1), (twice, 2)):
        for number in range(passes):
            if number:
                estimate.rewind(seen)
            for rows in day:
                estimate.update(ids_of(rows))
    of_parent = ids_of(range(50))
    np.testing.assert_allclose(twice.log_q(of_parent), once.log_q(of_parent))
    assert (twice.state()["last"] > 0).all()


def test_estimated_frequencies_are_compared_with_counts():
    items = pa.array(["a"] * 60 + ["b"] * 30 + ["c"] * 10)
    true = dict(zip(fingerprint(["a", "b", "c"]).tolist(), [0.6, 0.3, 0.1], strict=True))
    report = compare_frequency(items, lambda keys: np.log([true[k] * 2 for k in keys.tolist()]))
    assert (report["rows"], report["items"]) == (100, 3)
    assert report["factor"] == pytest.approx(2)
    assert report["pairs"] == [[0.6, 1.2], [0.3, 0.6], [0.1, 0.2]]
    # One item too high by 4, of a tenth of the rows; the others right.
    high = {key: 0.4 if share == 0.1 else share for key, share in true.items()}
    report = compare_frequency(items, lambda keys: np.log([high[k] for k in keys.tolist()]))
    assert report["factor"] == pytest.approx(4**0.1)
    # Of a hundred items met once each nothing is known; a seventh of the other rows is of b,
    # estimated too high by 2.
    rare = pa.concat_arrays([items[:70], pa.array([f"r{n}" for n in range(100)])])
    told = dict(zip(fingerprint(["a", "b"]).tolist(), [60 / 170, 20 / 170], strict=True))
    report = compare_frequency(rare, lambda keys: np.log([told.get(k, 0.9) for k in keys]))
    assert report["factor"] == pytest.approx(2 ** (1 / 7)) and report["items"] == 102
    assert compare_frequency(rare[70:], lambda keys: np.zeros(len(keys)))["factor"] is None
    assert compare_frequency(items[:0], lambda keys: np.zeros(0)) is None
