from types import MappingProxyType

import numpy as np
import pytest
import tensorflow as tf

from model.towers.embedding_bag import bagged
from model.towers.export import export
from model.towers.pooling import lengthened, mean_of_present, recent_mean
from model.towers.two_tower import TwoTower
from twinspire_core.contracts import model_bundle

ATTENTION = {"pooling": "attention", "layers": 2, "heads": 2}


def test_mean_ignores_padding_wherever_it_lies():
    rows = tf.constant(
        [[[2.0], [4.0], [100.0]], [[100.0], [3.0], [100.0]], [[100.0], [100.0], [100.0]]]
    )
    mean = mean_of_present(rows, tf.constant([[5, 6, 0], [0, 7, 0], [0, 0, 0]]))
    np.testing.assert_allclose(mean, [[3.0], [3.0], [0.0]])


def test_recent_entries_weigh_twice_as_much_as_those_a_half_life_older():
    """By hand: weights 1/4, 1/2, 1 of three entries; 1/2, 1 of two; holes and padding do not age
    anything.
    """
    rows = tf.constant(
        [[[8.0], [4.0], [1.0], [100.0]], [[100.0], [4.0], [100.0], [1.0]], [[100.0]] * 4]
    )
    mean = recent_mean(rows, tf.constant([[5, 6, 7, 0], [0, 7, 0, 9], [0, 0, 0, 0]]), 1.0)
    np.testing.assert_allclose(mean, [[(2 + 2 + 1) / 1.75], [(2 + 1) / 1.5], [0.0]], rtol=1e-6)
    slow = recent_mean(rows, tf.constant([[5, 6, 7, 0], [0, 7, 0, 9], [0, 0, 0, 0]]), 2.0)
    weights = np.array([0.5, 0.5**0.5, 1.0])
    np.testing.assert_allclose(slow[0], [(weights * [8, 4, 1]).sum() / weights.sum()], rtol=1e-6)


def test_sums_are_divided_by_the_root_of_their_number():
    """By hand: four rows that are at right angles add up to length 1 again, and an empty list to
    nothing.
    """
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


@pytest.fixture(scope="module", params=["mean", "sqrtn", "recency", "attention"])
def tower(request, tiny, tmp_path_factory):
    """A trained tower as it is served: histories, [B, L] -> vectors. And the same from the training
    code.
    """
    features = {name: tiny.features[name] for name in ("recent", "item")}
    pipeline = tiny.pipeline(features, train={"history": {**ATTENTION, "pooling": request.param}})
    model = TwoTower(tiny.layout(pipeline), seed=1)
    rng = np.random.default_rng(0)
    for weight in model.dense.values():
        weight.values.assign_add(rng.normal(size=weight.values.shape) * 0.3)
    folder = tmp_path_factory.mktemp(request.param)
    export(model, _Plain(), "query", folder)
    loaded = tf.saved_model.load(str(folder))
    serve = loaded.signatures[model_bundle.SIGNATURE]

    def call(histories):
        _ = loaded  # its variables live as long as this reference does
        return serve(recent=tf.constant(histories, tf.int64))[model_bundle.VECTOR].numpy()

    call.pooling, call.train = (
        request.param,
        lambda rows: model("query", {"recent": np.array(rows, np.int32)}).numpy(),
    )
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
        np.testing.assert_allclose(
            tower([[8, 8, 1, 2, 3, 4, 5]]), tower([[1, 2, 3, 4, 5]]), atol=1e-6
        )


def test_how_many_there_were_counts_unless_it_is_a_mean(tower):
    once, twice = tower([[3, 9]]), tower([[3, 3, 9, 9]])
    assert np.allclose(once, twice, atol=1e-4) == (tower.pooling == "mean")
