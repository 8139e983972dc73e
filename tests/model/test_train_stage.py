"""The stage on a made-up shop's real features: a first day from scratch, a second that goes on from
it.
"""

import json
import shutil
from datetime import date, datetime
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from beam_jobs import features_stage
from beam_jobs.validation import skew
from model import train_stage
from model.data import training_rows
from model.data.batching import blocks
from model.evaluation.evaluate import evaluate_ranked
from model.evaluation.evaluation_set import prepare, prepare_as_configured
from model.evaluation.queries import next_click_rows, progressive_rows
from model.evaluation.source_lists import rank_alone, rank_fusion, retrieve
from model.evaluation.tower_lists import encode, load, load_both, rank_with_towers
from model.item_fingerprint import fingerprint
from model.optimizers import START
from model.ranking import ranking_rows
from model.towers.architecture import design
from model.towers.export import export
from model.towers.transform_module import Transform, vocabularies
from model.towers.two_tower import TwoTower
from model.training import checkpoint
from model.training import train as learn
from model.training.warm_start import warm_start
from tests.shop import lay_out
from twinspire_core import storage
from twinspire_core.config import pipeline as pipeline_file
from twinspire_core.config.tables.quality import RankingConfig
from twinspire_core.config.tables.training import AuxiliaryConfig
from twinspire_core.contracts import feature_schema, model_bundle
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.contracts.features_report import FeaturesReport
from twinspire_core.contracts.ranker_file import RankerFile
from twinspire_core.contracts.source_constants import SourceConstants
from twinspire_core.contracts.stage_context import BestAccepted, Parent, StageContext
from twinspire_core.errors import BadData, UsageError
from twinspire_core.fusion.fuse import Fusion
from twinspire_core.sources.candidate_sources import CandidateSources
from twinspire_core.sources.version_tables import read_constants

pytestmark = pytest.mark.slow

FIRST, SECOND = date(2024, 3, 9), date(2024, 3, 10)
BEST = "2024-03-08-00000000"


def _context(p, day, out, *, features_at=None, parent=None, mode=None, best=None):
    parent = (
        Parent(day=FIRST, version=f"{FIRST}-00000000", home=str(parent), train=str(parent))
        if parent
        else None
    )
    inputs = {"features": str(features_at)} if features_at else {}
    mode = mode or ("incremental" if parent else "full")
    return StageContext(
        pipeline=p, day=day, mode=mode, out=str(out), parent=parent, inputs=inputs, best=best
    )


def _with(p, **settings):
    return p.model_copy(update={"train": p.train.model_copy(update=settings)})


@pytest.fixture(scope="session")
def shop(tmp_path_factory):
    """Two days of the shop, features and towers."""
    folder = tmp_path_factory.mktemp("shop")
    # Determinism would be switched on for the tests of the whole process; test_loop.py looks at it
    # in one of its own.
    p = _with(
        pipeline_file.load(lay_out(folder)),
        deterministic=False,
        auxiliary=AuxiliaryConfig(weight=0.3),
    )
    p = p.model_copy(update={"columns": p.columns.model_copy(update={"label": "stars"})})
    settings = p.evaluation.model_copy(update={"als": find_spec("implicit") is not None})
    sources = (*p.mix.sources, "personal", "trending")
    mix = p.mix.model_copy(update={"min_users": 20, "sources": sources})
    ranking = RankingConfig(enabled=True, min_users=20, trees=10)
    p = p.model_copy(update={"evaluation": settings, "mix": mix, "ranking": ranking})
    at = {name: folder / name for name in ("features1", "train1", "features2", "train2")}
    features_stage.run(_context(p, FIRST, at["features1"]))
    first = train_stage.run(_context(p, FIRST, at["train1"], features_at=at["features1"]))
    features_stage.run(_context(p, SECOND, at["features2"], parent=at["train1"]))
    # The same towers under another name: what is measured of them is known from the parent.
    best = BestAccepted(version=BEST, home=str(at["train1"]), ahead=0.01, gone=("gone",))
    second = train_stage.run(
        _context(
            p, SECOND, at["train2"], features_at=at["features2"], parent=at["train1"], best=best
        )
    )
    return SimpleNamespace(pipeline=p, first=first, second=second, **at)


def _metrics(attempt):
    return json.loads((attempt / DayMetrics.FILE).read_text())


