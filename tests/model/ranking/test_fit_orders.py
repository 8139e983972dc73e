from dataclasses import replace
from datetime import date
from functools import cache

import numpy as np
import pyarrow as pa
import pytest

from model.ranking import fit_orders
from model.ranking.fit_orders import (
    _gains,
    choose_half_life,
    fit_ranker,
    kind_of_log,
    sources_to_rank,
)
from tests.model.ranking.asked_day import ranking_rows
from twinspire_core.fusion.rank_fusion import NEITHER, REPEATS, STEADY
from twinspire_core.ranking.ranker import RankingFeatures
from twinspire_core.sources.candidate_sources import CandidateSources

PLACES = ("place:history",)
COUNTS = ("popular", "lately", "trending:1h", "trending:1d", "trending:7d", "trending:28d")


def three_each(names, values, queries=200):
    """Queries of three candidates each; the first is taken."""
    taken, values = np.tile([True, False, False], queries), np.tile(values, (queries, 1))
    return ranking_rows(np.full(queries, 3), values, names, taken, sources=("two_tower",))


def finding(*best: str):
    """Some counts have what is taken first, all others have it last."""
    first = [[1.0 if name in best else 0.0 for name in COUNTS]]
    return three_each(COUNTS, first + [[0.5] * len(COUNTS)] * 2)


@pytest.mark.parametrize(("place", "kind"), [(3, REPEATS), (np.nan, NEITHER), (100, NEITHER)])
def test_users_take_again_what_they_had(place, kind):
    made = three_each(PLACES, [[place], [5.0], [5.0]])
    assert kind_of_log([made], exclude_seen=False) == kind
    assert kind_of_log([made], exclude_seen=True) == NEITHER, "no list repeats anything"


def test_one_day_of_many_has_no_repeats():
    few = three_each(PLACES, [[3.0], [5.0], [5.0]], queries=11)
    many = three_each(PLACES, [[100.0], [5.0], [5.0]], queries=100)
    assert kind_of_log([few, many], exclude_seen=False) == NEITHER
    assert kind_of_log([few, few, many], exclude_seen=False) == REPEATS


@pytest.mark.parametrize(
    ("best", "kind"),
    [(("popular",), STEADY), (("lately",), NEITHER), (("popular", "lately"), STEADY)],
)
def test_users_take_what_is_popular_all_the_time_or_lately(best, kind):
    assert kind_of_log([finding(*best)], exclude_seen=False) == kind


def test_of_a_log_without_rows_nothing_is_known():
    assert kind_of_log([], exclude_seen=False) == NEITHER
    assert choose_half_life([]) == "1d"
    assert choose_half_life([three_each(PLACES, [[1.0, 1.0]] * 3)]) == "1d"


@pytest.mark.parametrize("name", ["1h", "1d", "7d", "28d"])
def test_the_half_life_that_has_what_is_taken_first_is_chosen(name):
    assert choose_half_life([finding(f"trending:{name}")]) == name


def test_the_usual_half_life_stays_where_others_are_no_better_or_users_are_few():
    all_alike = finding("trending:1h", "trending:1d", "trending:7d", "trending:28d")
    assert choose_half_life([all_alike]) == "1d"
    few = three_each(COUNTS, [[float(name == "trending:1h") for name in COUNTS]] * 3, queries=9)
    assert choose_half_life([few]) == "1d"


def test_gains_are_a_slow_sum_over_places():
    """A candidate of weight 3 takes up three places."""
    rng = np.random.default_rng(0)
    lengths = np.array([3, 1, 5])
    taken = np.array([1, 0, 1, 1, 0, 0, 1, 1, 0], bool)
    weights = np.array([1, 3, 1, 1, 1, 3, 1, 1, 3], np.float32)
    values = rng.permutation(9).astype(np.float32)
    made = ranking_rows(lengths, values[:, np.newaxis], ("popular",), taken, weights=weights)
    expected = 0.0
    for start, length in zip([0, 3, 4], lengths, strict=True):
        place, orders_seen = 0.0, []
        for row in sorted(range(start, start + length), key=lambda row: -values[row]):
            if taken[row]:
                orders_seen.append(1 / np.log2(2 + place))
            place += weights[row]
        expected += np.mean(orders_seen)
    assert _gains([made], ("popular",)) == pytest.approx({"popular": expected})


CANDIDATES = 40


def _rows(queries, seed=0, by_history=0):
    """Of each query the three candidates are taken for which two features together are highest."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(queries, CANDIDATES, 3)).astype(np.float32)
    worth = values[:, :, 0] + values[:, :, 1]
    taken = worth >= np.sort(worth, axis=1)[:, -3:-2]
    lengths, names = np.full(queries, CANDIDATES), ("first", "second", "noise")
    untimed = np.arange(queries) < by_history
    return ranking_rows(lengths, values.reshape(-1, 3), names, taken.ravel(), by_history=untimed)


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
    monkeypatch.setattr(fit_orders, "LEAST_USERS", 1)
    assert _fit(_rows(1)) is None
    assert _fit(_rows(10)) is not None


def test_it_says_whether_it_was_fitted_on_queries_without_times_and_counts_users_once():
    assert not _fitted().described.untimed
    assert _fit(_rows(310, by_history=10)).described.untimed
    assert _fit(_rows(450, by_history=225)) is None


def test_the_newest_days_say_how_many_trees_help(monkeypatch):
    """If no feature predicts the item, the first trees are best; else many help."""
    monkeypatch.setattr(fit_orders, "_MOST_TREES", 200)
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
    """Of two kinds that are taken as often, one stands for ten others each time it is not taken."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2, (400 * CANDIDATES, 1)).astype(np.float32)
    taken = rng.random(len(values)) < 0.1
    rows = replace(_rows(400), taken=taken, values=values, names=("kind",))
    weights = np.where(~taken & (values[:, 0] == 1), 10, 1).astype(np.float32)
    zero, one = _fit(replace(rows, weights=weights)).score(np.array([[0], [1]], np.float32))
    assert zero > one


def test_the_same_rows_give_the_same_trees():
    assert _fit(_rows(300)).model == _fitted().model


def _trees(ranker):
    return ranker.booster.num_trees()


def _rows_from(sources, day, queries, seed):
    rng = np.random.default_rng(seed)
    names = ("cosine", "gain") if "two_tower" in sources else ("gain",)
    taken, values = rng.random(20 * queries) < 0.2, rng.random((20 * queries, len(names)))
    return ranking_rows(np.full(queries, 20), values, names, taken, day, sources=sources)


@pytest.mark.parametrize(("with_towers", "uses_towers"), [(299, False), (300, True)])
def test_trees_use_towers_once_enough_users_have_rows_with_them(
    monkeypatch, with_towers, uses_towers
):
    monkeypatch.setattr(fit_orders, "LEAST_USERS", 300)
    sources = ("two_tower", "history")
    corpus = pa.table({"_item": ["a"], "_popular": [1], "_lately": [1]})
    days = [_rows_from(sources, date(2024, 5, 2), with_towers, 1)]
    days.append(_rows_from(("history",), date(2024, 5, 1), 60, 2))
    ranked = sources_to_rank(days, sources)
    made = RankingFeatures.of(CandidateSources.of(corpus).tables)
    names = made.names(ranked)
    ranker = fit_ranker(days, ranked, names, metric="recall@10", k=10, seed=1)
    assert ("cosine" in ranker.names) == ("two_tower" in ranker.sources) == uses_towers
    assert ("place:two_tower" in ranker.names) == uses_towers and "gain" in ranker.names
