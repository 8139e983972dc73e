"""The parent's ranker is judged as it served: with the parent's constants, not with those that were
fitted on the day.
"""

from dataclasses import replace
from datetime import date
from types import SimpleNamespace

import lightgbm
import numpy as np
import pyarrow as pa
import pytest

from model.evaluation.day_data import BY_HISTORY, NEXT_DAY, DayData
from model.evaluation.evaluation_set import prepare_whole
from model.evaluation.version_evaluation import ParentEvaluation
from model.ranking.day_ranker import DayRanker
from model.ranking.ranking_rows import RankingRows
from tests.model.fusion_fitting.test_day_fusion import CORPUS, EVALUATION, by_chance, queries
from twinspire_core.contracts.feature_schema import TRENDING_HALF_LIVES
from twinspire_core.contracts.fusion_file import FittedOn
from twinspire_core.contracts.ranker_file import RankerFile
from twinspire_core.contracts.trained_day import Encoded
from twinspire_core.fusion.fuse import Fusion
from twinspire_core.ranking.ranker import Ranker
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.personal_counts import PersonalCounts

USERS = 30


@pytest.fixture(scope="module")
def by_place():
    """A ranker that orders what `trending` lists as that does."""
    gain = np.linspace(0.3, 1, 100, dtype=np.float32)[:, np.newaxis]
    wanted = lightgbm.Dataset(gain, (gain[:, 0] * 10).astype(int), group=[100])
    settings = {"objective": "regression", "verbose": -1, "min_data_in_leaf": 1, "num_threads": 1}
    trees = lightgbm.train(settings, wanted, 40)
    return Ranker(trees.model_to_string(), RankerFile(sources=["trending"], features=["gain"]))


def trending(half_life):
    """What is taken, i000 to i004, is what trends with a half-life of a day and no other."""
    counts = dict.fromkeys(TRENDING_HALF_LIVES, np.arange(400.0))
    counts["_trending_1d"] = np.arange(400.0)[::-1]
    columns = {name: pa.array(values) for name, values in counts.items()}
    corpus = pa.table({**{name: CORPUS[name] for name in CORPUS.column_names}, **columns})
    return CandidateSources.of(corpus, {}, {"trending": half_life})


def day_ranker(ranker, sources, fitted_sources):
    asked = queries("trending", 10, USERS)
    evaluation_sets = {NEXT_DAY: prepare_whole(asked, CORPUS)}
    vectors = np.ones((max(USERS, len(CORPUS)), 1), np.float32)
    fusion = Fusion(
        sources=("trending",), bounds=(1, 5, 20), weights=np.ones((4, 1)), fitted=FittedOn()
    )
    return DayRanker(
        ctx=SimpleNamespace(pipeline=SimpleNamespace(evaluation=EVALUATION)),
        day=DayData(corpus=CORPUS, evaluation_sets=evaluation_sets, events=CORPUS.slice(0, 0)),
        sources=sources,
        fitted_sources=fitted_sources,
        parent=ParentEvaluation(
            lists={NEXT_DAY: by_chance(USERS)},
            encoded=Encoded(
                distinct=vectors[:USERS], place={NEXT_DAY: np.arange(USERS)}, items=vectors[:400]
            ),
        ),
        version=None,
        inherited=ranker,
        inherited_fusion=fusion,
        fusion=None,
        stored=(),
        known={},
        known_of_fit={},
    )


def test_the_parents_ranker_has_the_parents_constants(by_place):
    knowing, not_knowing = trending("1d"), trending("60d")
    before = day_ranker(by_place, not_knowing, knowing).figures(None)
    assert before.progressive.value("recall@10") == 0
    after = day_ranker(by_place, knowing, not_knowing).figures(None)
    assert after.progressive.value("recall@10") == 1


def brands_of_yesterday():
    """Rows with a feature of an attribute that is no longer declared."""
    rng = np.random.default_rng(0)
    return RankingRows(
        day=date(2024, 5, 19),
        sources=("trending",),
        lengths=np.full(300, 20),
        by_history=np.zeros(300, bool),
        taken=rng.random(6000) < 0.2,
        weights=np.ones(6000, np.float32),
        names=("gain", "attribute_popular:brand"),
        values=rng.random((6000, 2)).astype(np.float32),
    )


def test_after_a_gap_a_ranker_goes_by_no_attribute_that_is_no_longer_declared():
    """Of the day itself there are no rows then, and a server could not make the feature."""
    day = day_ranker(None, trending("1d"), trending("1d"))
    settings = {
        "evaluation": EVALUATION,
        "train": SimpleNamespace(seed=1),
        "mix": SimpleNamespace(sources=("trending",)),
    }
    day = replace(day, ctx=SimpleNamespace(pipeline=SimpleNamespace(**settings)))
    fitted = day.fit([brands_of_yesterday()])
    assert "gain" in fitted.names and "attribute_popular:brand" not in fitted.names


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_rows_hold_what_was_had_before_and_say_so(exclude_seen):
    """Here all that is taken was had before, on days that only the counts reach."""
    rows = rows_of(exclude_seen=exclude_seen)
    seen = rows.values[:, rows.names.index("seen")]
    assert rows.taken.sum() == 3 * USERS and np.array_equal(seen == 1, rows.taken)


def test_without_stored_users_rows_are_those_of_histories_alone():
    assert rows_of(by_history=True).by_history.tolist() == USERS * [False] + USERS * [True]
    assert rows_of(by_history=True, user_store=False).by_history.tolist() == USERS * [True]


def rows_of(*, exclude_seen=False, by_history=False, user_store=True):
    day = day_ranker(None, trending("1d"), trending("1d"))
    asked = day.day.evaluation_sets[NEXT_DAY]
    counted = PersonalCounts.of_histories(asked.truth)
    sets = {NEXT_DAY: replace(asked, personal=counted, exclude_seen=exclude_seen)}
    parent = day.parent
    if by_history:
        sets[BY_HISTORY] = sets[NEXT_DAY]
        place = dict.fromkeys(sets, parent.encoded.place[NEXT_DAY])
        lists = dict.fromkeys(sets, parent.lists[NEXT_DAY])
        parent = replace(parent, lists=lists, encoded=replace(parent.encoded, place=place))
    settings = {
        "mix": SimpleNamespace(sources=("trending",)),
        "serving": SimpleNamespace(user_store=user_store),
    }
    pipeline = SimpleNamespace(**settings)
    context = SimpleNamespace(day=date(2024, 5, 20), parent=None, gaps=(), pipeline=pipeline)
    whole = replace(day.day, evaluation_sets=sets)
    (rows,) = replace(day, ctx=context, day=whole, parent=parent).rows_to_fit_on()
    return rows


def test_a_parents_ranker_is_not_judged_without_a_feature_that_it_goes_by(by_place):
    described = RankerFile(sources=["trending"], features=["attribute_popular:brand"])
    branded = Ranker(by_place.model, described)
    assert day_ranker(branded, trending("1d"), trending("1d")).figures(None).progressive is None


def test_without_a_ranker_of_the_parent_nothing_is_measured(by_place):
    day = replace(day_ranker(by_place, trending("1d"), trending("1d")), inherited=None)
    assert day.figures(None).progressive is None and day.figures(None).beside_mix is None
