import json
from dataclasses import replace
from datetime import date
from types import SimpleNamespace

import lightgbm
import numpy as np
import pytest

from model.evaluation.day_queries import HELD_OUT, NEXT_DAY
from model.evaluation.evaluation_set import DayData, prepare_whole
from model.evaluation.ranked_lists import DayLists, RankedLists, VersionLists
from model.ranking.day_orders import DayOrders, inherited_ranker
from tests.model.ranking.asked_day import CORPUS, TODAY, by_chance, queries, trending
from tests.serving import rankers
from twinspire_core.config.tables.quality import EvaluationConfig, GateConfig
from twinspire_core.contracts.attempts import Parent
from twinspire_core.contracts.measures import RelativeChange
from twinspire_core.contracts.ranker_files import FORMAT, RankerFile
from twinspire_core.contracts.trained_day import Encoded
from twinspire_core.fusion.rank_fusion import FixedOrder
from twinspire_core.ranking.ranker import Ranker

USERS, HELD = 30, 10
BY_PAST = FixedOrder(weights={"history": 1.0, "two_tower": 0.001})
BY_TREND = FixedOrder(weights={"popular": 1.0, "two_tower": 0.001})


@pytest.fixture(scope="module")
def by_place():
    """A ranker that orders what `popular` lists as that does."""
    gain = np.linspace(0.3, 1, 100, dtype=np.float32)[:, np.newaxis]
    wanted = lightgbm.Dataset(gain, (gain[:, 0] * 10).astype(int), group=[100])
    settings = {"objective": "regression", "verbose": -1, "min_data_in_leaf": 1, "num_threads": 1}
    trees = lightgbm.train(settings, wanted, 40)
    return Ranker(trees.model_to_string(), RankerFile(sources=["popular"], features=["gain"]))


def encoded(**users):
    vectors = np.ones((len(CORPUS), 1), np.float32)
    place = {name: np.arange(count) for name, count in users.items()}
    return Encoded(distinct=vectors[:USERS], place=place, items=vectors)


def orders(right="history", half_life="1d", **changed):
    """A day whose users take what a source lists first; the two-tower knows nothing."""
    asked = {
        NEXT_DAY: prepare_whole(queries(right, 10, USERS), CORPUS),
        HELD_OUT: prepare_whole(queries(right, 10, HELD, held=True), CORPUS),
    }
    lists = {NEXT_DAY: by_chance(USERS), HELD_OUT: by_chance(HELD)}
    both = encoded(**{NEXT_DAY: USERS, HELD_OUT: HELD})
    pipeline = SimpleNamespace(
        evaluation=EvaluationConfig(ks=(5, 10)),
        gate=GateConfig(min_users=changed.pop("min_users", HELD)),
    )
    given = {
        "before": VersionLists(ranked=lists, encoded=both),
        "version": VersionLists(ranked=lists, encoded=encoded(**{HELD_OUT: HELD})),
        "ctx": SimpleNamespace(day=TODAY, pipeline=pipeline),
        "day": DayData(corpus=CORPUS, evaluation_sets=asked, events=CORPUS.slice(0, 0)),
        "order_before": BY_PAST,
        "order": BY_PAST,
        "ranker_before": None,
        "ranker": None,
    }
    given |= changed
    of_day = DayLists(
        before=given.pop("before"),
        best=None,
        version=given.pop("version"),
        sources=trending(half_life),
        costly={NEXT_DAY: {}, HELD_OUT: {}},
    )
    return DayOrders(lists=of_day, **given)


def test_the_parents_order_is_measured_on_the_day_and_the_versions_on_held_out_users():
    measured = orders(order=BY_TREND).of_fixed_order()
    assert measured.progressive.value("recall@10") == 1 and measured.progressive.users == USERS
    held = measured.holdout
    assert (held.users, held.candidate.value("recall@10")) == (HELD, 0)
    popular = measured.beside_simple["most_popular"].by_measure["recall@10"]
    assert (popular.mean, popular.base) == (1, 0)
    assert measured.own_beside_simple["purchase_history"].by_measure["recall@10"].mean == -1


def test_each_order_has_the_half_life_of_its_version():
    before = orders("popular", "28d", order_before=BY_TREND)
    own = BY_TREND.model_copy(update={"half_life": "1d"})
    measured = replace(before, order=own).of_fixed_order()
    assert measured.progressive.value("recall@10") == 0
    assert measured.holdout.candidate.value("recall@10") == 1


