import json
import shutil
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from model import train_stage
from model.data.batching import blocks
from model.optimizers import START
from model.training import checkpoint
from model.training import train as learn
from tests.model.train_stage.two_days import (
    FIRST,
    SECOND,
    context,
    flat,
    metrics_of,
    rows_trained_on,
    train_and_measure,
    with_train,
)
from twinspire_core import storage
from twinspire_core.config.tables.training import AuxiliaryConfig
from twinspire_core.contracts import feature_schema, model_bundle
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.errors import BadData, UsageError

pytestmark = pytest.mark.slow


def test_the_second_day_goes_on_from_the_first(shop):
    first, second = metrics_of(shop.train1)["train"], metrics_of(shop.train2)["train"]
    assert second["days"] == 1
    assert second["loss"][-1][0] == first["loss"][-1][0] + second["steps"]
    after, before = (checkpoint.load(at / model_bundle.STATE) for at in (shop.train2, shop.train1))
    assert (before.day, after.day) == (FIRST, SECOND)
    assert after.frequency["seen"] > before.frequency["seen"]
    assert second["loss"][0][1] < first["loss"][0][1]
    assert second["rows"] == len(rows_trained_on(shop)), "once"


def test_the_frequency_estimate_goes_on_from_the_parents(shop, monkeypatch):
    parent = checkpoint.load(shop.train1 / model_bundle.STATE)
    folders = {SECOND: shop.features2 / "transformed" / f"dt={SECOND}"}

    def estimate():
        return learn._frequency_estimate(shop.pipeline.train, folders, parent)

    assert int(estimate().seen.numpy()) == parent.frequency["seen"] > 0
    parent.frequency["items"] = np.int64(20_000)
    assert estimate().buckets == 1 << 17 and estimate().state()["items"] == 20_000
    assert estimate().initial_gap == 100_000
    monkeypatch.setattr(learn, "LEAST_INITIAL_GAP", 10)
    assert estimate().initial_gap == len(rows_trained_on(shop)), "a day's"


def test_held_out_users_are_never_trained_on(shop):
    for at, days in ((shop.features1, 5), (shop.features2, 1)):
        assert len(list((at / "transformed").iterdir())) == days
        for folder in (at / "transformed").iterdir():
            examples = pq.read_table(at / "examples" / folder.name)
            held = examples.filter(examples["_holdout"])["_user"].unique()
            assert len(held) > 10
            assert not pc.is_in(pq.read_table(folder)["_user"], value_set=held).to_numpy().any()


@pytest.mark.parametrize("order", ["time", "shuffled"])
def test_the_window_is_shuffled_from_scratch_and_each_day_that_goes_on_by_itself(
    shop, tmp_path, monkeypatch, order
):
    p = with_train(shop.pipeline, order=order)
    both = tmp_path / "features"
    shutil.copytree(shop.features2 / feature_schema.TRANSFORM, both / feature_schema.TRANSFORM)
    for day, folder in ((FIRST, shop.features1), (SECOND, shop.features2)):
        there = Path(feature_schema.TRANSFORMED) / feature_schema.day_folder(day)
        shutil.copytree(folder / there, both / there)

    def local(time):
        return datetime.fromtimestamp(time / 1e6, p.zone).date()

    def given(parent):
        """For each part of a pass: its day, the number of blocks, the days in it."""
        ctx = context(p, SECOND, tmp_path / "out", parent=parent)
        monkeypatch.setattr(learn, "run_training", lambda *given, **_: _stop(given[2:4]))
        with pytest.raises(_Stopped) as stopped:
            learn.train_towers(ctx, both, parent / model_bundle.STATE if parent else None)
        days, settings = stopped.value.args[0]
        return [
            (day, len(set(blocks(rows, settings))), {*map(local, rows.time)}) for day, rows in days
        ]

    scratch, warm = given(None), given(shop.train1)
    assert [day for day, _, _ in warm] == [SECOND] and warm[0][2] == {SECOND}
    if order == "shuffled":
        assert scratch == [(SECOND, 1, {FIRST, SECOND})] and warm[0][1] == 1
    else:
        assert [(day, held) for day, _, held in scratch] == [(FIRST, {FIRST}), (SECOND, {SECOND})]
        assert min(blocks for _, blocks, _ in [*scratch, *warm]) > 1


