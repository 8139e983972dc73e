"""A ranker finds out what decides, which no single list says."""

import json
from datetime import date

import numpy as np
import pytest

from model.ranking.fit import fit_ranker
from model.ranking.ranking_rows import RankingRows

CANDIDATES = 40


def _rows(queries, seed=0, by_history=0):
    """Of each query the three candidates are taken for which two features together are highest."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(queries, CANDIDATES, 3)).astype(np.float32)
    worth = values[:, :, 0] + values[:, :, 1]
    taken = worth >= np.sort(worth, axis=1)[:, -3:-2]
    return RankingRows(
        day=date(2024, 5, 20),
        sources=("past",),
        exclude_seen=False,
        lengths=np.full(queries, CANDIDATES),
        by_history=np.arange(queries) < by_history,
        taken=taken.ravel(),
        names=("first", "second", "noise"),
        values=values.reshape(-1, 3),
    )


def _fit(rows, min_users=100):
    return fit_ranker([rows], rows.names, min_users, metric="recall@3", k=3, seed=1)


def _recall(rows, scores):
    """Of the three highest scores of each query, by sorting."""
    best = np.argsort(-scores.reshape(-1, CANDIDATES), axis=1)[:, :3]
    return np.take_along_axis(rows.taken.reshape(-1, CANDIDATES), best, axis=1).mean()


def test_it_orders_new_queries_better_than_any_feature_alone():
    ranker = _fit(_rows(400))
    new = _rows(300, seed=9)
    alone = max(_recall(new, new.values[:, column]) for column in range(2))
    assert alone < 0.45
    assert _recall(new, ranker.score(new.values)) > 0.65


def test_the_noise_is_worth_least():
    importance = _fit(_rows(400)).described.fitted.importance
    assert list(importance)[-1] == "noise"
    assert sum(importance.values()) == pytest.approx(1, abs=1e-3)


def test_with_too_few_queries_there_is_none():
    assert _fit(_rows(99)) is None
    assert _fit(_rows(100)) is not None


def test_of_rows_that_are_too_few_for_any_split_there_is_none():
    """40 rows are less than two leaves take: a ranker would list candidates in order of id."""
    assert _fit(_rows(1), min_users=1) is None
    assert _fit(_rows(10), min_users=1) is not None


def test_it_says_whether_it_was_fitted_on_queries_without_times_and_counts_users_once():
    assert not _fit(_rows(100)).described.untimed
    assert _fit(_rows(150, by_history=50)).described.untimed
    assert _fit(_rows(150, by_history=51)) is None


def test_the_same_rows_give_the_same_trees():
    assert _fit(_rows(200)).model == _fit(_rows(200)).model


def test_its_file_says_of_which_format_it_is():
    """Without it a reader of another format would take the file to be of its own."""
    described = json.loads(_fit(_rows(100)).described.dump())
    assert described["format"] == 1
