import numpy as np
import pytest
import tensorflow as tf

from model.losses.sampling_probability import StreamingFrequency
from model.towers.list_encoders import bagged
from model.towers.two_tower import TwoTower
from model.training.step import compile_step, drop_ids, with_dropped_context

ROWS = 400
QUERY = {
    "likes": {"kind": "categories", "tower": "query"},
    "age": {"kind": "number", "tower": "query"},
    "face": {"kind": "vector", "tower": "query", "size": 3},
}


@pytest.fixture
def pipeline(tiny):
    """A pipeline whose queries hold a column of each form; `train` is put over its own."""

    def make(**train):
        train = {"id_dropout": 0.0, "correction": "none", "batch_size": ROWS, **train}
        return tiny.pipeline({**tiny.features, **QUERY}, train=train)

    return make


@pytest.fixture
def features(tiny):
    rng = np.random.default_rng(5)
    likes = rng.integers(1, 4, (ROWS, 2), dtype=np.int32)
    likes[rng.random((ROWS, 2)) < 0.3] = 0
    return {
        **tiny.columns(ROWS),
        "likes": likes,
        "age": rng.normal(size=ROWS).astype(np.float32),
        "face": rng.normal(size=(ROWS, 3)).astype(np.float32),
    }


@pytest.fixture
def step(tiny):
    """Takes a step of a new model: the model after it, and its loss."""

    def take(pipeline, features):
        model = TwoTower(tiny.architecture(pipeline, likes=["a", "b", "c"]), seed=1)
        batch = {name: features[name].astype(np.int64) for name in ("user", "item")}
        batch["reward"] = np.ones(ROWS, np.float32)
        batch["draw_probability"] = np.full(ROWS, 0.05, np.float32)
        run = compile_step(model, StreamingFrequency(buckets=1 << 20), pipeline.train)
        loss = run(bagged(features, model.architecture.lists), batch, {}, np.int32(3)).numpy()[0]
        return model, loss

    return take


def without_context(features):
    missing = {name: np.zeros_like(features[name]) for name in (*QUERY, "device")}
    return {**features, **missing}


def test_a_query_without_context_is_trained_as_a_request_without_any(pipeline, features, step):
    dropped, loss = step(pipeline(context_dropout=0.999999), features)
    left_out, expected = step(pipeline(), without_context(features))
    assert loss == pytest.approx(expected, rel=1e-6)
    for name, table in left_out.tables.items():
        np.testing.assert_allclose(dropped.tables[name].values, table.values, atol=1e-6)
    assert loss != pytest.approx(step(pipeline(), features)[1], rel=1e-4)


def test_a_share_of_the_queries_loses_all_of_its_context_at_once(tiny, pipeline, features):
    """And another share at another step. What is of the user, the time and the item stays."""
    features = {**features, "device": np.full(ROWS, 2), "likes": np.full((ROWS, 1), 3, np.int32)}
    settings = pipeline(context_dropout=0.25)
    model = TwoTower(tiny.architecture(settings, likes=["a", "b", "c"]), seed=1)
    given = tf.nest.map_structure(tf.constant, bagged(features, model.architecture.lists))
    lost = []
    for step in map(tf.constant, (3, 4)):
        left = with_dropped_context(model, given, tf.constant(ROWS), settings.train, step)
        lost.append(left["device"].numpy() == 0)
        likes = left["likes"]
        assert (lost[-1] == (likes.count.numpy()[likes.of.numpy()] == 0)).all()
        assert (lost[-1] == (left["age"].numpy() == 0)).all()
        assert (lost[-1] == (left["face"].numpy() == 0).all(1)).all()
        assert {name for name in given if left[name] is not given[name]} == {*QUERY, "device"}
        assert 0.2 < lost[-1].mean() < 0.3
    assert (lost[0] != lost[1]).any()


def test_dropped_ids_become_shared_rows_and_missing_stays_missing(tiny):
    spec = tiny.architecture().tables["item"]
    ids = tf.constant([0, 7] * 4000)
    dropped = drop_ids(ids, spec, 0.25, tf.constant([3, 4])).numpy()
    assert (dropped[::2] == 0).all()
    replaced = dropped[1::2][dropped[1::2] != 7]
    assert set(replaced) == {21 + n for n in range(spec.shared)}  # 20 tokens after row 0
    assert 0.22 < len(replaced) / 4000 < 0.28
    assert not (dropped == drop_ids(ids, spec, 0.25, tf.constant([3, 5])).numpy()).all()
