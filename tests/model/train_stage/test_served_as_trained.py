import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from beam_jobs.validation import drift
from model.data import training_rows
from model.evaluation.day_queries import next_click_rows
from model.train_stage import encode, load, load_both
from model.training import checkpoint
from tests.model.train_stage.two_days import SECOND, examples, towers_in_memory
from twinspire_core.contracts import feature_schema, model_bundle
from twinspire_core.contracts.features_report import FeaturesReport

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("side", ["query", "item"])
def test_towers_from_raw_features_equal_the_trained_ones_on_the_jobs_rows(shop, side):
    """Raw columns through the SavedModel; the Beam job's transformed rows through the weights."""
    order = [(column, "ascending") for column in ("_time", "_user", "_item")]
    raw = examples(shop)
    raw = raw.filter(pc.invert(raw["_holdout"])).sort_by(order)
    model = towers_in_memory(shop.pipeline, shop.features2, shop.train2)
    parts = [column for side in model.architecture.columns.values() for column in side]
    rows = training_rows.read(shop.features2 / "transformed" / f"dt={SECOND}", parts)
    assert len(rows) == raw.num_rows > 100
    tower = load(shop.train2 / f"{side}_tower")
    np.testing.assert_allclose(tower(raw, batch_rows=77), model(side, rows.features), atol=1e-5)


def test_a_stranger_gets_a_vector(shop):
    asked = {"user": ["nobody", None], "history": [["unheard", "of"], None]}
    raw = pa.table(asked | {"device": ["fridge", None]})
    vectors = load(shop.train2 / model_bundle.QUERY_TOWER)(raw)
    np.testing.assert_allclose((vectors**2).sum(1), 1, rtol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_an_item_tower_carries_neither_users_nor_slots(shop):
    tower = shop.train2 / model_bundle.ITEM_TOWER
    loaded = tf.saved_model.load(str(tower))
    shapes = [tuple(v.shape) for v in loaded.tables.values()]
    state_of = checkpoint.load(shop.train2 / model_bundle.STATE)
    assert sorted(loaded.tables) == ["item", "kind", "title"]
    assert (int((~state_of.tables["user"].left.is_valid().to_numpy(False)).sum()), 16) not in shapes
    assert not any("user" in str(path) for path in tower.rglob("*"))


def test_what_several_exams_ask_is_encoded_once(shop):
    """Events of one moment, and of users held out: the same vectors as of each exam by itself."""
    corpus, towers = pq.read_table(shop.features2 / "corpus/start"), load_both(shop.train2)
    clicks = next_click_rows(examples(shop), "history")
    rows = {"clicks": clicks, "held": clicks.filter(clicks["_holdout"])}
    rows["again"] = pa.concat_tables([clicks, clicks])
    encoded = encode(towers, corpus, rows)
    for name, table in rows.items():
        np.testing.assert_allclose(encoded.queries(name), towers["query"](table), atol=1e-6)
    assert len(encoded.distinct) <= clicks.num_rows
    np.testing.assert_allclose(encoded.items, towers["item"](corpus), atol=1e-6)


def test_what_is_served_is_compared_with_what_was_trained_on(shop):
    for place in (shop.features1, shop.features2):
        report = FeaturesReport.find(str(place))
        actual = {one.feature: one for one in report.skew}
        assert actual and set(actual) <= set(drift.compared_features(shop.pipeline))
        # What the snapshot says of items is the same on both sides.
        for name in ("kind", "price"):
            assert actual[name].distance < 0.2 and actual[name].outside == 0
        corpus = pads.dataset(place / feature_schema.CORPUS_END, format="parquet").to_table()
        weighted = corpus.filter(pc.greater(corpus["_popular"], 0))
        of_items = drift.compared_features(shop.pipeline)
        for name, one in actual.items():
            if one.served and of_items[name] == feature_schema.CORPUS_END:
                assert one.served.high <= pc.max(weighted[name].drop_null()).as_py()
