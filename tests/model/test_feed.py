from datetime import date

import numpy as np
import pytest

from model.bags import Bags
from model.feed import feed, shuffled
from model.rows import Rows

MONDAY, TUESDAY = date(2024, 5, 6), date(2024, 5, 7)
HOUR = 3_600_000_000


@pytest.fixture
def rows(tiny):
    columns = tiny.columns(200)
    return Rows(
        features=columns,
        user=columns["user"].astype(np.int64),
        item=columns["item"].astype(np.int64),
        reward=np.ones(200, np.float32),
        time=np.sort(np.random.default_rng(0).integers(0, 24 * HOUR, 200)),
    )


def _orders(tiny, rows, day, **train):
    """The order of each epoch, [epochs, N]."""
    pipeline = tiny.pipeline(train=train)
    layout, settings = tiny.layout(pipeline), pipeline.train
    epochs = range(settings.epochs)
    return np.stack([np.concatenate([b.rows for b in feed(rows, layout, settings, day, epoch)]) for epoch in epochs])


@pytest.mark.parametrize("pooling", ["mean", "attention"])
@pytest.mark.parametrize("order", ["time", "shuffled"])
def test_orders_of_two_epochs_and_of_two_days_differ(tiny, rows, pooling, order):
    train = {"epochs": 2, "order": order, "history": {"pooling": pooling}}
    orders = _orders(tiny, rows, MONDAY, **train)
    assert (np.sort(orders, axis=1) == np.arange(200)).all()
    assert not (orders[0] == orders[1]).all() and (orders == _orders(tiny, rows, MONDAY, **train)).all()
    assert not (orders == _orders(tiny, rows, TUESDAY, **train)).all()
    hours = np.diff(rows.time[orders] // HOUR)
    assert (hours >= 0).all() if order == "time" else (hours < 0).any()


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_zero_minutes_keep_the_order_of_time(tiny, rows, pooling):
    (order,) = _orders(tiny, rows, MONDAY, epochs=1, shuffle_minutes=0, history={"pooling": pooling})
    assert (order == np.arange(200)).all()


def test_rows_are_shuffled_within_their_block_and_those_of_a_run_stay_together():
    block, together = np.arange(600) // 60, np.arange(600) // 3
    order = shuffled(block, together, np.random.default_rng(0))
    assert sorted(order) == list(range(600)) and (order // 60 == block).all()
    assert all((np.diff(order[at : at + 60 : 3]) < 0).any() for at in range(0, 600, 60))
    assert (order.reshape(-1, 3) - order[::3, np.newaxis] == [0, 1, 2]).all() and (order[::3] % 3 == 0).all()


def test_features_are_those_of_the_rows(tiny, rows):
    pipeline = tiny.pipeline(train={"epochs": 1})
    for batch, features in feed(rows, tiny.layout(pipeline), pipeline.train, MONDAY):
        assert set(features) == set(rows.features)
        for name, column in features.items():
            expected = rows.features[name][batch]
            if isinstance(column, Bags):
                assert column.count.tolist() == (expected > 0).sum(1).tolist()
                column, expected = column.ids[column.place], expected[expected > 0]
            np.testing.assert_array_equal(column, expected)
