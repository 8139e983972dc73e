"""What is fitted on the lists of a day for the days to come: constants, the mix, the ranker."""

import json
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from model.evaluation.evaluate import evaluate_ranked
from model.evaluation.evaluation_set import prepare_whole
from model.evaluation.queries import progressive_rows
from model.evaluation.source_lists import rank_alone, rank_fusion, retrieve
from model.evaluation.tower_vectors import load_both
from model.ranking import ranking_rows
from tests.model.train_stage.two_days import FIRST, SECOND, flat, metrics_of, rank_with_towers
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.ranker_file import RankerFile
from twinspire_core.contracts.source_constants import SourceConstants
from twinspire_core.fusion.fuse import Fusion
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.version_tables import read_constants

pytestmark = pytest.mark.slow


def test_constants_are_fitted_on_each_day_and_remembered(shop):
    """Those of the first day are the parent's: with them the second day's baselines are made."""
    before = SourceConstants.parse((shop.train1 / "sources.json").read_bytes())
    after = SourceConstants.parse((shop.train2 / "sources.json").read_bytes())
    assert set(before.choices) == set(after.choices) == {"personal", "trending"}
    for name, fitted in after.sources.items():
        days = [str(FIRST), str(SECOND)]
        assert [one.day for one in fitted.days] == days
        assert fitted.days[:1] == before.sources[name].days
    corpus = pq.read_table(shop.features2 / "corpus/start")
    rows = progressive_rows(pq.read_table(shop.features2 / "evaluation"), SECOND, 10_000)
    asked = prepare_whole(rows, corpus)
    ks = shop.pipeline.evaluation.ks
    sources = CandidateSources.of(corpus, {}, before.choices)
    for name in before.choices:
        lists = retrieve(name, sources, asked, max(ks))
        again = evaluate_ranked(asked, rank_alone(sources, asked, max(ks), lists), ks)
        told = metrics_of(shop.train2)["baselines"][name]
        assert flat(told) == pytest.approx(flat(again)), name


def test_the_day_is_mixed_by_weights_that_never_saw_it(shop):
    """Measured again with the parent's file, the figures are the same; the child's, fitted on the
    day, differ.
    """
    corpus = pq.read_table(shop.features2 / "corpus/start")
    rows = progressive_rows(pq.read_table(shop.features2 / "evaluation"), SECOND, 10_000)
    asked, ks = (
        prepare_whole(rows, corpus),
        shop.pipeline.evaluation.ks,
    )
    towers = rank_with_towers(load_both(shop.train1), corpus, {"day": asked}, 100)["day"]
    tables = {"co_occurrence": pq.read_table(shop.features2 / "co_occurrence/start")}
    nominators = CandidateSources.of(corpus, tables, read_constants(shop.train1))
    before, after = (
        Fusion.parse((attempt / "mix.json").read_bytes()) for attempt in (shop.train1, shop.train2)
    )
    again = {
        name: evaluate_ranked(asked, rank_fusion(mix, nominators, asked, towers, max(ks)), ks)
        for name, mix in (("before", before), ("after", after))
    }
    told = metrics_of(shop.train2)["mix"]
    assert flat(told["progressive"]) == pytest.approx(flat(again["before"]))
    assert again["after"]["mrr"] != again["before"]["mrr"]
    assert (before.fitted.on, after.fitted.on) == ("progressive", "progressive")
    assert told["fitted"]["day"] == after.fitted.day == str(SECOND)
    first = metrics_of(shop.train1)["mix"]
    assert (first["fitted"]["day"], first["fitted"]["two_tower"]) == (str(FIRST), None)
    assert first["progressive"] is None and first["holdout"]["candidate"]["recall@10"] > 0


def test_a_mix_is_no_worse_than_the_best_of_its_sources(shop):
    metrics = metrics_of(shop.train2)
    measured = {"two_tower": metrics["progressive"], **metrics["baselines"]}
    best = max(measures["recall@10"] for measures in measured.values())
    low, high = metrics["mix"]["progressive"]["intervals"]["recall@10"]
    assert metrics["mix"]["progressive"]["recall@10"] > best - (high - low) / 2


def test_the_parents_ranker_is_measured_beside_its_mix(shop):
    ranker, mix = (metrics_of(shop.train2)[name] for name in ("ranker", "mix"))
    beside = ranker["beside_mix"]
    assert beside["users"] == ranker["progressive"]["users"] > 20
    found = beside["by_measure"]["recall@10"]
    assert found["base"] == pytest.approx(mix["progressive"]["recall@10"], abs=1e-6)
    difference = ranker["progressive"]["recall@10"] - mix["progressive"]["recall@10"]
    assert found["mean"] == pytest.approx(difference, abs=1e-6)
    for name, one in ranker["beside_sources"].items():
        of_source = ranker["progressive"]["recall@10"] - one["by_measure"]["recall@10"]["base"]
        assert one["by_measure"]["recall@10"]["mean"] == pytest.approx(of_source, abs=1e-6), name
    baselines = metrics_of(shop.train2)["baselines"]
    for served in (ranker, mix):
        assert sorted(served["beside_simple"]) == ["most_popular", "past", "popular_lately"]
        for name, one in served["beside_simple"].items():
            simple = one["by_measure"]["recall@10"]
            assert simple["base"] == pytest.approx(baselines[name]["recall@10"], abs=1e-6), name
            found = served["progressive"]["recall@10"] - simple["base"]
            assert simple["mean"] == pytest.approx(found, abs=1e-6), name
    (remembered,) = metrics_of(shop.train2)["line"].values()
    assert remembered["ranked_beside_mix"]["users"] == beside["users"]


def test_rankers_are_fitted_on_users_who_are_not_held_out(shop):
    rows = ranking_rows.read(str(shop.train2))
    assert [one.day for one in rows] == [SECOND, FIRST, FIRST - timedelta(days=1)]
    queries = pads.dataset(shop.features2 / feature_schema.EVALUATION).to_table()
    of_day = pc.equal(queries["_day"], pa.scalar(SECOND))
    trained = queries.filter(pc.and_(of_day, pc.invert(queries["_holdout"])))
    assert 0 < rows[0].queries <= len(trained)
    # Nothing is counted that happens on the day: of what a user has for the first time, nothing.
    fitted = json.loads((shop.train2 / RankerFile.FILE).read_text())
    assert fitted["fitted"]["queries"] == sum(one.queries for one in rows)
    assert fitted["features"] == list(rows[0].names)
    by_name = dict(zip(rows[0].names, rows[0].values.T, strict=True))
    new = by_name["personal:all"] == 0
    assert new.any() and np.isnan(by_name["personal_age"][new]).all()
    # Each of them is asked twice, the second time by a history alone.
    assert rows[0].by_history.any() and fitted["untimed"]
    by_history = np.repeat(rows[0].by_history, rows[0].lengths)
    assert (by_name["personal_age"][~new & ~by_history] > 0).all()
    assert (~new & by_history).any()
    assert np.isnan(by_name["personal_age"][~new & by_history]).all()
