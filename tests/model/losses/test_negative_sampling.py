import numpy as np
import tensorflow as tf

from model.data.negative_corpus import NegativeCorpus
from model.losses.negative_sampling import EncodedItems, step_candidates
from model.losses.sampling_probability import StreamingFrequency


def entries(items, chance=0.0):
    """Vectors that tell which item they are of."""
    items = np.asarray(items)
    return EncodedItems(
        tf.constant(np.stack([items, -items], 1), tf.float32),
        tf.constant(items, tf.int64),
        tf.constant(np.broadcast_to(chance, items.shape), tf.float32),
    )


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
    batch, uniform = entries([1, 2, 1, 3], [0.25, 0.25, 0.25, 0]), entries([2, 9], 0.25)
    columns = step_candidates(batch, uniform, counted([1, 2, 1, 3]))
    assert columns.item.numpy().tolist() == [1, 2, 1, 3, 2, 9]
    np.testing.assert_allclose(columns.in_batch[:5], [1.5, 0.75, 1.5, 0.75, 0.75], rtol=1e-5)
    assert columns.in_batch[5] < 1e-3  # never seen
    np.testing.assert_allclose(columns.added, [0.5, 0.5, 0.5, 0, 0.5, 0.5], rtol=1e-5)


def test_without_draws_the_batch_alone_is_expected():
    columns = step_candidates(entries([1, 2, 1, 3], 0.25), None, counted([1, 2, 1, 3]))
    np.testing.assert_allclose(columns.in_batch, [1.5, 0.75, 1.5, 0.75], rtol=1e-5)
    assert columns.added.numpy().tolist() == [0, 0, 0, 0]


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
