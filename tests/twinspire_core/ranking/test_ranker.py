import lightgbm
import numpy as np
import pytest

from twinspire_core.contracts.day_metrics import RankerFit
from twinspire_core.contracts.ranker_files import RankerFile
from twinspire_core.errors import BadData
from twinspire_core.ranking.ranker import Ranker

NAMES = ("personal:60d", "popular", "place:history")
VALUES = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def booster():
    wanted = VALUES[:, 0] - VALUES[:, 2] > 0
    data = lightgbm.Dataset(VALUES, wanted.astype(np.int8), group=[20] * 20)
    return lightgbm.train(
        {"objective": "lambdarank", "verbose": -1, "num_threads": 1, "min_data_in_leaf": 5}, data, 8
    )


def _ranker(booster):
    described = RankerFile(sources=["history"], features=NAMES, fitted=RankerFit(queries=20))
    return Ranker.parse(booster.model_to_string().encode(), described.dump())


def test_compiled_scores_are_the_same_without_lightgbm(booster):
    expected = _ranker(booster).score(VALUES)
    assert expected == pytest.approx(booster.predict(VALUES), abs=1e-6)
    ranker = _ranker(booster)
    ranker.compile()
    assert ranker.score(VALUES).tolist() == expected.tolist()
    assert "booster" not in vars(ranker), "which was not asked"


def test_contributions_add_up_to_the_score_but_for_a_constant(booster):
    ranker = _ranker(booster)
    rest = ranker.score(VALUES) - ranker.contributions(VALUES).sum(axis=1)
    assert rest == pytest.approx(np.full(len(rest), rest[0]), abs=1e-5)


def test_a_ranker_of_another_format_is_refused(booster):
    described = RankerFile(format=2, sources=["history"], features=NAMES)
    with pytest.raises(BadData, match=r"format 1; found 2"):
        Ranker.parse(booster.model_to_string().encode(), described.dump())
