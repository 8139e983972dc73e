import numpy as np
import pytest
import tensorflow as tf

from model.towers.two_tower import TwoTower
from model.training.warm_start import zero_untrained_rows
from twinspire_core.config.feature_kinds import OOV_BUCKETS

MISSING, PHONE, TV = 0, 1, 2
SHARED = range(3, 7)


@pytest.fixture
def model(tiny):
    """A fresh model, of whose rows some are moved."""
    return TwoTower(tiny.architecture(), seed=3)


def _move(model, table, *rows):
    weight = model.tables[table].values
    weight.scatter_nd_add([[row] for row in rows], tf.ones([len(rows), weight.shape[1]]))
    return weight.numpy()


def test_what_nobody_had_says_nothing(model):
    before = _move(model, "device", PHONE, TV)
    zero_untrained_rows(model, 3, ["device"])
    after = model.tables["device"].values.numpy()
    np.testing.assert_array_equal(after[[PHONE, TV]], before[[PHONE, TV]])
    assert not after[[MISSING, *SHARED]].any()


def test_buckets_of_words_that_no_title_had_say_nothing(model):
    before = _move(model, "title", 0, 7, 8)
    model.tables["title"].values.scatter_nd_add([[50, 1]], [1.0])  # the slightest use is one
    before[50, 1] += 1
    zero_untrained_rows(model, 3, ["title"])
    after = model.tables["title"].values.numpy()
    np.testing.assert_array_equal(after[[0, 7, 8, 50]], before[[0, 7, 8, 50]])
    assert not np.delete(after, [0, 7, 8, 50], axis=0).any()


def test_a_value_that_no_example_had_is_as_one_that_is_new(model):
    """Its row is the one that the graph would look up for it, had the vocabulary not held it."""
    init = tf.lookup.KeyValueTensorInitializer(tf.constant(["other"]), tf.constant([0], tf.int64))
    table = tf.lookup.StaticVocabularyTable(init, num_oov_buckets=OOV_BUCKETS)
    bucket = table.lookup(tf.constant([f"i{n}" for n in range(20)])).numpy() - 1
    used = [*range(1, 11), *range(21, 21 + OOV_BUCKETS)]  # i0 to i9, and the shared rows
    before = _move(model, "item", *used)
    zero_untrained_rows(model, 3, ["item"])
    after = model.tables["item"].values.numpy()
    np.testing.assert_array_equal(after[used], before[used])
    assert len(set(bucket[10:])) > 1
    for n in range(10, 20):
        np.testing.assert_array_equal(after[n + 1], before[21 + bucket[n]])


def test_a_table_that_was_never_used_stays_ready_to_learn(model):
    before = model.tables["tags"].values.numpy()
    zero_untrained_rows(model, 3, ["tags"])
    np.testing.assert_array_equal(model.tables["tags"].values.numpy(), before)


def test_tables_that_went_on_from_a_parent_are_left_alone(model):
    before = _move(model, "device", PHONE)
    zero_untrained_rows(model, 3, ["title"])
    np.testing.assert_array_equal(model.tables["device"].values.numpy(), before)
