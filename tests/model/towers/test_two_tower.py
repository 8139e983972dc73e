import numpy as np
import pytest
import tensorflow as tf
from scipy.sparse import csr_matrix

from model.towers.linear_part import (
    fit_linear_part,
    right_singular_vectors,
    with_linear_part,
)
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


@pytest.fixture
def fitted(tiny):
    """A model whose linear part is fitted to forty users, and their histories."""
    pipeline = tiny.pipeline(train={"history": {"pooling": "sqrtn"}})
    model = TwoTower(tiny.architecture(pipeline), seed=1)
    rng = np.random.default_rng(0)
    histories = rng.integers(0, 25, (40, 12), np.int32)  # 0 is padding, from 21 on rows are shared
    fit_linear_part(model, histories, seed=0)
    return model, histories


def _vectors(model, side, features, trained=None):
    tables = {name: weight.values for name, weight in model.tables.items()}
    if trained is None:
        trained = tf.zeros([len(next(iter(features.values()))), 8])
    return with_linear_part(model.architecture, side, trained, tables, features).numpy()


@pytest.mark.parametrize(("pooling", "width"), [("mean", 8), ("sqrtn", 32), ("attention", 12)])
def test_the_linear_part_is_as_wide_as_the_encoder_needs(tiny, pooling, width):
    pipeline = tiny.pipeline(train={"history": {"pooling": pooling}})
    model = TwoTower(tiny.architecture(pipeline), seed=1)
    fitted = [spec.name for spec in model.architecture.tables.values() if spec.fitted]
    assert fitted == ([] if pooling == "mean" else ["item.linear"])
    for side, features in (("query", {"recent": [[3, 4]]}), ("item", {"item": [5]})):
        ids = {name: np.array(rows, np.int32) for name, rows in features.items()}
        assert _vectors(model, side, ids).shape == (1, width)


def test_the_linear_part_scores_items_as_the_counts_nearest_matrix_of_its_rank(fitted):
    model, histories = fitted
    rows, width = model.tables["item.linear"].values.shape
    rank = min(width, 19)  # 20 items have rows, and ARPACK finds one less
    counts = np.zeros((40, rows))
    np.add.at(counts, (np.arange(40)[:, None], histories), 1)
    counts[:, [0, *range(21, rows)]] = 0  # padding and shared rows
    right = np.linalg.svd(counts / np.sqrt(counts.sum(1, keepdims=True)))[2][:rank]
    expected = counts @ right.T
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True) @ right
    queries = _vectors(model, "query", {"recent": histories})
    items = _vectors(model, "item", {"item": np.arange(rows)})
    np.testing.assert_allclose(queries @ items.T, expected, atol=1e-5)
    for vectors in (queries, items):
        np.testing.assert_allclose((vectors**2).sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("shape", [(60, 30), (30, 60)])
def test_singular_vectors_of_few_directions_are_the_same_each_time(shape):
    """SciPy's `svds` returns others each time, and random ones for the directions that are missing."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 3, (shape[0], 12)) @ rng.integers(0, 2, (12, shape[1])).astype(float)
    first, again = (right_singular_vectors(csr_matrix(counts), 25, seed=0) for _ in range(2))
    assert first.shape == (shape[1], 12) and first.tobytes() == again.tobytes()
    np.testing.assert_allclose(first.T @ first, np.eye(12), atol=1e-9)
    np.testing.assert_allclose(counts @ first @ first.T, counts, atol=1e-6)


def test_a_query_weighs_the_linear_part_six_times_as_much_as_the_trained_part(fitted):
    model, histories = fitted
    asked = {"query": {"recent": histories}, "item": {"item": np.arange(20)}}
    rng = np.random.default_rng(1)
    trained = {side: rng.normal(size=(rows, 8)) for side, rows in (("query", 40), ("item", 20))}
    trained = {s: (x / np.linalg.norm(x, axis=1)[:, None]).astype("f4") for s, x in trained.items()}
    alone = [_vectors(model, side, asked[side]) for side in asked]
    both = [_vectors(model, side, asked[side], trained[side]) for side in asked]
    expected = trained["query"] @ trained["item"].T + 6 * alone[0] @ alone[1].T
    np.testing.assert_allclose(both[0] @ both[1].T, expected / np.sqrt(37 * 2), atol=1e-5)


def test_the_linear_part_says_nothing_of_a_new_user_or_a_new_item(fitted):
    model, histories = fitted
    new_user = _vectors(model, "query", {"recent": np.zeros((1, 5), np.int32)})
    assert not new_user.any()
    shared_row = model.architecture.tables["item.linear"].first_shared
    new_item = _vectors(model, "item", {"item": np.array([shared_row])})
    queries = _vectors(model, "query", {"recent": histories})
    np.testing.assert_allclose(queries @ new_item.T, 0, atol=1e-7)