def _flat(measures, path=""):
    """Measures in one dictionary, to compare: those of slices, and of lists without seen items, by
    their path.
    """
    measures = dict(enumerate(measures)) if isinstance(measures, list) else measures
    if not isinstance(measures, dict):
        return {path: measures} if not isinstance(measures, str) else {}
    return {
        key: x for name, one in measures.items() for key, x in _flat(one, f"{path}/{name}").items()
    }


def test_the_parents_ranker_is_measured_beside_its_mix(shop):
    ranker, mix = (_metrics(shop.train2)[name] for name in ("ranker", "mix"))
    beside = ranker["beside_mix"]
    assert beside["users"] == ranker["progressive"]["users"] > 20
    found = beside["by_measure"]["recall@10"]
    assert found["base"] == pytest.approx(mix["progressive"]["recall@10"], abs=1e-6)
    difference = ranker["progressive"]["recall@10"] - mix["progressive"]["recall@10"]
    assert found["mean"] == pytest.approx(difference, abs=1e-6)
    for name, one in ranker["beside_sources"].items():
        of_source = ranker["progressive"]["recall@10"] - one["by_measure"]["recall@10"]["base"]
        assert one["by_measure"]["recall@10"]["mean"] == pytest.approx(of_source, abs=1e-6), name
    (remembered,) = _metrics(shop.train2)["line"].values()
    assert remembered["ranked_beside_mix"]["users"] == beside["users"]


def test_a_first_version_has_a_ranker_that_was_not_measured_yet(shop):
    ranker = _metrics(shop.train1)["ranker"]
    assert ranker["fitted"]["days"] == [str(FIRST)]
    assert not {"progressive", "beside_mix"} & ranker.keys()


def test_rankers_are_fitted_on_users_who_are_not_held_out(shop):
    rows = ranking_rows.read(str(shop.train2))
    assert [one.day for one in rows] == [SECOND, FIRST]
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


def test_the_best_accepted_version_is_measured_besides(shop):
    metrics = _metrics(shop.train2)
    best = metrics["best"]
    assert (best["version"], best["ahead"], best["gone"]) == (BEST, 0.01, ["gone"])
    assert best["measures"] == metrics["holdout"]["baseline"]
    assert best["change"] == metrics["holdout"]["change"]


def test_the_day_remembers_how_it_differs_from_its_baseline(shop):
    assert _metrics(shop.train1)["line"] == {}, "a first version has none"
    metrics = _metrics(shop.train2)
    (remembered,) = metrics["line"].values()
    held = metrics["holdout"]
    assert list(metrics["line"]) == [str(SECOND)]
    assert remembered["against"] == f"{FIRST}-00000000" and remembered["best"] == BEST
    assert {"recall@10", "ndcg@10", "hit_rate@10", "mrr"} <= remembered["differences"].keys()
    assert not any("popular" in name or "/" in name for name in remembered["differences"])
    for name, difference in remembered["differences"].items():
        assert difference == pytest.approx(
            held["candidate"][name] - held["baseline"][name], abs=1e-6
        )
    own = remembered["two_tower"]
    assert own == remembered["beside_best"]
    # Users of the first day may fill the comparison up; they are not remembered of the second.
    assert own["users"] == metrics["mix"]["holdout"]["users"] <= held["users"]
    assert own["by_measure"]["recall@10"]["differ"] <= held["change"]["recall@10"]["differ"]


def _in_memory(p, features_at, attempt):
    model = TwoTower(design(p, vocabularies(features_at / "transform", p)), seed=99)
    state = checkpoint.load(attempt / model_bundle.STATE)
    warm_start(model, state, day=SECOND, keep=0, slot_decay=1.0)
    return model


def test_training_beats_what_needs_no_model(shop):
    metrics = _metrics(shop.train2)
    popular = metrics["baselines"]["most_popular"]["recall@10"]
    assert metrics["progressive"]["recall@10"] > 1.5 * popular
    held = metrics["holdout"]
    assert held["users"] > 10
    assert held["candidate"]["recall@10"] > 1.5 * held["baselines"]["most_popular"]["recall@10"]


def test_a_stage_that_is_stopped_does_not_wait_for_the_measurement_of_its_parent(
    shop, tmp_path, monkeypatch
):
    """Its day has to be closed first, which whoever stops it may not wait long for."""
    go_on, measured = Event(), Event()

    def judge(*_):
        go_on.wait(10)
        measured.set()

    def stop(*_):
        raise SystemExit(143)  # what SIGTERM is turned into

    monkeypatch.setattr(train_stage, "evaluate_parent", judge)
    monkeypatch.setattr(train_stage, "train_towers", stop)
    with pytest.raises(SystemExit):
        train_stage.run(
            _context(
                shop.pipeline, SECOND, tmp_path, features_at=shop.features2, parent=shop.train1
            )
        )
    waited = measured.is_set()
    go_on.set()
    assert not waited


