"""A mix beside each of its sources, against lists made by hand."""

import numpy as np
import pyarrow as pa
import pytest

from model.evaluation.evaluate import evaluate_ranked
from model.evaluation.evaluation_set import prepare_whole
from model.evaluation.ranked_lists import RankedLists, rank_baselines
from model.evaluation.source_lists import rank_fusion
from model.fusion_fitting.beside_sources import measure_beside_sources
from tests.model.fusion_fitting.test_day_fusion import (
    CORPUS,
    EVALUATION,
    SOURCES,
    by_chance,
    mix_of,
    queries,
)
from twinspire_core.sources.candidate_sources import CandidateSources

KS = EVALUATION.ks


@pytest.fixture(scope="module")
def measured():
    """Users of two slices, what was found for them, and the same beside each source."""
    asked = pa.concat_tables([queries("past", 10, 60), queries("most_popular", 3, 40)])
    evaluation_set = prepare_whole(asked, CORPUS)
    sources = CandidateSources.of(CORPUS, None)
    two_tower = by_chance(100)
    mix = mix_of(0.5, 1.0, 0.2)
    fused = rank_fusion(mix, sources, evaluation_set, two_tower, max(KS))
    beside = measure_beside_sources(mix, sources, evaluation_set, two_tower, fused, KS)
    return evaluation_set, two_tower, fused, beside


def test_each_source_is_measured_as_if_it_were_served_alone(measured):
    evaluation_set, two_tower, fused, beside = measured
    alone = rank_baselines(evaluation_set, max(KS))
    lists = {
        "two_tower": two_tower.first(max(KS)),
        "past": alone["past"],
        "most_popular": alone["most_popular"],
    }
    assert tuple(beside) == SOURCES
    ours = evaluate_ranked(evaluation_set, fused, KS)
    for name, ranked in lists.items():
        theirs = evaluate_ranked(evaluation_set, RankedLists(ranked.kept, None), KS)
        found = beside[name]
        assert found.users == 100
        for measure in ("recall@5", "recall@10", "ndcg@5", "mrr"):
            one = found.by_measure[measure]
            assert one.base == pytest.approx(theirs[measure], abs=1e-6), (name, measure)
            assert one.mean == pytest.approx(ours[measure] - theirs[measure], abs=1e-6)


def test_slices_are_measured_too(measured):
    evaluation_set, _, fused, beside = measured
    found = beside["past"].by_measure
    ours = evaluate_ranked(evaluation_set, fused, KS)["slices"]["users"]
    for name in ("1-4", "5-19"):
        one = found[f"recall@10/users:{name}"]
        assert one.base + one.mean == pytest.approx(ours[name]["recall@10"], abs=1e-6)
    assert "recall@10/users:20+" not in found, "nobody is in it"
    assert found["recall@10/users:5-19"].mean == pytest.approx(0.0, abs=0.2)
    popular = beside["most_popular"].by_measure
    assert popular["recall@10/users:5-19"].mean > 0.8, "nothing that is popular was taken"


def test_nothing_is_measured_of_users_of_other_lists(measured):
    assert np.isfinite([one.deviation for one in measured[3]["past"].by_measure.values()]).all()
