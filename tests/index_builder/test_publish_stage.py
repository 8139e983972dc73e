import json
import re
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from index_builder import publish_stage
from index_builder.registry.registry import Entry
from tests.index_builder.gate.gates import skew
from twinspire.runs import runner, stages
from twinspire.runs.day_run import DayRun
from twinspire_core import storage
from twinspire_core.contracts import attempts, day_metrics
from twinspire_core.contracts.attempts import Attempt
from twinspire_core.contracts.day_metrics import ExampleList
from twinspire_core.contracts.features_report import FeaturesReport
from twinspire_core.contracts.version_manifest import FORMAT_VERSION, Manifest
from twinspire_core.errors import BadData, GateRefused
from twinspire_core.fusion.rank_fusion import FixedOrder
from twinspire_core.search.index import load_index
from twinspire_core.sources.co_occurrence import read_near_items

FIRST, SECOND, THIRD = (date(2024, 5, day) for day in (1, 2, 3))
FORMAT = (Path(__file__).parents[2] / "docs/artifact-format.md").read_text()


@pytest.mark.parametrize(
    ("heading", "model"), [("`manifest.json`", Manifest), ("An entry of the log", Entry)]
)
def test_every_field_is_documented(heading, model):
    section = next(
        part for part in re.split(r"^#+ ", FORMAT, flags=re.M) if part.startswith(heading)
    )
    assert re.findall(r"^\| `([a-z_]+)` \|", section, re.M) == list(model.model_fields)
    assert f"Format version {FORMAT_VERSION}." in FORMAT


@pytest.mark.parametrize("pipeline", ["disk", "gs", "s3"], indirect=True)
def test_a_version_holds_what_the_document_says(context, registry, tmp_path):
    summary = publish_stage.run(context(FIRST))
    home = registry.open(cache=tmp_path / "cache")
    assert summary["live"] and summary["refused"] == [] and home.name == summary["version"]
    rows = re.search(r"### Files of a version\n(.*?)\n###", FORMAT, re.S)[1]
    documented = {name.rstrip("/") for name in re.findall(r"^\| `([\w./]+)` \|", rows, re.M)}
    assert {p.name for p in home.iterdir()} == documented - {
        "users",
        "tensorflow_serving",
        "neighbours.parquet",  # of a source that this file does not use
    }


def test_row_i_of_the_index_is_row_i_of_the_items(context, registry, tmp_path):
    publish_stage.run(context(FIRST))
    home = registry.open(cache=tmp_path / "cache")
    items, vectors = pq.read_table(home / "items.parquet"), pq.read_table(home / "vectors")
    by_id = dict(
        zip(vectors["_item"].to_pylist(), np.stack(vectors["vector"].to_numpy()), strict=True)
    )
    asked = items["_item"].to_pylist()
    rows, _ = load_index(home / "index").search(np.stack([by_id[i] for i in asked]), 1)
    assert [asked[row] for row in rows[:, 0]] == asked
    assert asked == sorted(asked)
    assert items["_name"].to_pylist() == [f"name of {i}" for i in asked]
    assert items["_popular"].to_pylist() == [int(i[1:]) for i in asked]
    assert "item" not in items.column_names, "raw features stay behind"


def test_items_taken_together_are_rows_of_the_items(context, registry, tmp_path):
    publish_stage.run(context(FIRST))
    home = registry.open(cache=tmp_path / "cache")
    items, near = (
        pq.read_table(home / name) for name in ("items.parquet", "co_occurrence.parquet")
    )
    table = read_near_items(near, items["_item"])
    place = {item: row for row, item in enumerate(items["_item"].to_pylist())}
    for item, other in (("i1", "i10"), ("i10", "i1")):
        entries = slice(*table.offsets[place[item] :][:2])
        assert table.columns[entries].tolist() == [place[other]]
    assert near["_item"].to_pylist() == sorted(near["_item"].to_pylist())
    assert FixedOrder.read(home).sources == ("two_tower", "co_occurrence")


