from threading import Event

import pytest

from model import train_stage
from model.evaluation.evaluate import evaluate_ranked
from model.evaluation.evaluation_set import prepare_whole
from model.train_stage import load_both
from tests.model.train_stage.two_days import (
    BEST,
    FIRST,
    SECOND,
    context,
    day_queries,
    flat,
    metrics_of,
    rank_with_towers,
    train_and_measure,
    with_train,
)

pytestmark = pytest.mark.slow


def test_the_parent_is_measured_as_it_was_before_the_day(shop):
    """Measured again from its own folder the figures are the same; the child's, which saw the day,
    differ.
    """
    rows, corpus = day_queries(shop)
    asked, ks = prepare_whole(rows, corpus), shop.pipeline.evaluation.ks

    def measured(attempt):
        ranked = rank_with_towers(load_both(attempt), corpus, {"day": asked}, max(ks))
        return evaluate_ranked(asked, ranked["day"], ks)

    before, after = measured(shop.train1), measured(shop.train2)
    assert len(flat(before)) > 100
    assert flat(metrics_of(shop.train2)["progressive"]) == pytest.approx(flat(before))
    assert after["mrr"] != before["mrr"]


def test_the_change_against_the_parent_has_an_interval(shop):
    held = metrics_of(shop.train2)["holdout"]
    change = held["change"]["recall@10"]
    expected = held["candidate"]["recall@10"] / held["baseline"]["recall@10"] - 1
    assert change["change"] == pytest.approx(expected)
    assert change["low"] < change["change"] < change["high"]
    assert "recall@10/users:5-19" in held["change"]
    assert metrics_of(shop.train1)["holdout"]["change"] is None


def test_the_best_accepted_version_is_also_measured(shop):
    metrics = metrics_of(shop.train2)
    best = metrics["best"]
    assert (best["version"], best["ahead"], best["gone"]) == (BEST, 0.01, ["gone"])
    assert best["measures"] == metrics["holdout"]["baseline"]
    assert best["change"] == metrics["holdout"]["change"]


def test_the_day_remembers_how_it_differs_from_its_baseline(shop):
    assert metrics_of(shop.train1)["line"] == {}, "a first version has none"
    metrics = metrics_of(shop.train2)
    (remembered,) = metrics["line"].values()
    held = metrics["holdout"]
    assert list(metrics["line"]) == [str(SECOND)]
    assert remembered["against"] == f"{FIRST}-00000000" and remembered["best"] == BEST
    assert {"recall@10", "ndcg@10", "hit_rate@10", "mrr"} <= remembered["differences"].keys()
    assert not any("popular" in name or "/" in name for name in remembered["differences"])
    for name, difference in remembered["differences"].items():
        expected = held["candidate"][name] - held["baseline"][name]
        assert difference == pytest.approx(expected, abs=1e-6)
    own = remembered["two_tower"]
    assert own == remembered["beside_best"]
    # Users of the first day may fill the comparison up; they are not remembered of the second.
    assert own["users"] == metrics["fixed_order"]["holdout"]["users"] <= held["users"]
    assert own["by_measure"]["recall@10"]["differ"] <= held["change"]["recall@10"]["differ"]


def second_day(shop, out, pipeline=None, mode=None):
    before = {"features_at": shop.features2, "parent": shop.train1, "mode": mode}
    return context(pipeline or shop.pipeline, SECOND, out, **before)


def test_from_scratch_the_parent_is_still_the_baseline(shop, tmp_path):
    p = with_train(shop.pipeline, epochs=1)
    train_and_measure(second_day(shop, tmp_path / "t", pipeline=p, mode="full"))
    metrics = metrics_of(tmp_path / "t")
    assert metrics["train"]["loss"][-1][0] == metrics["train"]["steps"]
    baseline = metrics_of(shop.train2)["holdout"]["baseline"]
    assert flat(metrics["holdout"]["baseline"]) == pytest.approx(flat(baseline))


def test_a_stage_that_is_stopped_does_not_wait_for_the_vectors_of_its_parent(
    shop, tmp_path, monkeypatch
):
    """Its day has to be closed first, and a stop may not wait long for that."""
    go_on, encoded = Event(), Event()

    def encode(*_):
        go_on.wait(10)
        encoded.set()

    def stop(*_):
        raise SystemExit(143)  # what SIGTERM is turned into

    monkeypatch.setattr(train_stage, "encode_earlier_versions", encode)
    monkeypatch.setattr(train_stage, "train_towers", stop)
    with pytest.raises(SystemExit):
        train_stage.run(second_day(shop, tmp_path))
    waited = encoded.is_set()
    go_on.set()
    assert not waited


@pytest.mark.parametrize(("most", "first"), [(1, True), (1_000, False)])
def test_with_many_items_the_parent_encodes_before_its_child_is_trained(
    shop, tmp_path, monkeypatch, most, first
):
    """What both hold would be in memory at once otherwise."""
    encoded, learning = Event(), Event()

    def encode(*_):
        learning.wait(0.5)
        encoded.set()

    def learn(*_):
        change.append(encoded.is_set())
        learning.set()
        raise SystemExit

    change = []
    monkeypatch.setattr(train_stage, "MAX_ITEMS_BESIDE", most)
    monkeypatch.setattr(train_stage, "encode_earlier_versions", encode)
    monkeypatch.setattr(train_stage, "train_towers", learn)
    with pytest.raises(SystemExit):
        train_stage.run(second_day(shop, tmp_path))
    assert change == [first]
