import json
from dataclasses import replace
from datetime import date
from functools import cache

import numpy as np
import pytest

from model.ranking import fit
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
        sources=("history",),
        lengths=np.full(queries, CANDIDATES),
        by_history=np.arange(queries) < by_history,
        taken=taken.ravel(),
        weights=np.ones(queries * CANDIDATES, np.float32),
        names=("first", "second", "noise"),
        values=values.reshape(-1, 3),
    )


def _fit(*days):
    return fit_ranker(days, days[0].sources, days[0].names, metric="recall@3", k=3, seed=1)


@cache
def _fitted():
    return _fit(_rows(300))


def _recall(rows, scores):
    """Of the three highest scores of each query, by sorting."""
    best = np.argsort(-scores.reshape(-1, CANDIDATES), axis=1)[:, :3]
    return np.take_along_axis(rows.taken.reshape(-1, CANDIDATES), best, axis=1).mean()


def test_it_orders_new_queries_better_than_any_feature_alone():
    ranker = _fitted()
    new = _rows(300, seed=9)
    alone = max(_recall(new, new.values[:, column]) for column in range(2))
    assert alone < 0.45
    assert _recall(new, ranker.score(new.values)) > 0.65


def test_the_noise_is_worth_least():
    importance = _fitted().described.fitted.importance
    assert list(importance)[-1] == "noise"
    assert sum(importance.values()) == pytest.approx(1, abs=1e-3)


def test_with_too_few_users_there_is_none():
    assert _fit(_rows(299)) is None
    assert _fit(_rows(150), _rows(150, seed=1)) is not None


def test_of_rows_that_are_too_few_for_any_split_there_is_none(monkeypatch):
    """40 rows are less than two leaves take: a ranker would list candidates in order of id."""
    monkeypatch.setattr(fit, "LEAST_USERS", 1)
    assert _fit(_rows(1)) is None
    assert _fit(_rows(10)) is not None


def test_it_says_whether_it_was_fitted_on_queries_without_times_and_counts_users_once():
    assert not _fitted().described.untimed
    assert _fit(_rows(310, by_history=10)).described.untimed
    assert _fit(_rows(450, by_history=225)) is None


def test_the_newest_days_say_how_many_trees_help(monkeypatch):
    """Where nothing tells what is taken, the first trees are the best; else many help."""
    monkeypatch.setattr(fit, "_MOST_TREES", 200)
    rows = _rows(300)
    by_chance = replace(rows, taken=np.random.default_rng(2).permutation(rows.taken))
    few, many = (_trees(_fit(newest, _rows(600, seed=4))) for newest in (by_chance, rows))
    assert few < 60 < many < 200


def test_of_one_day_alone_a_fifth_says_it():
    """Its first queries: what others teach is wrong for them, the more trees the worse."""
    rows, judging = _rows(300), 60 * CANDIDATES
    others = replace(rows, values=np.append(-rows.values[:judging], rows.values[judging:], axis=0))
    assert _trees(_fit(others)) < 30 < _trees(_fitted())


def test_what_stands_for_many_counts_as_many():
    """Of two kinds of candidates that are taken as often in the rows, one stands for ten others
    each time it is not taken.
    """
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2, (400 * CANDIDATES, 1)).astype(np.float32)
    taken = rng.random(len(values)) < 0.1
    rows = replace(_rows(400), taken=taken, values=values, names=("kind",))
    weights = np.where(~taken & (values[:, 0] == 1), 10, 1).astype(np.float32)
    zero, one = _fit(replace(rows, weights=weights)).score(np.array([[0], [1]], np.float32))
    assert zero > one


def test_the_same_rows_give_the_same_trees():
    assert _fit(_rows(300)).model == _fitted().model


def test_its_file_says_of_which_format_it_is():
    """Without it a reader of another format would take the file to be of its own."""
    described = json.loads(_fitted().described.dump())
    assert described["format"] == 1


def _trees(ranker):
    return ranker.booster.num_trees()