def test_users_travel_only_when_declared(context, pipeline, registry, tmp_path):
    publish_stage.run(context(FIRST))
    assert not (registry.open(cache=tmp_path / "cache") / "users").exists()
    publish_stage.run(context(SECOND, pipeline=_with_users(pipeline, True)))
    assert pq.read_table(registry.open(cache=tmp_path / "cache") / "users")[
        "_user"
    ].to_pylist() == ["u"]


def test_the_users_seen_last_travel(context, pipeline, tmp_path):
    made = context(FIRST, pipeline=_with_users(pipeline, 3))
    folder = Path(made.inputs["features"], "users")
    shutil.rmtree(folder)
    folder.mkdir()
    # By time, then by id; files are in neither order.
    for number, rows in enumerate([{"a": 5, "d": 1}, {"c": 9, "b": 5, "e": 5}]):
        times = pa.array(rows.values(), pa.timestamp("us", "UTC"))
        table = pa.table({"_user": list(rows), "_last_time": times})
        pq.write_table(table, folder / f"{number}.parquet")
    publish_stage.add_users(made, tmp_path)
    assert pq.read_table(tmp_path / "users")["_user"].to_pylist() == ["a", "c", "b"]


@pytest.mark.parametrize(("most", "is_named"), [(True, True), (3, False), (False, False)])
def test_a_report_names_no_user_that_its_version_may_lack(
    context, pipeline, registry, most, is_named
):
    made = context(FIRST, pipeline=_with_users(pipeline, most))
    one = ExampleList(user="secret-7", past_events=3, history=[], items=["i2"], taken=["i2"])
    place = f"{made.inputs['measure']}/{day_metrics.EXAMPLES}"
    storage.write_bytes(place, day_metrics.dump_examples([one]))
    version = publish_stage.run(made)["version"]
    report = registry.read(version, "report.html").decode()
    assert ("secret-7" in report) == is_named and ("User A" in report) != is_named


def _with_users(pipeline, most):
    serving = pipeline.serving.model_copy(update={"user_store": most})
    return pipeline.model_copy(update={"serving": serving})


def test_the_manifest_names_the_parent_and_the_training_state(context, pipeline, registry, parent):
    publish_stage.run(context(FIRST))
    made = context(SECOND, parent=parent(pipeline, SECOND))
    publish_stage.run(made)
    first, second = (
        registry.manifest(s.version) for s in sorted(registry.statuses(), key=lambda s: s.date)
    )
    assert first.parent is None and second.parent == first.version
    place = attempts.place(pipeline, second.sources["train"])
    assert place == made.inputs["train"] and storage.exists(f"{place}/query_tower/saved_model.pb")
    assert (second.items, second.dimension, second.quality.candidate) == (300, 4, 0.2)
    assert second.software["twinspire"] and second.software["numpy"] == np.__version__
    assert storage.read_bytes(f"{made.out}/manifest.json") == second.dump()


def test_a_version_from_scratch_has_no_parent_and_is_judged_against_the_last_one(
    context, pipeline, registry, parent
):
    first = publish_stage.run(context(FIRST))["version"]
    made = replace(context(SECOND, recall=0.15, parent=parent(pipeline, SECOND)), mode="full")
    second = publish_stage.run(made)
    assert made.parent.version == first and registry.manifest(second["version"]).parent is None
    assert second["refused"] and second["gate"]["baseline"] == 0.2


def test_a_day_whose_user_ids_are_others_is_not_live(context, pipeline, registry, parent):
    """Nobody of it has a history to be measured by."""
    good = publish_stage.run(context(FIRST))["version"]
    made = context(SECOND, users=0, parent=parent(pipeline, SECOND))
    FeaturesReport(users=3).write(made.inputs["features"])
    outcome = publish_stage.run(made)
    assert registry.live() == good and not outcome["live"]
    assert outcome["refused"] == [
        "0 of the day's 3 users have a history to measure the version on; on the baseline's day, 500"
        " users had one. Logs may be missing. Or user ids may be written differently, so that all users"
        " look new. Correct the logs, and run the day again"
    ]


