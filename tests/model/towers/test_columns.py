from datetime import date

import numpy as np
import pytest

from model.losses.sampling_probability import StreamingFrequency
from model.towers.list_encoders import bagged
from model.towers.two_tower import TwoTower
from model.training.loop import run_training
from twinspire_core.config import feature_kinds

KINDS = {
    "price": {"kind": "number", "tower": "item", "from": "items"},
    "age": {"kind": "age"},
    "city": {"kind": "category", "tower": "query"},
}


@pytest.fixture(scope="module", params=["mean", "sqrtn", "attention"])
def trained(request, tiny):
    """Towers before and after an epoch, and the rows."""
    train = {"history": {"pooling": request.param}, "id_dropout": 0.0, "epochs": 1}
    pipeline = tiny.pipeline({**tiny.features, **KINDS}, train=train)
    rng = np.random.default_rng(7)
    more = {name: rng.normal(size=200).astype(np.float32) for name in ("price", "age")}
    rows = tiny.rows(200, **more, city=rng.integers(1, 9, 200, dtype=np.int32))
    architecture = tiny.architecture(pipeline, city=list("abcdefgh"))
    before, after = (TwoTower(architecture, seed=1) for _ in range(2))
    run_training(after, StreamingFrequency(buckets=100), [(date(2024, 5, 6), rows)], pipeline.train)
    return before, after, rows


def _other(column):
    """The same column with another value in every row."""
    return column + 1 if column.dtype == np.float32 else column % column.max() + 1


def test_every_column_moves_its_own_towers_vector(trained):
    _, model, rows = trained
    for side, parts in model.architecture.columns.items():
        before = model(side, rows.features).numpy()
        for column in parts:
            other = {column.name: _other(rows.features[column.name])}
            changed = model(side, rows.features | other).numpy()
            assert (np.abs(changed - before).max(1) > 1e-4).mean() > 0.9, column.name


def test_training_moves_every_columns_weights(trained):
    before, after, rows = trained
    kinds = {column.kind for side in after.architecture.columns.values() for column in side}
    assert kinds == set(feature_kinds.KINDS)
    for name, weight in before.dense.items():
        if not name.endswith("key/bias"):  # which no softmax can feel
            assert np.abs(after.dense[name].values - weight.values).max() > 1e-5, name
    for name, table in before.tables.items():
        moved = (after.tables[name].values.numpy() != table.values.numpy()).any(1)
        if name == after.architecture.linear:
            assert not moved.any(), "it is fitted, not trained"
            continue
        sides = after.architecture.columns.values()
        columns = [column.name for side in sides for column in side if column.table == name]
        used = set(np.concatenate([rows.features[column].ravel() for column in columns])) - {0}
        assert set(np.flatnonzero(moved)) - {0} == used and len(used) > 1, name


def test_lists_laid_out_for_training_give_the_vectors_of_padded_ones(trained):
    _, model, rows = trained
    for side in model.architecture.columns:
        laid_out = bagged(rows.features, model.architecture.lists)
        np.testing.assert_allclose(model(side, laid_out), model(side, rows.features), atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "sqrtn", "attention"])
def test_only_histories_are_pooled_as_asked(tiny, pooling):
    pipeline = tiny.pipeline({**tiny.features, **KINDS}, train={"history": {"pooling": pooling}})
    sides = tiny.architecture(pipeline, city=list("abcdefgh")).columns.values()
    asked = {column.kind for side in sides for column in side if column.root or column.attention}
    assert asked == (set() if pooling == "mean" else {"history"})