@pytest.mark.parametrize(("most", "first"), [(1, True), (1_000, False)])
def test_with_many_items_the_parent_is_measured_before_its_child_is_trained(
    shop, tmp_path, monkeypatch, most, first
):
    """What both hold would be in memory at once otherwise."""
    measured, learning = Event(), Event()

    def judge(*_):
        learning.wait(0.5)
        measured.set()

    def learn(*_):
        found.append(measured.is_set())
        learning.set()
        raise SystemExit

    found = []
    monkeypatch.setattr(train_stage, "MAX_ITEMS_BESIDE", most)
    monkeypatch.setattr(train_stage, "evaluate_parent", judge)
    monkeypatch.setattr(train_stage, "train_towers", learn)
    with pytest.raises(SystemExit):
        train_stage.run(
            _context(
                shop.pipeline, SECOND, tmp_path, features_at=shop.features2, parent=shop.train1
            )
        )
    assert found == [first]


@pytest.mark.skipif(
    find_spec("implicit") is None, reason="implicit, an optional extra, is not installed"
)
def test_matrix_factorisation_is_measured_beside(shop):
    found = _metrics(shop.train2)["baselines"]
    assert found["als"]["queries"] == found["past"]["queries"]
    assert (
        found["als"]["excluded"]["recall@10"] > 1.2 * found["most_popular"]["excluded"]["recall@10"]
    )
    assert _metrics(shop.train2)["holdout"]["baselines"].keys() == found.keys() - {"als"}


def test_items_taken_together_are_those_of_the_days_before(shop):
    """By hand: similarities to a user's first 20 past items, added up, of the table that ends
    before the day.
    """
    near = {
        row["_item"]: row
        for row in pq.read_table(shop.features2 / "co_occurrence/start").to_pylist()
    }
    names = sorted(pq.read_table(shop.features2 / "corpus/start")["_item"].to_pylist())
    recalls = []
    for row in progressive_rows(
        pq.read_table(shop.features2 / "evaluation"), SECOND, 10_000
    ).to_pylist():
        sums = {}
        for item in row["_past"][:20]:
            # Seen, and never bought with another one
            found = near.get(item, {"_rows": [], "_similarities": []})
            for place, similarity in zip(found["_rows"], found["_similarities"], strict=True):
                sums[names[place]] = sums.get(names[place], 0.0) + similarity
        first = sorted(sums, key=lambda item: (-sums[item], item))[:10]
        if row["_past"]:
            recalls.append(len(set(first) & set(row["_truth"])) / len(row["_truth"]))
    assert _metrics(shop.train2)["baselines"]["co_occurrence"]["recall@10"] == pytest.approx(
        np.mean(recalls)
    )


