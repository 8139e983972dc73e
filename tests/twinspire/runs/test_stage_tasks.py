import json
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.tiny_pipeline import tiny_pipeline
from twinspire.runs import live_catalogue, runner, stage_tasks
from twinspire.runs.day_run import DayRun
from twinspire.runs.stages import REFRESH, STAGES, config_digest, stage_key
from twinspire_core import errors
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.settings import override
from twinspire_core.contracts import attempts, ranker_files
from twinspire_core.contracts.attempts import BestAccepted, Parent, Start

WORK = Path(__file__).parents[2] / "data" / "work"


PLAIN = {"sources.use": ["two_tower", "history", "popular"]}  # nothing is fitted
BUYS = {"columns.event": "type", "columns.positives": ["buy"]}
RATED = BUYS | {"columns.label": "stars"}


@pytest.mark.parametrize(
    ("settings", "changes", "stages"),
    [
        ({}, {"beam.shards": 5}, set()),
        ({}, {"registry.root": "/moved/registry"}, set()),
        ({}, {"lists.new_share": 0.3}, set()),  # changed between two requests
        ({}, {"serving.exclude_seen": False}, set()),  # as if the key were not there
        ({}, {"serving.exclude_seen": True}, {"measure", "publish"}),
        ({"serving.user_store": False}, {"serving.user_store": 5}, {"measure", "publish"}),
        ({"serving.user_store": False}, {"serving.user_store": True}, {"measure", "publish"}),
        ({"serving.user_store": 5}, {"serving.user_store": True}, {"publish"}),
        ({"serving.user_store": 1}, {"serving.user_store": True}, {"publish"}),
        (PLAIN, {"sources.use": ["two_tower", "history"]}, {"measure"}),
        (PLAIN, {"sources.use": [*PLAIN["sources.use"], "co_occurrence"]}, {"features", "measure"}),
        (PLAIN, {"sources.use": [*PLAIN["sources.use"], "neighbours"]}, {"features", "measure"}),
        (PLAIN, {"sources.use": ["two_tower"]}, {"features", "train", "measure"}),
        (BUYS, RATED, {"features"}),
        (BUYS, {"columns.weights": {"buy": 2.0}}, {"features"}),
        (RATED, {"train.auxiliary.weight": 0.5}, {"train", "measure"}),
    ],
)
def test_only_the_stages_that_use_a_setting_depend_on_it(settings, changes, stages):
    """The others see the output of these."""
    before = override(tiny_pipeline(), {"serving.user_store": True, **settings})
    after = override(before, changes)
    changed = {
        stage.name
        for stage in (*STAGES.values(), REFRESH)
        if config_digest(before, stage) != config_digest(after, stage)
    }
    assert changed - {"refresh"} == stages
    assert stages or not changed, "nor is a refresh made again"