def test_a_worse_version_is_stored_and_not_live(context, pipeline, registry, parent):
    good = publish_stage.run(context(FIRST))["version"]
    bad = publish_stage.run(context(SECOND, recall=0.15, parent=parent(pipeline, SECOND)))
    assert not bad["live"] and registry.live() == good
    assert [("recall@50" in r, "0.1500" in r, "0.1800" in r) for r in bad["refused"]] == [
        (True, True, True)
    ]
    assert registry.log()[-1].action == "refuse" and registry.log()[-1].reason == bad["refused"][0]
    assert registry.verify(bad["version"]).quality.candidate == 0.15
    assert parent(pipeline, THIRD).version == good


def test_a_loss_that_was_overruled_is_not_pooled_with_the_days_after(
    context, pipeline, registry, parent
):
    def measured(against, users, mean):
        one = {"mean": mean, "base": 0.2, "deviation": 0.1, "differ": 50}
        together = {"users": users, "by_measure": {"recall@50": one}}
        return {"against": against, "two_tower": together}

    first = publish_stage.run(context(FIRST))["version"]
    bad = publish_stage.run(context(SECOND, recall=0.1, parent=parent(pipeline, SECOND)))["version"]
    registry.promote(bad, reason="known holiday", despite_gate=True)
    line = {str(SECOND): measured(first, 190, -0.1), str(THIRD): measured(bad, 60, 0.0)}
    made = context(THIRD, users=60, parent=parent(pipeline, THIRD), line=line)
    summary = publish_stage.run(made)
    assert summary["refused"] == [] and summary["live"]


def test_vectors_of_another_run_are_not_published(context, registry):
    made, other = context(FIRST), context(SECOND, items=299)
    mixed = {**made.inputs, "features": other.inputs["features"]}
    with pytest.raises(BadData, match=r"299 items.*300 vectors"):
        publish_stage.run(replace(made, inputs=mixed))
    assert registry.log() == []


def test_publishing_again_is_the_same_version_until_it_is_pruned(context, registry):
    made = context(FIRST)
    first = publish_stage.run(made)
    newer = publish_stage.run(context(SECOND, seed=1))
    assert publish_stage.run(made) == {**first, "live": False} and len(registry.log()) == 2
    registry.delete(first["version"])
    again = publish_stage.run(made)
    assert again["version"] != first["version"] and again["version"].startswith("2024-05-01-")
    assert registry.live() == newer["version"]
    assert registry.accepted_before(SECOND).version == again["version"]


def test_the_runner_reports_a_refusal_each_time(context, pipeline, registry, parent):
    publish_stage.run(context(FIRST))
    made = context(SECOND, recall=0.1, parent=parent(pipeline, SECOND))
    commit(pipeline, made)
    for _ in range(2):
        with pytest.raises(GateRefused) as refused:
            runner.run_stage(DayRun(pipeline, SECOND), "publish")
        version = registry.log()[-1].version
        assert f'twinspire promote PIPELINE {version} --despite-gate "REASON"' in str(refused.value)
        assert "0.1000" in str(refused.value) and refused.value.exit_code == 4
    assert [e.action for e in registry.log()] == ["publish", "refuse"]
    registry.promote(version, reason="known holiday", despite_gate=True)
    assert parent(pipeline, THIRD).version == registry.live() == version


@pytest.mark.parametrize("pipeline", ["disk", "gs", "s3"], indirect=True)
def test_the_runner_publishes_again_what_was_pruned(context, pipeline, registry, parent):
    first = publish_stage.run(context(FIRST))["version"]
    made = context(SECOND, parent=parent(pipeline, SECOND))
    commit(pipeline, made)
    actual = [runner.run_stage(DayRun(pipeline, SECOND), "publish") for _ in range(2)]
    assert [t["status"] for t in actual] == ["done", "already done"]
    registry.rollback(first, reason="to prune it")
    registry.delete(actual[1]["version"])
    again = [runner.run_stage(DayRun(pipeline, SECOND), "publish") for _ in range(2)]
    assert [t["status"] for t in again] == ["done", "already done"]
    actions = [e.action for e in registry.log()]
    assert actions == ["publish", "publish", "rollback", "prune", "publish"]
    assert registry.live() == again[0]["version"] == again[1]["version"] != actual[0]["version"]
    assert registry.verify(registry.live())