def test_a_first_version_is_measured_on_held_out_users_alone():
    before = VersionLists(ranked={NEXT_DAY: by_chance(USERS)})
    first = orders(order_before=None, before=before)
    measured = first.of_fixed_order()
    assert measured.progressive is None and not measured.beside_simple
    assert measured.holdout.candidate.value("recall@10") == 1


def test_the_parents_ranker_has_the_parents_half_life(by_place):
    served = {"ranker_before": by_place, "order_before": BY_TREND}
    before = orders("popular", "28d", **served).of_ranker()
    assert before.progressive.value("recall@10") == 0
    after = orders("popular", "1d", **served).of_ranker()
    assert after.progressive.value("recall@10") == 1


def of_two_tower(ranker):
    """The same trees over what the two-tower lists."""
    return Ranker(ranker.model, RankerFile(sources=["two_tower"], features=["gain"]))


def test_a_versions_trees_are_compared_with_the_parents_on_held_out_users(by_place):
    """These take what trends, of which a two-tower of the parent knows nothing."""
    measured = orders("popular", ranker=of_two_tower(by_place), ranker_before=by_place).of_ranker()
    held = measured.holdout
    assert held.users == HELD and held.baseline.value("recall@10") == 1
    assert held.candidate.value("recall@10") < 0.5
    assert held.change["recall@10"].high < -0.5 and held.change["recall@10"].differ == HELD
    assert orders("popular", ranker_before=by_place).of_ranker().holdout.candidate is None
    first = orders("popular", ranker=by_place).of_ranker().holdout
    assert first.candidate.value("recall@10") == 1 and first.baseline is first.change is None


def test_where_few_are_held_out_trees_are_compared_on_all_users_of_the_day(by_place):
    ranked = {"ranker": of_two_tower(by_place), "ranker_before": by_place}
    measured = orders("popular", min_users=HELD + 1, **ranked).of_ranker().on_day
    assert (measured.users, measured.baseline.value("recall@10")) == (USERS, 1)
    assert measured.change["recall@10"].high < -0.5 and measured.change["recall@10"].differ == USERS
    assert orders("popular", **ranked).of_ranker().on_day.change is None
    kept = {"ranker": by_place, "ranker_before": by_place}
    assert orders("popular", min_users=HELD + 1, **kept).of_ranker().on_day.change is None


def test_trees_are_compared_by_the_parents_vectors(by_place):
    """Those of the version know what its users took."""
    wanted = prepare_whole(queries("popular", 10, HELD, held=True), CORPUS).truth
    knowing = np.tile(np.arange(100), (HELD, 1))
    assert set(wanted.values) <= set(range(5))
    told = RankedLists(knowing, knowing)
    version = VersionLists(encoded=encoded(**{HELD_OUT: HELD}), ranked={HELD_OUT: told})
    trees = of_two_tower(by_place)
    measured = orders("popular", ranker=trees, ranker_before=trees, version=version).of_ranker()
    assert measured.holdout.candidate.value("recall@10") < 0.5
    assert measured.holdout.change.get("recall@10", RelativeChange(change=0)).change == 0


def test_a_parents_ranker_is_not_judged_without_a_feature_that_it_uses(by_place):
    described = RankerFile(sources=["popular"], features=["attribute_popular:brand"])
    branded = Ranker(by_place.model, described)
    for ranker in (branded, None):
        measured = orders(ranker_before=ranker).of_ranker()
        assert measured.progressive is None and measured.holdout.candidate is None


def test_a_ranker_of_other_sources_or_of_another_format_is_not_inherited(tmp_path):
    made = rankers.files(("history", "popular"), ("popular",), lambda rows: rows[:, 0])
    for name, file in made.items():
        (tmp_path / name).write_bytes(file)
    content = json.loads((tmp_path / "ranker.json").read_text())

    def found(sources):
        home = {"home": str(tmp_path), "train": "", "measure": ""}
        parent = Parent(day=date(2024, 5, 19), version="p", **home)
        pipeline = SimpleNamespace(sources=SimpleNamespace(use=sources))
        return inherited_ranker(SimpleNamespace(parent=parent, pipeline=pipeline))

    assert found(tuple(content["sources"])).names == tuple(content["features"])
    assert found(tuple(content["sources"][1:])) is None
    other = {"format": FORMAT + 1, "sources": 3}
    (tmp_path / "ranker.json").write_text(json.dumps(other))
    assert found(tuple(content["sources"])) is None
