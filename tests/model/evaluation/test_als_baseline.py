"""ALS against the normal equations solved one user and one item at a time."""

import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from model.evaluation.als_baseline import check_installed, rank_als
from model.evaluation.evaluation_set import prepare
from twinspire_core.errors import UsageError
from twinspire_core.search.ragged import Ragged
from twinspire_core.sources.personal_counts import PersonalCounts

pytest.importorskip("implicit")

USERS, ITEMS, TASTES = 60, 24, 3
CORPUS = pa.table(
    {
        "_item": [f"i{n:02d}" for n in range(ITEMS - 2)] + ["new"],
        "_popular": [*range(22), 99],
        "_lately": [1] * 23,
    }
)


def pasts(seed: int = 0) -> pa.Table:
    """Three kinds of users, each with most of their own third of the items; two items have left the
    corpus.
    """
    rng = np.random.default_rng(seed)
    lists = [
        sorted(i for i in range(u % TASTES, ITEMS, TASTES) if rng.random() < 0.7)
        for u in range(USERS)
    ]
    counts = [[float(n) for n in rng.integers(1, 4, len(one))] for one in lists]
    names = [[f"i{i:02d}" for i in one] for one in lists]
    counts_type = pa.list_(pa.float32())
    return pa.table(
        {
            "_user": [f"u{n}" for n in range(USERS)],
            "_past": names,
            "_past_counts": pa.array(counts, counts_type),
        }
    )


def exam(table: pa.Table, users: list[str]):
    past = dict(
        zip(table.column("_user").to_pylist(), table.column("_past").to_pylist(), strict=True)
    )
    columns = {
        "_user": users,
        "_truth": [["i00"]] * len(users),
        "_past": [past.get(u, []) for u in users],
    }
    return prepare(pa.table(columns), CORPUS)


def slow_als(table: pa.Table, factors: int) -> np.ndarray:
    """[USERS, ITEMS] predicted preference: the paper's equations, from another start, to
    convergence.
    """
    count = np.zeros((USERS, ITEMS))
    for row, (items, counts) in enumerate(
        zip(table["_past"].to_pylist(), table["_past_counts"].to_pylist(), strict=True)
    ):
        for item, n in zip(items, counts, strict=True):
            count[row, int(item[1:])] = n
    rng = np.random.default_rng(1)
    x, y = rng.normal(0, 0.1, (USERS, factors)), rng.normal(0, 0.1, (ITEMS, factors))

    def solve(fixed, counts):
        found = []
        # Confidence: the count where taken, 1 elsewhere; preference: 1 where taken
        for c in counts:
            weight = np.where(c > 0, c, 1.0)
            found.append(
                np.linalg.solve(
                    (fixed.T * weight) @ fixed + 0.01 * np.eye(factors),
                    fixed.T @ (weight * (c > 0)),
                )
            )
        return np.array(found)

    for _ in range(60):
        x = solve(y, count)
        y = solve(x, count.T)
    return x @ y.T


def test_lists_are_those_of_the_normal_equations():
    table = pasts()
    split = exam(table, [f"u{n}" for n in range(USERS)])
    found = rank_als(table, split, table.column("_user"), CORPUS.column("_item"), 5, TASTES)
    scores = slow_als(table, TASTES)[:, : ITEMS - 2]
    overlap = []
    for user, seen in enumerate(table["_past"].to_pylist()):
        best = set(np.argsort(-scores[user])[:5])
        overlap.append(len(best & set(found.kept[user])) / 5)
        listed = {CORPUS["_item"][i].as_py() for i in found.excluded[user] if i >= 0}
        assert not listed & set(seen)
        own = set(range(user % TASTES, 22, TASTES)) - {int(name[1:]) for name in seen}
        # What their like had, and they have not
        assert own <= {int(name[1:]) for name in listed if name != "new"}
    assert np.mean(overlap) > 0.8


def test_strangers_get_what_is_popular():
    table = pasts()
    users = pa.chunked_array([["nobody", "u1"]])
    asked = exam(table, ["nobody", "u1"])
    found = rank_als(table, asked, users, CORPUS.column("_item"), 3, TASTES)
    assert found.kept[0].tolist() == found.excluded[0].tolist() == [22, 21, 20]
    assert found.kept[1].tolist() != [22, 21, 20]
    # Before the days that are factorised they took the second.
    counted = PersonalCounts.of_histories(Ragged(np.array([21]), np.array([0]), 2))
    asked = replace(asked, personal=counted)
    found = rank_als(table, asked, users, CORPUS.column("_item"), 3, TASTES)
    assert found.kept[0].tolist() == [22, 21, 20] and found.excluded[0].tolist() == [22, 20, 19]


def test_a_missing_library_is_named_with_what_to_do(monkeypatch):
    check_installed()
    monkeypatch.setitem(sys.modules, "implicit", None)
    monkeypatch.setattr("model.evaluation.als_baseline.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"evaluation\.als.*pip install 'twinspire\[als\]'"):
        check_installed()