@pytest.fixture
def left_behind(tmp_path, monkeypatch):
    """Working files and a registry of two days and a refresh, by today's keys: stages that are run commit
    what their newest attempt has, as if it were new.
    """

    def make(run, task):
        last = attempts.latest(run.pipeline, run.day, task.stage.name)
        uri = attempts.begin(run.pipeline, run.day, task.stage.name)
        made = last.model_copy(update={"uri": uri, "key": task.key, "config": task.config})
        attempts.commit(made)
        return made

    monkeypatch.setattr(stage_tasks, "_make", make)
    shutil.copytree(WORK, tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    made = Pipeline.model_validate(json.loads(Path("pipeline.json").read_text()))
    for day in attempts.days(made):
        for name in STAGES:
            runner.run_stage(DayRun(made, day), name)
    live_catalogue.refresh(DayRun(made, day))
    return made


@pytest.fixture
def keys(left_behind, monkeypatch):
    """Keys of the tasks that are done; nothing is made."""
    keys = []

    def make(run, task):
        keys.append(task.key)
        return attempts.latest(run.pipeline, run.day, task.stage.name)

    monkeypatch.setattr(stage_tasks, "_make", make)
    return keys


def test_a_stage_of_another_format_is_done_again():
    stage = STAGES["embed"]
    keys = {stage_key(replace(stage, format=n), day="2024-03-01") for n in (1, 2, 3)}
    assert len(keys | {stage_key(stage, day="2024-03-02")}) == 4


def test_an_index_is_made_again_when_it_would_start_from_another_version(
    left_behind, keys, monkeypatch
):
    for version in ("2024-02-29-0000000a", "2024-02-29-0000000b"):
        start = Start(version=version)
        monkeypatch.setattr(stage_tasks, "find_start", lambda run, parent, start=start: start)
        run = DayRun(left_behind, date(2024, 3, 1))
        assert runner.run_stage(run, "index")["status"] == "done"
        assert runner.run_stage(run, "embed")["status"] == "already done"
    assert len(set(keys)) == 2


def test_a_day_is_trained_again_when_it_would_be_measured_against_another_best_version(
    left_behind, keys, monkeypatch
):
    day = date(2024, 3, 2)
    parent = DayRun(left_behind, day).parent()

    def run_train(version):
        best = version and BestAccepted(version=version, home="")
        monkeypatch.setattr(DayRun, "best", lambda _: best)
        return runner.run_stage(DayRun(left_behind, day), "train")["status"]

    # The parent is measured anyway: what was done before there was a memory stays done.
    assert run_train(None) == run_train(parent.version) == "already done"
    assert run_train("2024-02-28-0000000a") == run_train("2024-02-29-0000000b") == "done"
    assert len(set(keys)) == 2
    assert runner.run_stage(DayRun(left_behind, day), "features")["status"] == "already done"


@pytest.fixture
def waiting(left_behind):
    """The same with `source.late_days`, and a function that lays out a folder of the day after the
    last.
    """
    lines = Path("events/dt=2024-03-02/part.csv").read_text().splitlines()
    later = Path("events/dt=2024-03-03/part.csv")
    later.parent.mkdir()

    def come(late):
        later.write_text("\n".join(lines[: late + 1]) + "\n")

    return override(left_behind, {"source.late_days": 1}), come


def test_a_refresh_is_made_again_when_events_came_late(waiting, keys):
    """Nothing goes on from a refresh, so a few late events cost nothing more than another one."""
    (p, come), day = waiting, date(2024, 3, 2)
    for late in (0, 1, 2, 2):
        come(late)
        assert live_catalogue.refresh(DayRun(p, day))["status"] == "done"
    assert keys[2] == keys[3] and len(set(keys)) == 3


def test_a_day_that_is_done_stays_so_and_tells_how_to_take_late_events_in(
    waiting, monkeypatch, capsys
):
    (p, come), day = waiting, date(2024, 3, 2)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(errors, "_typed", "PIPELINE")  # whatever a command named before

    def warned(status="already done"):
        assert runner.run_stage(DayRun(p, day), "features")["status"] == status
        return capsys.readouterr().err

    assert warned("done") == warned() == ""
    come(3)
    assert f"3 events of {day} came after it was run" in (text := warned())
    assert text.rstrip().endswith(f"twinspire run PIPELINE --date {day} --late")
    Path("events/dt=2024-03-03/part.csv").write_text("who,what\n")
    assert warned() == "", "a broken folder of a later day stops nothing"


def _keep_rows(folder: Path, form: bytes = ranker_files.ROWS_FORMAT):
    metadata = ranker_files.metadata(("history",))
    metadata = {k: form if v == ranker_files.ROWS_FORMAT else v for k, v in metadata.items()}
    table = pa.table({"taken": [[True]]}).replace_schema_metadata(metadata)
    (folder / ranker_files.ROWS).mkdir(parents=True)
    pq.write_table(table, folder / ranker_files.ROWS / "dt=2024-03-01.parquet")


def test_features_replay_days_where_no_parent_has_rows_for_a_ranker(tmp_path, monkeypatch):
    shutil.copytree(WORK, tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    made = json.loads(Path("pipeline.json").read_text())
    p, day = Pipeline.model_validate(made), date(2024, 3, 2)
    _keep_rows(tmp_path / "kept")
    _keep_rows(tmp_path / "other", b"0")

    def planned(parent, p=p):
        monkeypatch.setattr(DayRun, "parent", lambda _: parent)
        return stage_tasks.plan_stage(DayRun(p, day), STAGES["features"], "incremental", "auto")

    def parent(kept, at=date(2024, 3, 1)):
        return Parent(day=at, version="v", home="", train="", measure=str(tmp_path / kept))

    first, later = planned(None), planned(parent("kept"))
    assert first.context.replays and first.facts["replays"]
    assert not later.context.replays and "replays" not in later.facts
    for other in ("other", "nothing"):
        assert planned(parent(other)).context.replays, other
    assert not planned(parent("kept", date(2024, 2, 24))).context.replays
    assert planned(parent("kept", date(2024, 2, 23))).context.replays, "a gap of seven days"
    without = Pipeline.model_validate(made | {"sources": {"use": ["two_tower"]}})
    assert not planned(None, without).context.replays
    # Several days at the same time: when the second is looked at again, the first is its parent.
    uri = attempts.begin(p, day, "features")
    last = attempts.latest(p, day, "features")
    summary = last.summary | {"replayed": {"2024-03-01": 5}}
    attempts.commit(last.model_copy(update={"uri": uri, "summary": summary}))
    assert planned(parent("kept")).facts["replays"]