def test_the_linear_part_is_fitted_from_scratch_and_kept_by_a_day_that_goes_on(shop, tmp_path):
    history = shop.pipeline.train.history.model_copy(update={"pooling": "sqrtn"})
    p = with_train(shop.pipeline, history=history, auxiliary=AuxiliaryConfig())
    first = learn.train_towers(context(p, FIRST, tmp_path), shop.features1, None)
    towers = learn.write(context(p, FIRST, tmp_path), first, tmp_path)
    assert {tower.dimension for tower in towers.values()} == {4 * p.train.dimension}
    state = tmp_path / model_bundle.STATE
    second = learn.train_towers(
        context(p, SECOND, tmp_path, parent=tmp_path), shop.features2, state
    )
    name = second.model.architecture.linear
    before, after = (trained.model.tables[name].values.numpy() for trained in (first, second))
    keys = [trained.model.architecture.tables[name].keys for trained in (first, second)]
    row = pc.index_in(keys[1], value_set=keys[0])
    is_kept = row.is_valid().to_numpy(zero_copy_only=False)
    assert before.any() and is_kept.any()
    np.testing.assert_array_equal(after[is_kept], before[row.drop_null().to_numpy()])
    assert not after[~is_kept].any(), "nobody of the first day took it"


def test_slots_decay_once_before_a_day_that_goes_on(shop, tmp_path, monkeypatch):
    p = with_train(shop.pipeline, slot_decay=0.25)
    monkeypatch.setattr(learn, "run_training", lambda model, *_, **__: _stop(model))
    parent = checkpoint.load(shop.train1 / model_bundle.STATE)

    def begun(mode):
        ctx = context(p, SECOND, tmp_path, parent=shop.train1, mode=mode)
        state = shop.train1 / model_bundle.STATE if mode == "incremental" else None
        with pytest.raises(_Stopped) as stopped:
            learn.train_towers(ctx, shop.features2, state)
        return stopped.value.args[0]

    goes_on = begun("incremental")
    for name, (_, slots) in parent.dense.items():
        by_hand = np.maximum(slots * np.float32(0.25), np.float32(START))
        np.testing.assert_array_equal(goes_on.dense[name].slots, by_hand, err_msg=name)
    for name, weight in begun("full").tables.items():
        assert (weight.slots.numpy() == np.float32(START)).all(), name


class _Stopped(Exception):
    """Training was about to begin."""


def _stop(what):
    raise _Stopped(what)


def test_a_parent_whose_state_is_gone_and_a_day_without_rows_are_named(shop, tmp_path):
    given = {"features_at": shop.features2}
    ctx = context(shop.pipeline, SECOND, tmp_path / "t", **given, parent=tmp_path / "gone")
    with pytest.raises(
        UsageError, match=rf"{FIRST}-00000000 is not at .*gone.*deleted.*--mode full"
    ):
        train_stage.run(ctx)
    ctx = context(shop.pipeline, date(2024, 3, 4), tmp_path / "t", **given)
    with pytest.raises(BadData, match=rf"2024-03-04 needs the rows.*has {SECOND}"):
        train_stage.run(ctx)


@pytest.mark.system
def test_a_day_goes_from_store_to_store(shop, remote_place, tmp_path):
    for name in ("features2", "train1"):
        storage.upload_tree(getattr(shop, name), storage.join(remote_place, name))
    before = {"features_at": f"{remote_place}/features2", "parent": f"{remote_place}/train1"}
    ctx = context(shop.pipeline, SECOND, f"{remote_place}/out", **before)
    train_and_measure(ctx)
    metrics = json.loads(storage.read_bytes(storage.join(ctx.out, DayMetrics.FILE)))
    expected = flat(metrics_of(shop.train2)["progressive"])
    assert flat(metrics["progressive"]) == pytest.approx(expected)
    places = (ctx.out, str(shop.train2))
    actual, expected = ({file.path for file in storage.list_files(place)} for place in places)
    assert actual == expected - {"vectors/best.npz"}, "no other version is compared here"
