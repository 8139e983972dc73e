from itertools import pairwise
from types import MappingProxyType

import numpy as np
import pytest
import tensorflow as tf

from model.towers.export import export
from model.towers.linear_part import with_linear_part
from model.towers.list_encoders import (
    EmbeddingBags,
    bagged,
    bags,
    lengthened,
    mean_of_bags,
    mean_of_present,
)
from model.towers.two_tower import TwoTower
from twinspire_core.contracts import model_bundle

ATTENTION = {"pooling": "attention"}


def test_mean_ignores_padding_wherever_it_lies():
    rows = tf.constant([[2.0, 4.0, 100.0], [100.0, 3.0, 100.0], [100.0] * 3])[..., tf.newaxis]
    mean = mean_of_present(rows, tf.constant([[5, 6, 0], [0, 7, 0], [0, 0, 0]]))
    np.testing.assert_allclose(mean, [[3.0], [3.0], [0.0]])


def test_sums_are_divided_by_the_root_of_their_number():
    """Four rows at right angles add up to length 1 again, and an empty list to nothing."""
    lists = np.array([[1, 2, 0, 3, 4, 0], [0, 5, 0, 0, 0, 0], [0] * 6], np.int32)
    rows = tf.gather(tf.eye(6), lists)
    expected = [[0, 0.5, 0.5, 0.5, 0.5, 0], [0, 0, 0, 0, 0, 1], [0] * 6]
    mean = mean_of_present(rows, tf.constant(lists))
    np.testing.assert_allclose(lengthened(mean, tf.constant(lists)), expected, rtol=1e-6)
    laid_out = bagged({"recent": lists}, ["recent"])["recent"]
    np.testing.assert_allclose(lengthened(mean, laid_out), expected, rtol=1e-6)


class _Plain(tf.Module):
    """Stands for a transform graph whose raw ids are the rows' numbers."""

    inputs = MappingProxyType({"recent": tf.TensorSpec([None, None], tf.int64, "recent")})

    def __call__(self, raw):
        return dict(raw)


@pytest.fixture(scope="module", params=["mean", "sqrtn", "attention"])
def tower(request, tiny, tmp_path_factory):
    """A trained tower as it is served: histories, [B, L] -> vectors; and by the training code."""
    features = {name: tiny.features[name] for name in ("recent", "item")}
    pipeline = tiny.pipeline(features, train={"history": {**ATTENTION, "pooling": request.param}})
    model = TwoTower(tiny.architecture(pipeline), seed=1)
    rng = np.random.default_rng(0)
    fitted = [model.tables[name] for name in filter(None, [model.architecture.linear])]
    for weight in [*model.dense.values(), *fitted]:
        weight.values.assign_add(rng.normal(size=weight.values.shape) * 0.3)
    folder = tmp_path_factory.mktemp(request.param)
    export(model, _Plain(), "query", folder)
    loaded = tf.saved_model.load(str(folder))
    serve = loaded.signatures[model_bundle.SIGNATURE]

    def call(histories):
        _ = loaded  # its variables live as long as this reference does
        return serve(recent=tf.constant(histories, tf.int64))[model_bundle.VECTOR].numpy()

    call.pooling = request.param
    tables = {name: weight.values for name, weight in model.tables.items()}

    def train(histories):
        columns = {"recent": np.array(histories, np.int32)}
        vectors = model("query", columns)
        return with_linear_part(model.architecture, "query", vectors, tables, columns).numpy()

    call.train = train
    return call


def _padded(histories, width):
    return [[*history, *[0] * (width - len(history))] for history in histories]


def test_served_vectors_are_the_trained_ones_however_far_histories_are_padded(tower):
    histories = [[3, 9, 4], [], [7], [1, 2, 3, 4, 5]]
    expected = tower.train(_padded(histories, 5))
    for width in (5, 20, 100):
        np.testing.assert_allclose(tower(_padded(histories, width)), expected, atol=1e-6)
    np.testing.assert_allclose(tower([[3, 9, 4]]), expected[:1], atol=1e-6)
    np.testing.assert_allclose(tower([[]]), expected[1:2], atol=1e-6)
    np.testing.assert_allclose(tower([[0, 3, 0, 9, 4]]), expected[:1], atol=1e-6)


def test_order_counts_unless_it_is_a_mean(tower):
    one, other = tower([[3, 9, 4], [9, 4, 3]])
    assert np.allclose(one, other, atol=1e-6) == (tower.pooling in ("mean", "sqrtn"))


def test_attention_reads_the_newest_of_a_history_that_is_too_long(tower):
    if tower.pooling == "attention":
        # The linear part follows and reads all of it.
        newest, longer = (
            tower(rows)[:, :8] for rows in ([[1, 2, 3, 4, 5]], [[8, 8, 1, 2, 3, 4, 5]])
        )
        np.testing.assert_allclose(longer, newest, atol=1e-6)


def test_how_many_there_were_counts_unless_it_is_a_mean(tower):
    once, twice = tower([[3, 9]]), tower([[3, 3, 9, 9]])
    assert np.allclose(once, twice, atol=1e-4) == (tower.pooling == "mean")


RNG = np.random.default_rng(4)


def lists_of(rows, longest, largest):
    """Lists with holes, some there several times in a row, some empty, the last one too."""
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
    sums = bags(lists)
    assert sums.ids.tolist() == sorted({*lists[lists > 0].tolist()})
    parts = np.split(sums.ids[sums.place], np.cumsum(sums.count)[:-1])
    distinct = [part.tolist() for part in parts]
    assert [distinct[n] for n in sums.of] == [row[row > 0].tolist() for row in lists]
    assert len(distinct) == 1 + sum(a.tolist() != b.tolist() for a, b in pairwise(lists)) < 50
    assert sums.row.tolist() == [n for n, entries in enumerate(distinct) for _ in entries]
    pairs = list(zip(sums.place.tolist(), sums.row.tolist(), range(len(sums.row)), strict=True))
    assert [pairs[n] for n in sums.by_id] == sorted(pairs)
    assert {array.dtype for array in sums} == {np.dtype(np.int32)}


@pytest.mark.parametrize(
    "lists", [lists_of(40, 7, 12), np.zeros((3, 4), np.int32), np.zeros((3, 0), np.int32)]
)
def test_means_and_their_gradients_are_those_of_padded_lists(lists):
    table = tf.Variable(RNG.normal(size=(13, 5)), dtype=tf.float32)
    upstream = tf.constant(RNG.normal(size=(len(lists), 5)), tf.float32)

    @tf.function
    def both(laid_out, ids):
        with tf.GradientTape(persistent=True) as tape:
            rows = tf.gather(table, ids)
            padded = mean_of_present(rows, ids)
            mean = mean_of_bags(tf.gather(table, laid_out.ids), laid_out)
            losses = [tf.reduce_sum(upstream * x) for x in (padded, mean)]
        return padded, mean, *(tf.convert_to_tensor(tape.gradient(loss, table)) for loss in losses)

    whole = tf.TensorSpec([None], tf.int32)
    spec = EmbeddingBags(*[whole] * len(EmbeddingBags._fields))
    call = both.get_concrete_function(spec, tf.TensorSpec([None, None], tf.int32))
    padded, mean, expected, gradient = call(bags(lists), lists)
    np.testing.assert_allclose(mean, padded, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)
