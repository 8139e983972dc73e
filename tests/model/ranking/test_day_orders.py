"""The fixed order and the ranker are judged on a day as they served before it."""

from dataclasses import replace
from types import SimpleNamespace

import lightgbm
import numpy as np
import pytest

from model.evaluation.day_data import HELD_OUT, NEXT_DAY, DayData
from model.evaluation.evaluation_set import prepare_whole
from model.evaluation.version_evaluation import ParentEvaluation, VersionEvaluation
from model.ranking.day_orders import DayOrders
from tests.model.ranking.asked_day import CORPUS, TODAY, by_chance, queries, trending
from twinspire_core.config.tables.quality import EvaluationConfig
from twinspire_core.contracts.ranker_file import RankerFile
from twinspire_core.contracts.trained_day import Encoded
from twinspire_core.fusion.fixed_order import FixedOrder
from twinspire_core.ranking.ranker import Ranker

USERS, HELD = 30, 10
BY_PAST = FixedOrder(weights={"past": 1.0, "two_tower": 0.001})
BY_TREND = FixedOrder(weights={"trending": 1.0, "two_tower": 0.001})


@pytest.fixture(scope="module")
def by_place():
    """A ranker that orders what `trending` lists as that does."""
    gain = np.linspace(0.3, 1, 100, dtype=np.float32)[:, np.newaxis]
    wanted = lightgbm.Dataset(gain, (gain[:, 0] * 10).astype(int), group=[100])
    settings = {"objective": "regression", "verbose": -1, "min_data_in_leaf": 1, "num_threads": 1}
    trees = lightgbm.train(settings, wanted, 40)
    return Ranker(trees.model_to_string(), RankerFile(sources=["trending"], features=["gain"]))


def encoded(**users):
    vectors = np.ones((len(CORPUS), 1), np.float32)
    place = {name: np.arange(count) for name, count in users.items()}
    return Encoded(distinct=vectors[:USERS], place=place, items=vectors)


def orders(right="past", half_life="1d", **changed):
    """A day whose users take what a source lists first; the two-tower knows nothing."""
    asked = {
        NEXT_DAY: prepare_whole(queries(right, 10, USERS), CORPUS),
        HELD_OUT: prepare_whole(queries(right, 10, HELD, held=True), CORPUS),
    }
    lists = {NEXT_DAY: by_chance(USERS), HELD_OUT: by_chance(HELD)}
    given = {
        "ctx": SimpleNamespace(
            day=TODAY, pipeline=SimpleNamespace(evaluation=EvaluationConfig(ks=(5, 10)))
        ),
        "day": DayData(corpus=CORPUS, evaluation_sets=asked, events=CORPUS.slice(0, 0)),
        "sources": trending(half_life),
        "costly": {NEXT_DAY: {}, HELD_OUT: {}},
        "parent": ParentEvaluation(
            lists=lists, encoded=encoded(**{NEXT_DAY: USERS, HELD_OUT: HELD})
        ),
        "version": VersionEvaluation(encoded=encoded(**{HELD_OUT: HELD}), lists=lists),
        "order_before": BY_PAST,
        "order": BY_PAST,
        "ranker_before": None,
        "ranker": None,
    }
    return DayOrders(**{**given, **changed})


def test_the_parents_order_is_measured_on_the_day_and_the_versions_on_held_out_users():
    found = orders(order=BY_TREND).of_fixed_order()
    assert found.progressive.value("recall@10") == 1 and found.progressive.users == USERS
    held = found.holdout
    assert (held.users, held.candidate.value("recall@10"), held.baseline.value("recall@10")) == (
        HELD,
        0,
        1,
    )
    assert held.change["recall@10"].change == -1
    assert found.beside_parent.by_measure["recall@10"].mean == -1
    popular = found.beside_simple["most_popular"].by_measure["recall@10"]
    assert (popular.mean, popular.base) == (1, 0)
    assert found.own_beside_simple["past"].by_measure["recall@10"].mean == -1


def test_each_order_has_the_half_life_of_its_version():
    before = orders("popular", "28d", order_before=BY_TREND)
    own = BY_TREND.model_copy(update={"half_life": "1d"})
    found = replace(before, order=own).of_fixed_order()
    assert found.progressive.value("recall@10") == found.holdout.baseline.value("recall@10") == 0
    assert found.holdout.candidate.value("recall@10") == 1


def test_a_first_version_is_measured_on_held_out_users_alone():
    first = orders(order_before=None, parent=ParentEvaluation(lists={NEXT_DAY: by_chance(USERS)}))
    found = first.of_fixed_order()
    assert found.progressive is None and not found.beside_simple
    assert found.holdout.candidate.value("recall@10") == 1 and found.holdout.baseline is None
    assert found.beside_parent is None and found.holdout.change is None


def test_the_parents_ranker_has_the_parents_half_life(by_place):
    served = {"ranker_before": by_place, "order_before": BY_TREND}
    before = orders("popular", "28d", **served).of_ranker()
    assert before.progressive.value("recall@10") == 0
    after = orders("popular", "1d", **served).of_ranker()
    assert after.progressive.value("recall@10") == 1
    beside = orders("popular", "1d", ranker_before=by_place).of_ranker().beside_fixed_order
    assert (beside.users, beside.by_measure["recall@10"].mean) == (USERS, 1)


def test_a_versions_ranker_is_compared_with_its_own_order(by_place):
    found = orders("popular", ranker=by_place).of_ranker().own_beside_fixed_order
    assert (found.users, found.by_measure["recall@10"].mean) == (HELD, 1)
    assert orders("popular").of_ranker().own_beside_fixed_order is None


def test_a_parents_ranker_is_not_judged_without_a_feature_that_it_goes_by(by_place):
    described = RankerFile(sources=["trending"], features=["attribute_popular:brand"])
    branded = Ranker(by_place.model, described)
    assert orders(ranker_before=branded).of_ranker().progressive is None


def test_without_a_ranker_of_the_parent_nothing_is_measured():
    found = orders().of_ranker()
    assert found.progressive is None and found.beside_fixed_order is None
