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
from model.evaluation.ranked_lists import costly_lists, rank_fixed
from model.ranking import candidate_rows
from model.ranking.fit_orders import choose_half_life, kind_of_log
from model.train_stage import load_both
from tests.model.train_stage.two_days import (
    FIRST,
    SECOND,
    day_queries,
    flat,
    metrics_of,
    rank_with_towers,
)
from twinspire_core.contracts import feature_schema
from twinspire_core.contracts.ranker_files import RankerFile
from twinspire_core.fusion.rank_fusion import FixedOrder
from twinspire_core.sources.candidate_sources import CandidateSources

pytestmark = pytest.mark.slow


def test_the_day_is_put_in_the_order_of_the_version_before(shop):
    rows, corpus = day_queries(shop)
    asked, ks = prepare_whole(rows, corpus), shop.pipeline.evaluation.ks
    towers = rank_with_towers(load_both(shop.train1), corpus, {"day": asked}, 100)["day"]
    tables = {"co_occurrence": pq.read_table(shop.features2 / "co_occurrence/start")}
    before, after = (FixedOrder.read(attempt) for attempt in (shop.train1, shop.train2))
    sources = CandidateSources.of(corpus, tables, before.half_life)
    known = {**costly_lists(sources, asked, 100), "two_tower": towers}
    again = evaluate_ranked(asked, rank_fixed(before, sources, asked, known, max(ks)), ks)
    told = metrics_of(shop.train2)["fixed_order"]
    assert flat(told["progressive"]) == pytest.approx(flat(again))
    first = metrics_of(shop.train1)["fixed_order"]
    assert first["progressive"] is None and first["holdout"]["candidate"]["recall@10"] > 0
    kept = candidate_rows.read(str(shop.train2))
    kind, half_life = kind_of_log(kept, exclude_seen=False), choose_half_life(kept)
    assert after == FixedOrder.of(shop.pipeline.sources.use, kind, half_life)


def test_the_parents_trees_are_measured_next_to_all_other_lists(shop):
    ranker, order = (metrics_of(shop.train2)[name] for name in ("ranker", "fixed_order"))
    assert ranker["progressive"]["users"] > 20
    held = ranker["holdout"]
    assert held["users"] == order["holdout"]["users"] > 5
    change = held["candidate"]["recall@10"] / held["baseline"]["recall@10"] - 1
    assert held["change"]["recall@10"]["change"] == pytest.approx(change)
    baselines = metrics_of(shop.train2)["baselines"]
    for served in (ranker, order):
        simple = ["most_popular", "popular_lately", "purchase_history"]
        assert sorted(served["beside_simple"]) == simple
        for name, one in served["beside_simple"].items():
            simple = one["by_measure"]["recall@10"]
            assert simple["base"] == pytest.approx(baselines[name]["recall@10"], abs=1e-6), name
            found = served["progressive"]["recall@10"] - simple["base"]
            assert simple["mean"] == pytest.approx(found, abs=1e-6), name
    (remembered,) = metrics_of(shop.train2)["line"].values()
    lists = {"ranked": ranker["progressive"], "fixed_order": order["progressive"], **baselines}
    lists["two_tower"] = metrics_of(shop.train2)["progressive"]
    assert remembered["lists"].keys() == lists.keys()
    for name, one in remembered["lists"].items():
        assert one["recall@10"] == pytest.approx(lists[name]["recall@10"], abs=1e-6), name


def test_rankers_are_fitted_on_users_who_are_not_held_out(shop):
    rows = candidate_rows.read(str(shop.train2))
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