def test_the_day_is_mixed_by_weights_that_never_saw_it(shop):
    """Measured again with the parent's file, the figures are the same; the child's, fitted on the
    day, differ.
    """
    corpus = pq.read_table(shop.features2 / "corpus/start")
    rows = progressive_rows(pq.read_table(shop.features2 / "evaluation"), SECOND, 10_000)
    asked, ks = (
        prepare_as_configured(rows, corpus, shop.pipeline.evaluation),
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
    told = _metrics(shop.train2)["mix"]
    assert _flat(told["progressive"]) == pytest.approx(_flat(again["before"]))
    assert again["after"]["mrr"] != again["before"]["mrr"]
    assert (before.fitted.on, after.fitted.on) == ("progressive", "progressive")
    assert told["fitted"]["day"] == after.fitted.day == str(SECOND)
    first = _metrics(shop.train1)["mix"]
    assert (first["fitted"]["day"], first["fitted"]["two_tower"]) == (str(FIRST), None)
    assert first["progressive"] is None and first["holdout"]["candidate"]["recall@10"] > 0


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
    asked = prepare_as_configured(rows, corpus, shop.pipeline.evaluation)
    ks = shop.pipeline.evaluation.ks
    sources = CandidateSources.of(corpus, {}, before.choices)
    for name in before.choices:
        lists = retrieve(name, sources, asked, max(ks))
        again = evaluate_ranked(asked, rank_alone(sources, asked, max(ks), lists), ks)
        told = _metrics(shop.train2)["baselines"][name]
        assert _flat(told) == pytest.approx(_flat(again)), name


def test_a_mix_is_no_worse_than_the_best_of_its_sources(shop):
    metrics = _metrics(shop.train2)
    measured = {"two_tower": metrics["progressive"], **metrics["baselines"]}
    best = max(measures["recall@10"] for name, measures in measured.items() if name != "als")
    low, high = metrics["mix"]["progressive"]["intervals"]["recall@10"]
    assert metrics["mix"]["progressive"]["recall@10"] > best - (high - low) / 2


def test_a_first_version_has_no_parent_to_be_compared_with(shop):
    metrics = _metrics(shop.train1)
    for part in (metrics, metrics["next_click"], metrics["mix"]):
        assert part["holdout"]["baseline"] is None and part["holdout"]["change"] is None
    assert metrics["mix"]["progressive"] is None, "nobody had weights before"
    assert metrics["mix"]["exchanged"] is None and metrics["mix"]["served"] is None
    assert metrics["train"]["days"] == 5 and metrics["train"]["last_day"] == str(FIRST)
    assert (
        metrics["train"]["steps"]
        == metrics["train"]["total_steps"]
        == metrics["train"]["loss"][-1][0]
    )


def test_a_first_version_is_measured_on_its_day_before_it_is_trained_on_it(shop, tmp_path):
    """Trained anew, of a window that ends a day before: the figures are the same.

    Ids that had too few events before the day would not have been in a vocabulary of then: by hand
    they get the rows of ids outside it.
    """
    p, features = shop.pipeline, tmp_path / "features"
    shutil.copytree(shop.features1, features)
    shutil.rmtree(features / "transformed" / f"dt={FIRST}")
    before = learn.train_towers(_context(p, FIRST, tmp_path), features, None)
    for name, column in (("user", "user"), ("item", "item")):
        table, spec = before.model.tables[name], before.model.architecture.tables[name]
        rows = pq.read_table(features / "transformed", columns=[column])[column].to_pylist()
        values = table.values.numpy()
        for number, token in enumerate(spec.tokens.to_pylist(), start=1):
            if rows.count(number) < p.vocabulary.min_events:
                bucket = int(tf.strings.to_hash_bucket_fast(token, spec.shared))
                values[number] = values[spec.first_shared + bucket]
        table.values.assign(values)
    towers = {
        side: export(before.model, before.transforms[side], side, tmp_path / side)
        for side in ("query", "item")
    }
    corpus = pq.read_table(shop.features1 / "corpus/start")
    rows = progressive_rows(pq.read_table(shop.features1 / "evaluation"), FIRST, 10_000)
    asked = prepare_as_configured(rows, corpus, p.evaluation)
    ks = p.evaluation.ks
    ranked = rank_with_towers(towers, corpus, {"day": asked}, 100)["day"].first(max(ks))
    told = _metrics(shop.train1)
    assert _flat(told["progressive"]) == pytest.approx(_flat(evaluate_ranked(asked, ranked, ks)))
    assert told["next_click"]["progressive"]["queries"] > 100
    assert told["auxiliary"]["progressive"]["labels"] > 10


def test_each_event_is_a_query_of_its_own_too(shop):
    """Next-click by hand: the clicks of one user, one row at a time, through the tower that never
    saw the day.
    """
    metrics = _metrics(shop.train2)["next_click"]
    examples = pq.read_table(shop.features2 / "examples" / f"dt={SECOND}")
    held = examples.filter(examples["_holdout"])
    assert (
        metrics["progressive"]["queries"]
        == metrics["baselines"]["past"]["queries"]
        == examples.num_rows
        > 100
    )
    assert (
        metrics["holdout"]["candidate"]["queries"]
        == metrics["holdout"]["baseline"]["queries"]
        == held.num_rows
    )
    assert metrics["holdout"]["users"] == len(held["_user"].unique())
    corpus = pq.read_table(shop.features2 / "corpus/start")
    for which, attempt, rows in (
        (metrics["progressive"], shop.train1, examples),
        (metrics["holdout"]["candidate"], shop.train2, held),
    ):
        scores = load(attempt / "query_tower")(rows) @ load(attempt / "item_tower")(corpus).T
        listed = np.argsort(-scores, axis=1, kind="stable")[:, :5]
        names = corpus["_item"].to_numpy(False)
        found = [
            item in names[top] for item, top in zip(rows["_item"].to_pylist(), listed, strict=True)
        ]
        assert which["recall@5"] == which["hit_rate@5"] == pytest.approx(np.mean(found))


def test_the_change_against_the_parent_is_told_with_its_interval(shop):
    held = _metrics(shop.train2)["holdout"]
    found = held["change"]["recall@10"]
    assert found["change"] == pytest.approx(
        held["candidate"]["recall@10"] / held["baseline"]["recall@10"] - 1
    )
    assert found["low"] < found["change"] < found["high"]
    assert "recall@10/users:5-19" in held["change"]
    assert _metrics(shop.train1)["holdout"]["change"] is None


def test_the_lead_is_over_what_the_users_trained_on_took_that_day(shop):
    """By hand: the ten items that they took most, beside what each held-out user took."""
    taken = [row["_item"] for row in _rows_trained_on(shop)]
    corpus = pq.read_table(
        shop.features2 / "corpus/start", columns=["_item", "_lately", "_popular"]
    ).to_pylist()
    ranked = sorted(
        corpus,
        key=lambda x: (-taken.count(x["_item"]), -(x["_lately"] or 0), -(x["_popular"] or 0)),
    )
    first = {x["_item"] for x in ranked[:10]}
    held = progressive_rows(pq.read_table(shop.features2 / "evaluation"), SECOND, 10_000)
    truths = [x["_truth"] for x in held.to_pylist() if x["_holdout"] and x["_past_events"]]
    metrics, parent = _metrics(shop.train2), _metrics(shop.train1)
    found = metrics["holdout"]["lead"]["recall@10"]
    assert found["popular_today"] == pytest.approx(
        np.mean([len(first & set(x)) / len(set(x)) for x in truths])
    )
    assert found["lead"] == pytest.approx(
        metrics["holdout"]["candidate"]["recall@10"] / found["popular_today"]
    )
    own = {name: x["lead"] for name, x in metrics["holdout"]["lead"].items()}
    assert metrics["leads"] == parent["leads"] | {str(SECOND): own} and list(parent["leads"]) == [
        str(FIRST)
    ]


def _rows_trained_on(shop):
    examples = pq.read_table(
        shop.features2 / "examples" / f"dt={SECOND}", columns=["_item", "_holdout"]
    )
    return [row for row in examples.to_pylist() if not row["_holdout"]]


def test_the_second_day_goes_on_from_the_first(shop):
    first, second = _metrics(shop.train1)["train"], _metrics(shop.train2)["train"]
    assert second["days"] == 1 and second["total_steps"] == first["total_steps"] + second["steps"]
    after, before = (
        checkpoint.load(shop.train2 / model_bundle.STATE),
        checkpoint.load(shop.train1 / model_bundle.STATE),
    )
    assert (before.day, after.day) == (FIRST, SECOND)
    assert after.frequency["seen"] > before.frequency["seen"]
    assert second["loss"][0][1] < first["loss"][0][1]
    assert second["rows"] == len(_rows_trained_on(shop)), (
        "once, however often a training from scratch goes through all"
    )


def test_an_estimate_of_other_buckets_and_hashes_is_gone_on_from(shop, monkeypatch):
    """As one of a parent from before a default changed, or after train.frequency was edited."""
    parent, folders = (
        checkpoint.load(shop.train1 / model_bundle.STATE),
        {SECOND: shop.features2 / "transformed" / f"dt={SECOND}"},
    )
    items = fingerprint(pq.read_table(shop.features2 / "corpus/start")["_item"])

    def estimate(**settings):
        p = _with(
            shop.pipeline, frequency=shop.pipeline.train.frequency.model_copy(update=settings)
        )
        return learn._frequency_estimate(p.train, folders, parent, shop.features2)

    same, other = estimate(), estimate(hashes=3, buckets=5000)
    assert int(other.seen.numpy()) == int(same.seen.numpy()) == parent.frequency["seen"] > 0
    known, carried = same.log_q(items).numpy(), other.log_q(items).numpy()
    assert np.median(np.abs(carried - known)) < 1e-4 and np.ptp(known) > 2
    assert [estimate(initial_gap=gap).initial_gap for gap in (7, None)] == [7, 100_000]
    monkeypatch.setattr(learn, "LEAST_INITIAL_GAP", 10)
    assert estimate().initial_gap == len(_rows_trained_on(shop)), "a day's"


def test_a_day_is_gone_through_again_where_that_is_asked_for(shop, tmp_path):
    p = _with(shop.pipeline, warm_epochs=2)
    train_stage.run(
        _context(p, SECOND, tmp_path / "t", features_at=shop.features2, parent=shop.train1)
    )
    assert _metrics(tmp_path / "t")["train"]["rows"] == 2 * len(_rows_trained_on(shop))


def test_the_parent_is_measured_as_it_was_before_the_day(shop):
    """Measured again from the parent's own folder, the figures are the same; the child's, which saw
    the day, differ.
    """
    corpus = pq.read_table(shop.features2 / "corpus/start")
    rows = progressive_rows(pq.read_table(shop.features2 / "evaluation"), SECOND, 10_000)
    asked, ks = (
        prepare_as_configured(rows, corpus, shop.pipeline.evaluation),
        shop.pipeline.evaluation.ks,
    )
    before, after = (
        evaluate_ranked(
            asked, rank_with_towers(load_both(attempt), corpus, {"day": asked}, max(ks))["day"], ks
        )
        for attempt in (shop.train1, shop.train2)
    )
    assert len(_flat(before)) > 100
    assert _flat(_metrics(shop.train2)["progressive"]) == pytest.approx(_flat(before))
    assert after["mrr"] != before["mrr"]


def test_labels_are_predicted_for_users_and_days_that_were_not_trained_on(shop):
    """Stars go by the item, and its vector tells: the mean of 1 to 5 is off by 1.4."""
    first, second = (_metrics(at)["auxiliary"] for at in (shop.train1, shop.train2))
    assert (
        first["progressive"]["labels"] > 0
        and first["loss"] == "squared"
        and first["labels"] > 4 * second["labels"] > 0
    )
    assert second["curve"][-1][0] == _metrics(shop.train2)["train"]["total_steps"]
    examples = pq.read_table(
        shop.features2 / "examples" / f"dt={SECOND}", columns=["_label", "_holdout"]
    )
    clicks = {"progressive": examples, "holdout": examples.filter(examples["_holdout"])}
    for name, rows in clicks.items():
        found = second[name]
        assert found["labels"] == rows.num_rows - rows["_label"].null_count > 20
        assert found["rmse"] < 0.75 * found["rmse_of_mean"] and 1.2 < found["rmse_of_mean"] < 1.6


def test_the_parents_labels_are_measured_with_its_own_head(shop):
    """Once more, from the parent's files: raw columns through its towers, and the head by hand."""
    kept = checkpoint.load(shop.train1 / model_bundle.STATE)
    a, b, w, bias = (
        kept.dense[f"auxiliary/squared/{name}"][0] for name in ("query", "item", "product", "bias")
    )
    examples = pq.read_table(shop.features2 / "examples" / f"dt={SECOND}")
    examples = examples.filter(pc.is_valid(examples["_label"]))
    q, c = (load(shop.train1 / f"{side}_tower")(examples) for side in ("query", "item"))
    x = bias + q @ a + c @ b + (q * c) @ w * len(a) ** 0.5
    off = examples["_label"].to_numpy() - (kept.labels.mean + kept.labels.spread * x)
    assert _metrics(shop.train2)["auxiliary"]["progressive"]["rmse"] == pytest.approx(
        (off**2).mean() ** 0.5, rel=1e-4
    )


def test_towers_are_the_same_files_with_a_head_beside_them_and_without(shop, tmp_path):
    models = {"with": _in_memory(shop.pipeline, shop.features2, shop.train2)}
    models["without"] = _in_memory(
        _with(shop.pipeline, auxiliary=AuxiliaryConfig()), shop.features2, shop.train2
    )
    assert models["with"].head and not models["without"].head
    raw = pq.read_table(shop.features2 / "examples" / f"dt={SECOND}")
    for side in ("query", "item"):
        found = []
        for name, model in models.items():
            transform = Transform(shop.features2 / "transform", shop.pipeline, side)
            in_memory = export(model, transform, side, tmp_path / name / side)
            np.testing.assert_allclose(in_memory(raw), load(tmp_path / name / side)(raw), atol=1e-6)
            files = sorted(path for path in (tmp_path / name / side).rglob("*") if path.is_file())
            found.append(
                {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files}
            )
        assert found[0] == found[1] and len(found[0]) > 3


def test_what_several_exams_ask_is_encoded_once(shop):
    """Events of one moment, and of users held out: the same vectors as of each exam by itself."""
    corpus, towers = pq.read_table(shop.features2 / "corpus/start"), load_both(shop.train2)
    clicks = next_click_rows(pq.read_table(shop.features2 / "examples" / f"dt={SECOND}"), "history")
    rows = {
        "clicks": clicks,
        "held": clicks.filter(clicks["_holdout"]),
        "again": pa.concat_tables([clicks, clicks]),
    }
    encoded = encode(towers, corpus, {name: prepare(table, corpus) for name, table in rows.items()})
    for name, table in rows.items():
        np.testing.assert_allclose(encoded.queries(name), towers["query"](table), atol=1e-6)
    assert len(encoded.distinct) <= clicks.num_rows
    np.testing.assert_allclose(encoded.items, towers["item"](corpus), atol=1e-6)


def test_held_out_users_are_never_trained_on(shop):
    for at, days in ((shop.features1, 5), (shop.features2, 1)):
        assert len(list((at / "transformed").iterdir())) == days
        for folder in (at / "transformed").iterdir():
            examples = pq.read_table(at / "examples" / folder.name)
            held = examples.filter(examples["_holdout"])["_user"].unique()
            assert len(held) > 10
            assert not pc.is_in(pq.read_table(folder)["_user"], value_set=held).to_numpy().any()


@pytest.mark.parametrize("side", ["query", "item"])
def test_towers_from_raw_features_equal_the_trained_ones_on_the_jobs_rows(shop, side):
    """One way: raw columns through the SavedModel. The other: the Beam job's transformed rows
    through the weights.
    """
    folder = f"dt={SECOND}"
    raw = pq.read_table(shop.features2 / "examples" / folder)
    raw = raw.filter(pc.invert(raw["_holdout"])).sort_by(
        [(c, "ascending") for c in ("_time", "_user", "_item")]
    )
    model = _in_memory(shop.pipeline, shop.features2, shop.train2)
    parts = [column for side in model.architecture.columns.values() for column in side]
    rows = training_rows.read(shop.features2 / "transformed" / folder, parts)
    assert len(rows) == raw.num_rows > 100
    tower = load(shop.train2 / f"{side}_tower")
    np.testing.assert_allclose(tower(raw, batch_rows=77), model(side, rows.features), atol=1e-5)


def test_a_stranger_gets_a_vector(shop):
    raw = pa.table(
        {"user": ["nobody", None], "history": [["unheard", "of"], None], "device": ["fridge", None]}
    )
    vectors = load(shop.train2 / model_bundle.QUERY_TOWER)(raw)
    np.testing.assert_allclose((vectors**2).sum(1), 1, rtol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_an_item_tower_carries_neither_users_nor_slots(shop):
    loaded = tf.saved_model.load(str(shop.train2 / model_bundle.ITEM_TOWER))
    shapes = [tuple(v.shape) for v in loaded.tables.values()]
    state_of = checkpoint.load(shop.train2 / model_bundle.STATE)
    assert sorted(loaded.tables) == ["item", "kind", "title"]
    assert (int((~state_of.tables["user"].left.is_valid().to_numpy(False)).sum()), 16) not in shapes
    assert not any(
        "user" in str(path) for path in (shop.train2 / model_bundle.ITEM_TOWER).rglob("*")
    )


def test_from_scratch_the_parent_is_still_the_baseline(shop, tmp_path):
    p = _with(shop.pipeline, epochs=1)
    train_stage.run(
        _context(
            p, SECOND, tmp_path / "t", features_at=shop.features2, parent=shop.train1, mode="full"
        )
    )
    metrics = _metrics(tmp_path / "t")
    assert metrics["train"]["total_steps"] == metrics["train"]["steps"]
    baseline = _metrics(shop.train2)["holdout"]["baseline"]
    assert _flat(metrics["holdout"]["baseline"]) == pytest.approx(_flat(baseline))


def test_a_day_goes_from_store_to_store(shop, gs_place, tmp_path):
    for name in ("features2", "train1"):
        storage.upload_tree(getattr(shop, name), storage.join(gs_place, name))
    ctx = _context(
        shop.pipeline,
        SECOND,
        storage.join(gs_place, "out"),
        features_at=storage.join(gs_place, "features2"),
        parent=storage.join(gs_place, "train1"),
    )
    train_stage.run(ctx)
    metrics = json.loads(storage.read_bytes(storage.join(ctx.out, DayMetrics.FILE)))
    assert _flat(metrics["progressive"]) == pytest.approx(
        _flat(_metrics(shop.train2)["progressive"])
    )
    found, expected = (
        {
            str(Path(f.path).parent) if f.path.startswith(model_bundle.TENSORBOARD) else f.path
            for f in storage.list_files(place)
        }
        for place in (ctx.out, str(shop.train2))  # TensorBoard's files are named by the clock
    )
    assert found >= expected


@pytest.mark.parametrize("order", ["time", "shuffled"])
def test_the_window_is_shuffled_from_scratch_and_each_day_that_goes_on_by_itself(
    shop, tmp_path, monkeypatch, order
):
    p = _with(shop.pipeline, order=order, shuffle_minutes=60)
    both = tmp_path / "features"
    shutil.copytree(shop.features2 / feature_schema.TRANSFORM, both / feature_schema.TRANSFORM)
    for day, folder in ((FIRST, shop.features1), (SECOND, shop.features2)):
        there = Path(feature_schema.TRANSFORMED) / feature_schema.day_folder(day)
        shutil.copytree(folder / there, both / there)

    def local(time):
        return datetime.fromtimestamp(time / 1e6, p.zone).date()

    def given(parent):
        """What a pass consists of: the day that each part goes by, how many blocks it has, and the
        days in it.
        """
        ctx = _context(p, SECOND, tmp_path / "out", parent=parent)
        with monkeypatch.context() as patch:
            patch.setattr(
                learn,
                "run_training",
                lambda model, frequency, days, settings, **_: _stop([days, days, settings]),
            )
            with pytest.raises(_Stopped) as stopped:
                learn.train_towers(ctx, both, parent / model_bundle.STATE if parent else None)
        first, second, settings = stopped.value.args[0]
        assert [len(rows) for _, rows in first] == [len(rows) for _, rows in second]
        return [
            (day, len(set(blocks(rows, settings))), {*map(local, rows.time)}) for day, rows in first
        ]

    scratch, warm = given(None), given(shop.train1)
    assert [day for day, _, _ in warm] == [SECOND] and warm[0][2] == {SECOND}
    if order == "shuffled":
        assert scratch == [(SECOND, 1, {FIRST, SECOND})] and warm[0][1] == 1
    else:
        assert [(day, held) for day, _, held in scratch] == [(FIRST, {FIRST}), (SECOND, {SECOND})]
        assert min(blocks for _, blocks, _ in [*scratch, *warm]) > 1


def test_slots_decay_once_before_a_day_that_goes_on(shop, tmp_path, monkeypatch):
    p = _with(shop.pipeline, slot_decay=0.25)
    monkeypatch.setattr(learn, "run_training", lambda model, *_, **__: _stop(model))
    parent = checkpoint.load(shop.train1 / model_bundle.STATE)

    def begun(mode):
        ctx = _context(p, SECOND, tmp_path, parent=shop.train1, mode=mode)
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


def test_a_parent_whose_state_is_gone_is_named(shop, tmp_path):
    ctx = _context(
        shop.pipeline, SECOND, tmp_path / "t", features_at=shop.features2, parent=tmp_path / "gone"
    )
    with pytest.raises(UsageError, match=rf"{FIRST}-00000000 is no longer at .*gone.*--mode full"):
        train_stage.run(ctx)


def test_a_day_without_rows_says_what_is_there(shop, tmp_path):
    ctx = _context(shop.pipeline, date(2024, 3, 4), tmp_path / "t", features_at=shop.features2)
    with pytest.raises(BadData, match=rf"2024-03-04 needs its rows.*has {SECOND}"):
        train_stage.run(ctx)


def test_what_is_served_is_compared_with_what_was_trained_on(shop):
    """The sketches of the job, beside its own files."""
    for place in (shop.features1, shop.features2):
        report = FeaturesReport.read(str(place))
        found = {one.feature: one for one in report.skew}
        assert found and set(found) <= set(skew.compared(shop.pipeline))
        # What the snapshot says of items is the same on both sides.
        for name in ("kind", "price"):
            assert found[name].distance < 0.2 and found[name].outside == 0
        for name, one in found.items():
            if one.served and skew.compared(shop.pipeline)[name] == feature_schema.CORPUS_END:
                corpus = pads.dataset(
                    place / feature_schema.CORPUS_END, format="parquet"
                ).to_table()
                weighted = corpus.filter(pc.greater(corpus["_popular"], 0))[name].drop_null()
                assert one.served.high <= pc.max(weighted).as_py()
