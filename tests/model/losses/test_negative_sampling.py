"""The columns of a step: what is remembered, drawn, and expected."""

from collections import deque

import numpy as np
import pytest
import tensorflow as tf

from model.data.negative_corpus import NegativeCorpus
from model.losses.negative_sampling import EncodedItems, NegativeMemory, NegativeSampler
from model.losses.sampling_probability import StreamingFrequency
from twinspire_core.config.tables.training import NegativesConfig


def entries(items, chance=0.0):
    """Vectors that tell which item they are of."""
    items = np.asarray(items)
    return EncodedItems(
        tf.constant(np.stack([items, -items], 1), tf.float32),
        tf.constant(items, tf.int64),
        tf.constant(np.broadcast_to(chance, items.shape), tf.float32),
    )


@pytest.mark.parametrize("size", [5, 8, 100])
def test_the_newest_are_remembered(size):
    memory, expected, rng = NegativeMemory(size, 2), deque(maxlen=size), np.random.default_rng(0)
    for batch in (3, 4, 12, 1, 6, 5):
        items = rng.integers(0, 1000, batch)
        memory.write(entries(items, chance=items / 1e4), tf.constant(items / 1e3, tf.float32))
        expected.extend(items.tolist())
        found, share = memory.read(tf.constant(size))
        assert sorted(found.item.numpy().tolist()) == sorted(expected)
        np.testing.assert_array_equal(found.vector[:, 0], found.item)
        np.testing.assert_allclose(found.draw_probability, found.item.numpy() / 1e4, rtol=1e-6)
        np.testing.assert_allclose(share, found.item.numpy() / 1e3, rtol=1e-6)


def counted(*batches):
    """An estimate whose gaps are those of the batches given, over and over."""
    frequency = StreamingFrequency(buckets=1 << 16)
    for _ in range(20):
        for batch in batches:
            frequency.update(tf.constant(batch, tf.int64))
    return frequency


def test_columns_expect_every_way_that_their_item_can_come():
    # Item 1 holds half of the rows, 2 and 3 a quarter. The catalogue has four items, and not item
    # 3.
    frequency = counted([1, 2, 1, 3])
    pool = NegativeSampler(NegativesConfig(uniform=2, memory=3, memory_after=5), 2, frequency)
    batch, uniform = entries([1, 2, 1, 3], [0.25, 0.25, 0.25, 0]), entries([2, 9], 0.25)
    early = pool.candidates(batch, uniform, tf.constant(4))
    assert early.item.numpy().tolist() == [1, 2, 1, 3, 2, 9]
    np.testing.assert_allclose(early.in_batch[:5], [1.5, 0.75, 1.5, 0.75, 0.75], rtol=1e-5)
    assert early.in_batch[5] < 1e-3  # never seen
    np.testing.assert_allclose(early.added, [0.5, 0.5, 0.5, 0, 0.5, 0.5], rtol=1e-5)
    # Now item 1 is gone from the rows; the memory holds 2, 1, 3 with their shares of then.
    for _ in range(15):
        frequency.update(tf.constant([2, 3], tf.int64))
    late = pool.candidates(entries([2, 3], [0.25, 0]), uniform, tf.constant(5))
    assert late.item.numpy().tolist()[:4] == [2, 3, 2, 9]
    assert sorted(late.item.numpy().tolist()[4:]) == [1, 2, 3]
    assert late.learned == 4
    of = dict(
        zip(
            late.item.numpy().tolist()[4:],
            np.stack([late.in_batch, late.added], 1)[4:].tolist(),
            strict=True,
        )
    )
    np.testing.assert_allclose(of[1], [1 / 30, 0.5 + 3 * 0.5], rtol=1e-4)  # silent for 30 rows
    np.testing.assert_allclose(of[3][1], 3 * 0.25, rtol=1e-4)
    now = np.exp(frequency.log_q(tf.constant([3], tf.int64)))[0]
    np.testing.assert_allclose([late.in_batch[1], of[3][0]], [now, now], rtol=1e-5)
    np.testing.assert_allclose(late.added[1], 3 * now, rtol=1e-5)


def test_without_a_memory_columns_expect_batch_and_draws():
    pool = NegativeSampler(NegativesConfig(uniform=2), 2, counted([1, 2, 1, 3]))
    columns = pool.candidates(
        entries([1, 2, 1, 3], [0.25, 0.25, 0.25, 0]), entries([2, 9], 0.25), tf.constant(0)
    )
    np.testing.assert_allclose(columns.in_batch[:5], [1.5, 0.75, 1.5, 0.75, 0.75], rtol=1e-5)
    np.testing.assert_allclose(columns.added, [0.5, 0.5, 0.5, 0, 0.5, 0.5], rtol=1e-6)


def test_a_memory_waits_for_its_step():
    pool = NegativeSampler(NegativesConfig(memory=3, memory_after=5), 2, None)
    found = [
        pool.candidates(entries([step, 7]), None, tf.constant(step)).item.numpy().tolist()
        for step in (3, 4, 5)
    ]
    assert found[:2] == [[3, 7], [4, 7]]
    assert found[2][:2] == [5, 7] and sorted(found[2][2:]) == [4, 7, 7]


def test_what_is_remembered_is_as_it_was():
    pool, vector = (
        NegativeSampler(NegativesConfig(memory=4, memory_after=0), 2, None),
        tf.Variable([[1.0, 0.0], [0.0, 1.0]]),
    )
    batch = EncodedItems(vector, tf.constant([1, 2], tf.int64), tf.zeros(2))
    assert (
        pool.candidates(batch, None, tf.constant(0)).item.shape[0] == 2
    )  # nothing is remembered yet
    vector.assign(-vector)
    with tf.GradientTape() as tape:
        columns = pool.candidates(batch, None, tf.constant(1))
    np.testing.assert_array_equal(columns.vector, [[-1, 0], [0, -1], [1, 0], [0, 1]])
    assert (tf.convert_to_tensor(tape.gradient(columns.vector, vector)).numpy() == 1).all()


def test_uniform_draws_are_uniform_with_the_features_of_what_is_drawn():
    items = np.array([50, 10, 70, 30])
    catalogue = NegativeCorpus(
        features={"item": items.astype(np.int32), "tags": np.stack([items, items + 1], 1)},
        item=items,
    )
    features, drawn = catalogue.draw(4000, np.random.default_rng(1))
    np.testing.assert_array_equal(features["item"], drawn)
    np.testing.assert_array_equal(features["tags"], np.stack([drawn, drawn + 1], 1))
    assert np.abs(np.unique(drawn, return_counts=True)[1] - 1000).max() < 5 * np.sqrt(750)
    assert catalogue.draw_probability(np.array([30, 31, 50])).tolist() == [0.25, 0, 0.25]


def test_nothing_is_drawn_from_an_empty_catalogue():
    catalogue = NegativeCorpus(features={"item": np.zeros(0, np.int32)}, item=np.zeros(0, np.int64))
    features, drawn = catalogue.draw(5, np.random.default_rng(1))
    assert len(features["item"]) == len(drawn) == 0
    assert catalogue.draw_probability(np.array([3])).tolist() == [0]
