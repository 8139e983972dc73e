import numpy as np
import pytest
import tensorflow as tf

from model.towers.two_tower import TwoTower
from twinspire_core.errors import UsageError


@pytest.fixture
def model(tiny):
    return TwoTower(tiny.architecture(), seed=1)


@pytest.mark.parametrize("side", ["query", "item"])
def test_vectors_have_the_dimension_and_length_one(tiny, model, side):
    vectors = model(side, tiny.columns(200)).numpy()
    assert vectors.shape == (200, 8)
    np.testing.assert_allclose((vectors**2).sum(1), 1, rtol=1e-5)
    assert (vectors < 0).any() and (vectors > 0).any(), "the last layer has no activation"


def test_the_dimension_is_known_even_where_inputs_tell_no_shape(tiny):
    """As in a SavedModel with one feature; readers size their indexes by it."""
    ids = {name: tiny.features[name] for name in ("user", "item")}
    model = TwoTower(tiny.architecture(tiny.pipeline(ids)), seed=1)
    call = tf.function(lambda ids: model("item", {"item": ids}))
    traced = call.get_concrete_function(tf.TensorSpec(None, tf.int64))
    assert traced.output_shapes.as_list() == [None, 8]


def test_history_reads_the_item_table(tiny, model):
    columns = {**tiny.columns(1), "recent": np.array([[3, 0, 0, 0, 0]])}
    before = model("query", columns).numpy()
    model.tables["item"].values.scatter_update(tf.IndexedSlices(tf.ones([1, 8]), [3]))
    assert np.abs(model("query", columns).numpy() - before).max() > 1e-3


def test_history_and_item_meet_past_the_layers(tiny):
    """At the start, an item is next to the history that holds it; without the skip anywhere."""
    features = {name: tiny.features[name] for name in ("recent", "item")}
    ranks = {}
    for skip in (True, False):
        pipeline = tiny.pipeline(features, train={"skip": skip, "dimension": 32})
        model = TwoTower(tiny.architecture(pipeline), seed=1)
        items = np.arange(1, 21)
        query = model("query", {"recent": items[:, np.newaxis]}).numpy()
        scores = query @ model("item", {"item": items}).numpy().T
        ranks[skip] = (scores > np.diag(scores)[:, np.newaxis]).sum(1)
    assert (ranks[True] == 0).all() and ranks[False].mean() > 5


def test_a_width_that_two_heads_do_not_divide_is_named(tiny):
    odd = tiny.pipeline(train={"dimension": 7, "history": {"pooling": "attention"}})
    with pytest.raises(UsageError, match=r"train\.dimension must be even.*found 7"):
        tiny.architecture(odd)


def test_seed_and_name_decide_the_start(tiny):
    one, other, again = (TwoTower(tiny.architecture(), seed=seed) for seed in (1, 2, 1))
    values = [m.tables["item"].values.numpy() for m in (one, other, again)]
    assert (values[0] == values[2]).all() and not (values[0] == values[1]).any()
    assert not (one.tables["user"].values.numpy()[:20] == values[0][:20]).any()


def test_a_feature_more_leaves_the_other_weights_start_alone(tiny):
    fewer = {name: f for name, f in tiny.features.items() if name != "device"}
    pipelines = (tiny.pipeline(), tiny.pipeline(fewer))
    models = [TwoTower(tiny.architecture(pipeline), seed=1) for pipeline in pipelines]
    with_it, without = (model.tables["user"].values.numpy() for model in models)
    assert (with_it == without).all()
