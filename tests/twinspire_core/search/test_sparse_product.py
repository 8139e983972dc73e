import numba
import numpy as np
import pytest

from twinspire_core.search import ragged
from twinspire_core.search.ragged import Ragged, SparseTable, best_columns, list_offsets

ROWS, WIDTH, QUERIES = 9, 40, 6


def _lists(rng, longest, most):
    lists = [rng.permutation(most)[: rng.integers(0, longest)] for _ in range(QUERIES)]
    return Ragged.of_lengths(np.concatenate(lists), np.array([*map(len, lists)]))


@pytest.mark.parametrize("k", [1, 5, 50])
@pytest.mark.parametrize("rounded", [True, False])
def test_sums_are_those_of_a_dense_product(k, rounded):
    rng = np.random.default_rng(k)
    # Few distinct weights, so that sums are often equal.
    dense = np.where(rng.random((ROWS, WIDTH)) < 0.4, rng.integers(0, 3, (ROWS, WIDTH)) / 2, 0)
    row, column = np.nonzero(dense)
    weights = dense[row, column].astype(np.float32)
    column[::7], weights[::7] = -1, 1  # none
    dense[row[::7], np.nonzero(dense)[1][::7]] = 0
    table = SparseTable(list_offsets(np.bincount(row, minlength=ROWS)), column, weights, WIDTH)
    rows, added, exclude = _lists(rng, 5, ROWS), _lists(rng, 4, WIDTH), _lists(rng, 9, WIDTH)
    of_rows = rng.integers(1, 3, len(rows.values)).astype(np.float32)
    passing = rng.random(WIDTH) < 0.8
    sums = np.zeros((QUERIES, WIDTH))
    np.add.at(sums, rows.row, of_rows[:, np.newaxis] * dense[rows.values])
    sums[added.row, added.values] += 1 / 3 if not rounded else np.float32(1 / 3)
    if rounded:
        sums = sums.astype(np.float32)
    sums[:, ~passing] = 0
    sums[exclude.row, exclude.values] = 0
    third = np.full(len(added.values), 1 / 3, np.float32 if rounded else np.float64)
    rules = {"exclude": exclude, "passing": passing, "rounded": rounded}
    best = best_columns(rows, of_rows, table, k, added=(added, third), **rules)
    for query, of_query in enumerate(sums):
        order = [c for c in np.argsort(-of_query, kind="stable")[:k] if of_query[c] > 0]
        assert best.columns[query].tolist() == order + [-1] * (k - len(order))
        assert best.sums[query, : len(order)].tolist() == of_query[order].tolist()
        assert (best.sums[query, len(order) :] == -np.inf).all()


def test_a_filter_is_of_the_types_that_the_loop_was_compiled_for(monkeypatch):
    compiled_for = set()
    loop = ragged._find_best

    def spy(*tables):
        compiled_for.add(tuple(map(numba.typeof, tables)))
        loop(*tables)

    monkeypatch.setattr(ragged, "_find_best", spy)
    rows = Ragged.of_lengths(np.arange(2), np.array([1, 1]))
    ones = np.ones(2, np.float32)
    table = SparseTable(np.arange(3), np.arange(2), ones, 2)
    passing = np.ones(2, bool)
    passing.flags.writeable = False
    for some in (None, passing):
        assert best_columns(rows, ones, table, 1, passing=some).columns.tolist() == [[0], [1]]
    assert len(compiled_for) == 1
