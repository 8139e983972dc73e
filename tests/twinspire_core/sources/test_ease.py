"""EASE against its closed form."""

import numpy as np
import pytest

from twinspire_core.search.ragged import Ragged
from twinspire_core.sources import ease_fitting
from twinspire_core.sources.weighted_items import WeightedItems


def _random(users: int, items: int, share: float) -> tuple[WeightedItems, np.ndarray]:
    """Random users, and the same as a matrix of square roots."""
    generator = np.random.default_rng(users)
    matrix = generator.integers(1, 9, (users, items)) * (generator.random((users, items)) < share)
    row, column = np.nonzero(matrix)
    weights = matrix[row, column].astype(np.float32)
    taken = WeightedItems(Ragged(column, row, users), weights, np.zeros(len(row), np.float32))
    return taken, np.sqrt(matrix)


def _closed_form(matrix: np.ndarray, penalty: float) -> np.ndarray:
    """As in the paper: the inverse of the whole Gram matrix, divided by its diagonal."""
    inverse = np.linalg.inv(matrix.T @ matrix + penalty * np.eye(matrix.shape[1]))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


@pytest.mark.parametrize("users", [15, 200])  # fewer than items, and more
def test_weights_are_those_of_the_closed_form(users):
    items = 40
    taken, matrix = _random(users, items, 0.3)
    rows, weights = ease_fitting.fit(taken, items, 7.0, items)
    fitted = np.flatnonzero((matrix > 0).sum(axis=0) >= ease_fitting.LEAST_USERS)
    expected = np.zeros((items, items))
    expected[np.ix_(fitted, fitted)] = _closed_form(matrix[:, fitted], 7.0)
    found = np.zeros((items, items))
    row, place = np.nonzero(rows >= 0)
    found[row, rows[row, place]] = weights[row, place]
    assert found == pytest.approx(expected, abs=1e-4)
    assert (expected < -0.01).any()


def test_the_largest_weights_are_kept():
    taken, _ = _random(60, 30, 0.3)
    all_rows, all_weights = ease_fitting.fit(taken, 30, 7.0, 30)
    rows, weights = ease_fitting.fit(taken, 30, 7.0, 4)
    assert np.array_equal(rows, all_rows[:, :4])
    assert np.array_equal(weights, all_weights[:, :4])


def test_items_of_one_user_say_nothing():
    lists = Ragged(np.array([0, 1, 2, 0, 1]), np.array([0, 0, 0, 1, 1]), 2)
    taken = WeightedItems(lists, np.ones(5, np.float32), np.zeros(5, np.float32))
    rows, _ = ease_fitting.fit(taken, 4, 1.0, 3)
    assert rows.tolist() == [[1, -1, -1], [0, -1, -1], [-1, -1, -1], [-1, -1, -1]]
