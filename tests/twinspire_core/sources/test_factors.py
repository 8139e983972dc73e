"""iALS against its loss, and against one row solved the slow way; what its source lists of nothing."""

import numpy as np
import pyarrow as pa
import pytest

from twinspire_core.search.ragged import Ragged
from twinspire_core.sources import factors
from twinspire_core.sources.factors import Factors, IalsSettings
from twinspire_core.sources.source import Queries, SourceTables
from twinspire_core.sources.user_histories import Sequences

SETTINGS = IalsSettings(factors=5, unobserved=0.3, penalty=0.05, exponent=0.7, epochs=3)


def _random(users: int, items: int) -> tuple[Ragged, np.ndarray]:
    generator = np.random.default_rng(1)
    row, column = np.nonzero(generator.random((users, items)) < 0.2)
    return Ragged(column, row, users), generator.random(len(row)).astype(np.float32) + 0.5


def _loss(users, items, lists, weights, settings):
    """The sum in the module's docstring, pair by pair."""
    scores = users @ items.T
    total = settings.unobserved * (scores**2).sum()
    total += (weights * (1 - scores[lists.row, lists.values]) ** 2).sum()
    sides = (users, lists.row, len(items)), (items, lists.values, len(users))
    for row_factors, row, others in sides:
        sums = np.bincount(row, weights=weights, minlength=len(row_factors))
        ridge = (sums + settings.unobserved * others) ** settings.exponent
        total += settings.penalty * (ridge * (row_factors**2).sum(axis=1)).sum()
    return total


def test_a_row_is_the_minimum_of_the_loss():
    lists, weights = _random(12, 9)
    items = np.random.default_rng(2).standard_normal((9, 5)).astype(np.float32)
    users = factors.solve(lists, weights, items, SETTINGS).astype(np.float64)
    best = _loss(users, items, lists, weights, SETTINGS)
    for step in (1e-3, -1e-3):
        for user, factor in [(0, 0), (3, 2), (11, 4)]:
            moved = users.copy()
            moved[user, factor] += step
            assert _loss(moved, items, lists, weights, SETTINGS) > best


def test_blocks_of_rows_do_not_matter(monkeypatch):
    lists, weights = _random(40, 30)
    items = np.random.default_rng(2).standard_normal((30, 5)).astype(np.float32)
    whole = factors.solve(lists, weights, items, SETTINGS)
    monkeypatch.setattr(factors, "_BLOCK", 1)
    assert factors.solve(lists, weights, items, SETTINGS) == pytest.approx(whole, abs=1e-5)


def test_epochs_lower_the_loss():
    lists, weights = _random(60, 40)
    losses = []
    for epochs in (1, 2, 8):
        settings = SETTINGS._replace(epochs=epochs)
        items = factors.fit_factors(lists, weights, 40, settings)
        users = factors.solve(lists, weights, items, settings)
        losses.append(_loss(users, items, lists, weights, settings))
    assert losses[0] > losses[1] > losses[2]


def test_nobodys_items_have_no_factors():
    lists = Ragged(np.array([0, 2]), np.array([0, 1]), 2)
    fitted = factors.fit_factors(lists, np.ones(2, np.float32), 3, SETTINGS)
    assert not fitted[1].any()
    assert fitted[0].any()


def test_of_a_past_that_nobody_else_knows_nothing_is_listed():
    """The item d is in the corpus, and nobody took it; a b, a c and b c were taken together."""
    taken = Ragged.of_lengths(np.array([0, 1, 0, 2, 1, 2]), np.array([2, 2, 2]))
    corpus = pa.array(["a", "b", "c", "d"])
    table = factors.fit(Sequences(taken, np.tile(np.float32([0, 1]), 3)), corpus)
    items = pa.table({"_item": pa.chunked_array([corpus])})
    source = Factors.of(SourceTables(corpus=items, others={factors.TABLE: table}))
    assert source is not None
    # Of d alone; of a, then d; of nothing.
    past = Ragged.of_lengths(np.array([3, 0, 3]), np.array([1, 2, 0]))
    items, scores = source.lists(Queries.of_past(past), 3)
    assert items[[0, 2]].tolist() == [[-1, -1, -1]] * 2
    assert np.isneginf(scores[[0, 2]]).all()
    assert sorted(items[1]) == [0, 1, 2]


def test_events_count_alike_however_old_they_are():
    taken = Ragged.of_lengths(np.array([0, 1, 0, 2, 1, 2]), np.array([2, 2, 2]))
    corpus = pa.array(["a", "b", "c"])
    new, old = (
        factors.fit(Sequences(taken, np.full(6, age, np.float32)), corpus) for age in (0, 900)
    )
    assert new.equals(old)
