import numpy as np
import pyarrow.compute as pc
import pytest

from model.towers.export import Transform, export
from model.train_stage import load
from model.training import checkpoint
from tests.model.train_stage.two_days import examples, metrics_of, towers_in_memory, with_train
from twinspire_core.config.tables.training import AuxiliaryConfig
from twinspire_core.contracts import model_bundle

pytestmark = pytest.mark.slow


def test_labels_are_predicted_for_users_and_days_that_were_not_trained_on(shop):
    """Stars depend on the item, so its vector predicts them: the mean of 1 to 5 is off by 1.4."""
    first, second = (metrics_of(at)["auxiliary"] for at in (shop.train1, shop.train2))
    assert first["progressive"]["labels"] > 0 and first["labels"] > 4 * second["labels"] > 0
    assert second["curve"][-1][0] == metrics_of(shop.train2)["train"]["loss"][-1][0]
    every = examples(shop)
    clicks = {"progressive": every, "holdout": every.filter(every["_holdout"])}
    for name, rows in clicks.items():
        found = second[name]
        assert found["labels"] == rows.num_rows - rows["_label"].null_count > 20
        assert found["rmse"] < 0.75 * found["rmse_of_mean"] and 1.2 < found["rmse_of_mean"] < 1.6


def test_the_parents_labels_are_measured_with_its_own_head(shop):
    """Once more, from the parent's files: raw columns through its towers, and the head by hand."""
    kept = checkpoint.load(shop.train1 / model_bundle.STATE)
    names = ("query", "item", "product", "bias")
    a, b, w, bias = (kept.dense[f"auxiliary/{name}"][0] for name in names)
    rows = examples(shop)
    rows = rows.filter(pc.is_valid(rows["_label"]))
    q, c = (load(shop.train1 / f"{side}_tower")(rows) for side in ("query", "item"))
    x = bias + q @ a + c @ b + (q * c) @ w * len(a) ** 0.5
    off = rows["_label"].to_numpy() - (kept.labels.mean + kept.labels.spread * x)
    found = metrics_of(shop.train2)["auxiliary"]["progressive"]["rmse"]
    assert found == pytest.approx((off**2).mean() ** 0.5, rel=1e-4)


def test_an_auxiliary_head_does_not_change_the_files_of_the_towers(shop, tmp_path):
    plain = with_train(shop.pipeline, auxiliary=AuxiliaryConfig())
    pipelines, at = {"with": shop.pipeline, "without": plain}, (shop.features2, shop.train2)
    models = {name: towers_in_memory(p, *at) for name, p in pipelines.items()}
    assert models["with"].head and not models["without"].head
    raw = examples(shop)
    for side in ("query", "item"):
        found = []
        for name, model in models.items():
            transform = Transform(shop.features2 / "transform", shop.pipeline, side)
            in_memory = export(model, transform, side, tmp_path / name / side)
            np.testing.assert_allclose(in_memory(raw), load(tmp_path / name / side)(raw), atol=1e-6)
            home = tmp_path / name / side
            files = [path for path in home.rglob("*") if path.is_file()]
            found.append({str(path.relative_to(home)): path.read_bytes() for path in files})
        assert found[0] == found[1] and len(found[0]) > 3
