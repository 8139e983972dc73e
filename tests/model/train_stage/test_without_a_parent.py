import shutil
from datetime import timedelta

import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from model.evaluation.day_queries import progressive_rows
from model.evaluation.evaluate import evaluate_ranked
from model.evaluation.evaluation_set import prepare_whole
from model.towers.export import export
from model.training import train as learn
from tests.model.train_stage.two_days import FIRST, context, flat, metrics_of, rank_with_towers

pytestmark = pytest.mark.slow


def test_a_first_version_has_no_parent_to_be_compared_with(shop):
    metrics = metrics_of(shop.train1)
    for part in (metrics, metrics["next_click"]):
        assert part["holdout"]["baseline"] is None and part["holdout"]["change"] is None
    assert metrics["fixed_order"]["progressive"] is None, "nobody served before"
    assert metrics["train"]["days"] == 5 and metrics["train"]["last_day"] == str(FIRST)
    assert metrics["train"]["steps"] == metrics["train"]["loss"][-1][0]


def test_a_first_version_is_measured_on_its_day_before_it_is_trained_on_it(shop, tmp_path):
    """Trained again on a window that ends a day earlier: the figures are the same. Ids with too few
    events before the day were in no vocabulary of then: by hand they get the rows of such ids.
    """
    p, features = shop.pipeline, tmp_path / "features"
    shutil.copytree(shop.features1, features)
    shutil.rmtree(features / "transformed" / f"dt={FIRST}")
    before = learn.train_towers(context(p, FIRST, tmp_path), features, None)
    for name, column in (("user", "user"), ("item", "item")):
        table, spec = before.model.tables[name], before.model.architecture.tables[name]
        rows = pq.read_table(features / "transformed", columns=[column])[column].to_pylist()
        values = table.values.numpy()
        for number, token in enumerate(spec.tokens.to_pylist(), start=1):
            if rows.count(number) < p.vocabulary.min_events:
                bucket = int(tf.strings.to_hash_bucket_fast(token, spec.shared))
                values[number] = values[spec.first_shared + bucket]
        table.values.assign(values)
    given = before.model, before.transforms
    towers = {s: export(given[0], given[1][s], s, tmp_path / s) for s in ("query", "item")}
    corpus = pq.read_table(shop.features1 / "corpus/start")
    rows = progressive_rows(pq.read_table(shop.features1 / "evaluation"), FIRST, 10_000)
    asked = prepare_whole(rows, corpus)
    ks = p.evaluation.ks
    ranked = rank_with_towers(towers, corpus, {"day": asked}, 100)["day"].first(max(ks))
    told = metrics_of(shop.train1)
    assert flat(told["progressive"]) == pytest.approx(flat(evaluate_ranked(asked, ranked, ks)))
    assert told["next_click"]["progressive"]["queries"] > 100
    assert told["auxiliary"]["progressive"]["labels"] > 10


def test_a_first_version_has_a_ranker_that_was_not_measured_yet(shop):
    ranker = metrics_of(shop.train1)["ranker"]
    assert ranker["fitted"]["days"] == [str(FIRST - timedelta(days=1)), str(FIRST)]
    assert ranker["progressive"] is None and ranker["holdout"]["baseline"] is None
