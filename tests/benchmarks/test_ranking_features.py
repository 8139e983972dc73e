"""The made-up shop of the benchmark has all that features are made of."""

import numpy as np
import pytest

from benchmarks import ranking_features
from twinspire_core.ranking.registry import RankingFeatures


@pytest.fixture
def small(monkeypatch):
    """A shop of 2,000 items."""
    for name, size in (("ITEMS", 2_000), ("KNOWN", 30), ("DEPTH", 20), ("DIMENSION", 8)):
        monkeypatch.setattr(ranking_features, name, size)
    monkeypatch.setattr(ranking_features, "_SECONDS", 0.0)


def test_no_feature_is_missing_for_all(small):
    draw = np.random.default_rng(0)
    features = RankingFeatures.of(ranking_features.make_tables(draw))
    pairs = ranking_features.make_pairs(draw, 5, ranking_features._unit(draw, 2_000))
    names = features.names(ranking_features.SOURCES)
    values = features.values(pairs, names)
    missing = [name for name, column in zip(names, values.T, strict=True) if np.isnan(column).all()]
    assert missing == []


def test_each_group_and_all_together_have_a_cost(small, monkeypatch):
    monkeypatch.setattr(ranking_features, "fit_trees", lambda values: len)
    draw = np.random.default_rng(0)
    features = RankingFeatures.of(ranking_features.make_tables(draw))
    costs = ranking_features.measure(3, features, ranking_features._unit(draw, 2_000))
    assert {type(group).__name__ for group in features.groups} < costs.keys()
    assert costs["all features"] > 0
