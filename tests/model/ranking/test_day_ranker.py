"""The parent's ranker is judged as it served: with the parent's constants, not with those that were
fitted on the day.
"""

from dataclasses import replace
from types import SimpleNamespace

import lightgbm
import numpy as np
import pyarrow as pa
import pytest

from model.evaluation.day_data import NEXT_DAY, DayData
from model.evaluation.evaluation_set import prepare_as_configured
from model.evaluation.tower_lists import Encoded
from model.evaluation.version_evaluation import ParentEvaluation
from model.ranking.day_ranker import DayRanker
from tests.model.fusion_fitting.test_day_fusion import CORPUS, EVALUATION, by_chance, queries
from twinspire_core.contracts.feature_schema import TRENDING_HALF_LIVES
from twinspire_core.contracts.fusion_file import FittedOn
from twinspire_core.contracts.ranker_file import RankerFile
from twinspire_core.fusion.fuse import Fusion
from twinspire_core.ranking.ranker import Ranker
from twinspire_core.sources.candidate_sources import CandidateSources

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
    evaluation_sets = {NEXT_DAY: prepare_as_configured(asked, CORPUS, EVALUATION)}
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


def test_without_a_ranker_of_the_parent_nothing_is_measured(by_place):
    day = replace(day_ranker(by_place, trending("1d"), trending("1d")), inherited=None)
    assert day.figures(None).progressive is None and day.figures(None).beside_mix is None