def commit(pipeline, made):
    """Commits the working files, as the runner does."""
    before = {}
    for stage, uri in made.inputs.items():
        config = stages.config_digest(pipeline, stages.STAGES[stage])
        data = {"mode": made.mode, "parent": made.parent.version, "inputs": dict(before)}
        attempts.commit(
            Attempt(uri=uri, key=stage, config=config, output=stage, summary={}, **data)
        )
        before[stage] = attempts.name(pipeline, uri)


@pytest.mark.parametrize(
    ("lists", "high", "accepted"),
    [("holdout", -0.01, False), ("holdout", 0.01, True), ("trees", -0.11, False)],
)
def test_the_gate_reads_how_sure_a_loss_is(
    context, pipeline, registry, parent, tmp_path, lists, high, accepted
):
    """A fifth is lost of the two-tower's recall, or of the trees'."""
    publish_stage.run(context(FIRST))
    made = context(SECOND, parent=parent(pipeline, SECOND))
    place = storage.join(made.inputs["measure"], "metrics.json")
    told = json.loads(storage.read_bytes(place))
    change = {"recall@50": {"change": -0.2, "differ": 80, "low": -0.4, "high": high}}
    lost = {"users": 500, "change": change}
    lost |= {"candidate": {"recall@50": 0.16}, "baseline": {"recall@50": 0.2}}
    of_trees = {"ranker": {"fitted": {"queries": 9, "days": [str(FIRST)]}, "holdout": lost}}
    told |= {"holdout": lost} if lists == "holdout" else of_trees
    storage.write_bytes(place, json.dumps(told).encode())
    summary = publish_stage.run(made)
    assert (summary["refused"] == []) == accepted
    assert f"-40.0% to {high:+.1%}" in str(summary["refused"] + summary["notes"])
    assert ("of the ranker" in str(summary["refused"])) == (lists == "trees")
    assert registry.manifest(summary["version"]).quality.model_dump() == summary["gate"]


def test_airflow_reports_the_figure_of_the_served_lists(context, parent, pipeline):
    """From what the stage returns, as the last line of its output holds it."""
    from twinspire.airflow.telling_others import announcement, last_lines

    publish_stage.run(context(FIRST))
    made = context(SECOND, recall=0.25, parent=parent(pipeline, SECOND))
    place = storage.join(made.inputs["measure"], "metrics.json")
    measured = json.loads(storage.read_bytes(place))
    served = {"users": 500, "candidate": {"recall@50": 0.375}}
    measured |= {"fixed_order": {"holdout": served}}
    measured["holdout"]["baselines"] = {"purchase_history": {"recall@50": 0.3}}
    storage.write_bytes(place, json.dumps(measured).encode())
    result = json.loads(json.dumps(publish_stage.run(made)))
    result |= {"status": "done", "folder": f"/r/{result['version']}", "day": str(SECOND)}
    about = {"version": result["version"], "day": str(SECOND)}
    assert announcement(result) == {**about, "recall@50": 0.375}
    first, quality, report = last_lines(result)
    assert first == f"{result['version']} is live."
    assert "served 0.375, past purchases 0.300" in quality and "25.0% better" in quality
    assert report == f"Report: /r/{result['version']}/report.html"
    refused = {**result, "status": "GateRefused", "served": None, "reason": "it fell"}
    assert "refused" in last_lines(refused)[0] and "it fell" in last_lines(refused)[1]
    assert last_lines({"status": "TryAgain", "folder": None, "reason": "no answer"}) == []


@pytest.mark.parametrize("on_skew", ["warn", "refuse"])
def test_features_that_differ_from_training_are_reported(context, pipeline, registry, on_skew):
    gate = pipeline.gate.model_copy(update={"on_skew": on_skew})
    made = context(FIRST, pipeline=pipeline.model_copy(update={"gate": gate}))
    FeaturesReport(skew=[skew()]).write(made.inputs["features"])
    summary = publish_stage.run(made)
    texts = summary["notes"] if on_skew == "warn" else summary["refused"]
    assert any(text.startswith("brand differs between training and serving") for text in texts)
    assert bool(summary["refused"]) == (on_skew == "refuse")
    report = registry.read(summary["version"], "report.html").decode()
    assert "Features in serving and in training" in report and "0.90" in report
