import lightgbm
import numpy as np
import pytest

from twinspire_core.ranking.compiled_trees import CompiledTrees


def _values(seed: int, rows: int = 3000) -> np.ndarray:
    """Missing values in some columns; in others ties, few values, and 0 on both sides."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, 6)).astype(np.float32)
    values[:, :3][rng.random((rows, 3)) < 0.3] = np.nan
    values[:, 4] = np.rint(values[:, 4])
    return values


def _fit(values: np.ndarray, seed: int, *, trees: int = 30, **options) -> lightgbm.Booster:
    rng = np.random.default_rng(seed)
    # Missing values are informative, so that trees split on them.
    seen = np.where(np.isnan(values), 1.5, values)
    score = seen @ rng.normal(size=values.shape[1]) + rng.normal(size=len(values))
    taken = (score > np.median(score)).astype(np.int8)
    categories = options.pop("categorical_feature", "auto")
    quiet = {"num_threads": 1, "verbose": -1, "min_data_in_leaf": 5}
    groups = [60] * (len(values) // 60)
    data = lightgbm.Dataset(values, taken, group=groups, categorical_feature=categories)
    return lightgbm.train({"objective": "lambdarank"} | quiet | options, data, trees)


@pytest.mark.parametrize("seed", range(4))
def test_scores_are_those_of_lightgbm_to_the_last_bit(seed):
    values = _values(seed)
    booster = _fit(values, seed)
    trees = CompiledTrees.of(booster.model_to_string(), values.shape[1])
    asked = _values(seed + 100, rows=333)
    # Missing where training saw none, as of a source that lists nothing; and far beyond.
    asked[::7, 3] = np.nan
    asked[::5, 4] = np.inf
    asked[1::5, 5] = -np.inf
    expected = booster.predict(asked, raw_score=True)
    assert trees.score(asked).tolist() == expected.tolist()


def test_values_at_a_threshold_go_left():
    values = _values(9)
    booster = _fit(values, 9, trees=3)
    trees = CompiledTrees.of(booster.model_to_string(), values.shape[1])
    asked = np.repeat(trees.threshold[:, np.newaxis], 6, axis=1)
    asked = np.concatenate([asked, np.nextafter(asked, np.float32(np.inf))])
    assert trees.score(asked).tolist() == booster.predict(asked, raw_score=True).tolist()


def test_a_tree_of_one_leaf_is_its_value():
    values = _values(3)
    booster = _fit(values, 3, trees=2, min_data_in_leaf=5000)
    trees = CompiledTrees.of(booster.model_to_string(), values.shape[1])
    assert trees.score(values[:5]).tolist() == booster.predict(values[:5], raw_score=True).tolist()
    assert trees.score(np.zeros((0, 6), np.float32)).tolist() == []


@pytest.mark.parametrize(
    "options", [{"num_leaves": 40}, {"categorical_feature": [4]}, {"zero_as_missing": True}]
)
def test_what_only_lightgbm_knows_is_left_to_it(options):
    values = np.abs(_values(5))
    booster = _fit(values, 5, **options)
    assert CompiledTrees.of(booster.model_to_string(), 6) is None
