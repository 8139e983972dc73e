"""Lists laid out, against the lists; and sums over them, with their gradients, against those of
padded lists.
"""

from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf

from model.towers.embedding_bag import EmbeddingBags, bags
from model.towers.pooling import mean_of_bags, mean_of_present, recent_mean

RNG = np.random.default_rng(4)


def lists_of(rows, longest, largest):
    """Lists with holes, some of them there several times in a row, some of them empty, the last one
    too.
    """
    lists = RNG.integers(1, largest + 1, (rows, longest), dtype=np.int32)
    lists[RNG.random((rows, longest)) < 0.4] = 0
    lists[RNG.random(rows) < 0.2] = 0
    for row in np.flatnonzero(RNG.random(rows - 1) < 0.3):
        lists[row + 1] = lists[row]
    lists[-1] = 0
    return lists


@pytest.mark.parametrize("largest", [3, 400, 70_000, 3_000_000])
def test_entries_stand_list_by_list_and_id_by_id(largest):
    lists = lists_of(50, 9, largest)
    found = bags(lists)
    assert found.ids.tolist() == sorted({*lists[lists > 0].tolist()})
    distinct = [
        part.tolist() for part in np.split(found.ids[found.place], np.cumsum(found.count)[:-1])
    ]
    assert [distinct[n] for n in found.of] == [row[row > 0].tolist() for row in lists]
    assert len(distinct) == 1 + sum(a.tolist() != b.tolist() for a, b in pairwise(lists)) < 50
    assert found.row.tolist() == [n for n, entries in enumerate(distinct) for _ in entries]
    pairs = list(zip(found.place.tolist(), found.row.tolist(), range(len(found.row)), strict=True))
    assert [pairs[n] for n in found.by_id] == sorted(pairs)
    assert {array.dtype for array in found} == {np.dtype(np.int32)}


@pytest.mark.parametrize("half_life", [0.0, 2.0])
@pytest.mark.parametrize(
    "lists", [lists_of(40, 7, 12), np.zeros((3, 4), np.int32), np.zeros((3, 0), np.int32)]
)
def test_means_and_their_gradients_are_those_of_padded_lists(lists, half_life):
    table = tf.Variable(RNG.normal(size=(13, 5)), dtype=tf.float32)
    upstream = tf.constant(RNG.normal(size=(len(lists), 5)), tf.float32)

    @tf.function
    def both(laid_out, ids):
        with tf.GradientTape(persistent=True) as tape:
            rows = tf.gather(table, ids)
            padded = recent_mean(rows, ids, half_life) if half_life else mean_of_present(rows, ids)
            mean = mean_of_bags(tf.gather(table, laid_out.ids), laid_out, half_life)
            losses = [tf.reduce_sum(upstream * x) for x in (padded, mean)]
        return padded, mean, *(tf.convert_to_tensor(tape.gradient(loss, table)) for loss in losses)

    whole = tf.TensorSpec([None], tf.int32)
    call = both.get_concrete_function(
        EmbeddingBags(*[whole] * len(EmbeddingBags._fields)), tf.TensorSpec([None, None], tf.int32)
    )
    padded, mean, expected, gradient = call(bags(lists), lists)
    np.testing.assert_allclose(mean, padded, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)
