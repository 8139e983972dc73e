from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from model.data.batching import BASKET_PARTS, baskets, batches, shuffled, training_batches
from model.towers.list_encoders import EmbeddingBags

MONDAY, TUESDAY = date(2024, 5, 6), date(2024, 5, 7)
HOUR = 3_600_000_000


@pytest.fixture
def rows(tiny):
    return tiny.rows(200)


def _batches(tiny, rows, day=MONDAY, epoch=0, **train):
    pipeline = tiny.pipeline(train=train)
    return training_batches(rows, tiny.architecture(pipeline), pipeline.train, day, epoch)


def _orders(tiny, rows, day, **train):
    """The order of each of two epochs, [2, N]."""
    epochs = [_batches(tiny, rows, day, epoch, epochs=2, **train) for epoch in range(2)]
    return np.stack([np.concatenate([batch.rows for batch in epoch]) for epoch in epochs])


@pytest.mark.parametrize("pooling", ["mean", "attention"])
@pytest.mark.parametrize("order", ["time", "shuffled"])
def test_orders_of_two_epochs_and_of_two_days_differ(tiny, rows, pooling, order):
    train = {"order": order, "history": {"pooling": pooling}}
    orders = _orders(tiny, rows, MONDAY, **train)
    assert (np.sort(orders, axis=1) == np.arange(200)).all()
    assert not (orders[0] == orders[1]).all()
    assert (orders == _orders(tiny, rows, MONDAY, **train)).all()
    assert not (orders == _orders(tiny, rows, TUESDAY, **train)).all()
    hours = np.diff(rows.time[orders] // HOUR)
    assert (hours >= 0).all() if order == "time" else (hours < 0).any()


def test_rows_are_shuffled_within_their_block_and_those_of_a_run_stay_together():
    block, together = np.arange(600) // 60, np.arange(600) // 3
    order = shuffled(block, together, np.random.default_rng(0))
    assert sorted(order) == list(range(600)) and (order // 60 == block).all()
    assert all((np.diff(order[at : at + 60 : 3]) < 0).any() for at in range(0, 600, 60))
    assert (order.reshape(-1, 3) - order[::3, np.newaxis] == [0, 1, 2]).all()
    assert (order[::3] % 3 == 0).all()


@pytest.mark.parametrize("most", [1, 4, 1000])
def test_a_basket_is_cut_into_parts_that_are_about_equally_large(rows, most):
    # 30 times and users, some twenty of them large
    basket = np.random.default_rng(3).integers(0, 30, 200)
    basket[50:100], basket = 7, np.sort(basket)
    rows = replace(rows, time=basket // 2, user=basket % 2)
    first, second = (baskets(rows, most, np.random.default_rng(seed)) for seed in (0, 1))
    assert sorted(set(first)) == list(range(first.max() + 1))
    for number in np.unique(basket):
        size = np.bincount(first[basket == number])
        size = size[size > 0]
        assert len(size) == -(-size.sum() // most) and size.max() - size.min() <= 1
    assert all(len(set(basket[first == part])) == 1 for part in first)
    assert (first != second).any() == (most < 1000)  # who is with whom is drawn


@pytest.mark.parametrize("masked", [False, True])
def test_baskets_stay_together_where_their_rows_are_no_negatives_of_each_other(tiny, rows, masked):
    """And so a batch holds few lists, each for several rows."""
    basket = np.arange(200) // 10
    history = tiny.columns(20)["recent"][basket]
    features = {**rows.features, "recent": history}
    rows = replace(rows, time=basket, user=basket % 3, features=features)
    train = {"order": "shuffled", "negatives": {"mask_positives": masked}}
    for batch, features in _batches(tiny, rows, batch_size=2 * BASKET_PARTS, **train):
        pairs = np.mean(basket[batch[1:]] == basket[batch[:-1]])
        assert 0.4 < pairs < 0.7 if masked else pairs < 0.2
        assert len(features["recent"].count) < 0.7 * len(batch) if masked else True


def test_features_are_those_of_the_rows(tiny, rows):
    for batch, features in _batches(tiny, rows):
        assert set(features) == set(rows.features)
        for name, column in features.items():
            expected = rows.features[name][batch]
            if isinstance(column, EmbeddingBags):
                lists = np.split(column.ids[column.place], np.cumsum(column.count)[:-1])
                column = np.concatenate([lists[n] for n in column.of])
                expected = expected[expected > 0]
            np.testing.assert_array_equal(column, expected)


@pytest.mark.parametrize("n", [100, 101, 163, 199, 200, 1000, 1063])
def test_every_batch_is_full_and_every_row_is_in_one(n):
    cut = batches(np.arange(n), 100)
    sizes = [len(batch) for batch in cut]
    assert np.concatenate(cut).tolist() == list(range(n))
    assert min(sizes) >= 100 and max(sizes) < 200 and max(sizes) - min(sizes) <= 1


def test_a_day_smaller_than_a_batch_is_one_batch():
    assert [len(b) for b in batches(np.arange(7), 100)] == [7]
    assert batches(np.arange(0), 100) == []
