"""What makes a stage stale, and what does not: settings, releases, formats."""

import json
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from pydantic import Field

from twinspire.runs import live_catalogue, runner, stage_tasks, task_attempts
from twinspire.runs.cache_keys import DEFAULTS, config_digest, stage_key
from twinspire.runs.day_run import DayRun
from twinspire.runs.stages import REFRESH, STAGES
from twinspire_core import messages
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.tables.base import ADDED, was
from twinspire_core.config.tables.data import SourceConfig
from twinspire_core.config.tables.deployment import BeamConfig, RegistryConfig, ServingConfig
from twinspire_core.config.tables.gate import GateConfig
from twinspire_core.config.tables.training import FrequencyConfig, TrainConfig
from twinspire_core.contracts import attempts
from twinspire_core.contracts.stage_context import BestAccepted, Start

RELEASES = sorted(Path(__file__).parents[2].glob("data/work_*"))


def pipeline(**mix) -> Pipeline:
    return Pipeline.model_validate(
        {
            "pipeline": {"name": "tiny"},
            "source": {"events": "/none/dt={date}/"},
            "columns": {"user": "user", "item": "item", "time": "time"},
            "features": {
                "user": {"kind": "id", "tower": "query"},
                "item": {"kind": "id", "tower": "item"},
            },
            "mix": mix,
        }
    )


def test_which_lists_count_concerns_weights_and_the_gate_alone():
    """By default nothing is as if the key were not there."""
    before = pipeline()
    for exclude_seen, stages in ((False, set()), (True, {"train", "publish"})):
        after = before.model_copy(update={"serving": ServingConfig(exclude_seen=exclude_seen)})
        assert {
            name
            for name, s in STAGES.items()
            if config_digest(before, s) != config_digest(after, s)
        } == stages


TOWERS = {"sources": ["two_tower", "past"]}  # nothing that is counted by pairs


@pytest.mark.parametrize(
    ("one", "other", "stages"),
    [
        ({}, {"min_users": 7}, {"train"}),
        ({}, {"sources": ["two_tower", "co_occurrence"]}, {"train"}),
        ({}, {"neighbours": 7}, {"features", "train"}),
        ({}, TOWERS, {"features", "train"}),
        (TOWERS, {**TOWERS, "neighbours": 7}, {"train"}),
        (TOWERS, {"sources": [*TOWERS["sources"], "trending"]}, {"features", "train"}),
        (TOWERS, {"sources": [*TOWERS["sources"], "personal"]}, {"features", "train"}),
    ],
)
def test_only_the_stages_that_use_a_setting_depend_on_it(one, other, stages):
    before, after = pipeline(**one), pipeline(**other)
    assert {
        name for name, s in STAGES.items() if config_digest(before, s) != config_digest(after, s)
    } == stages


def test_what_is_done_about_a_refused_version_makes_no_day_stale():
    before = pipeline()
    after = before.model_copy(update={"gate": GateConfig(refresh_refused=False)})
    for stage in (*STAGES.values(), REFRESH):
        assert config_digest(after, stage) == config_digest(before, stage), stage.name


def test_how_many_shards_work_makes_no_day_stale():
    """Files had the rows of a shard once: what was made then still depends on how many there were."""
    one = pipeline()
    other = one.model_copy(update={"beam": BeamConfig(shards=5)})
    for defaults, stale in ((0, {"features"}), (2, {"features"}), (DEFAULTS, set())):
        assert {
            name
            for name, s in STAGES.items()
            if config_digest(one, s, defaults) != config_digest(other, s, defaults)
        } == stale


def test_another_registry_makes_no_day_stale():
    """Its path was in the keys: what was made then stays done where it was made."""
    one = pipeline()
    other = one.model_copy(update={"registry": RegistryConfig(root="/moved/registry")})
    for defaults, stale in ((0, True), (3, True), (DEFAULTS, False)):
        for stage in (STAGES["publish"], REFRESH):
            found = config_digest(one, stage, defaults) != config_digest(other, stage, defaults)
            assert found == stale, (stage.name, defaults)


class LaterFrequency(FrequencyConfig):
    patience: int = Field(7, json_schema_extra=ADDED)


class LaterTrain(TrainConfig):
    frequency: LaterFrequency = Field(default_factory=LaterFrequency)
    warmth: tuple[float, ...] = Field((0.5,), json_schema_extra=ADDED)


class OtherTrain(TrainConfig):
    batch_size: int = Field(512, json_schema_extra=was(256))


class Other(Pipeline):
    """A pipeline file of a release that has changed a default."""

    train: OtherTrain = Field(default_factory=OtherTrain)


@pytest.mark.parametrize(
    ("set_to", "then", "now"),
    [
        (None, set(), {"train"}),
        (256, set(), set()),
        (512, {"train"}, {"train"}),
        (128, {"train"}, {"train"}),
    ],
)
def test_a_default_that_has_changed_leaves_past_days_done(set_to, then, now):
    """What was made when it was 256 is done where the file has 256 or nothing; what is made now, by
    what it has now.
    """
    before = pipeline()
    tables = before.model_dump(exclude_unset=True) | {
        "train": {"batch_size": set_to} if set_to else {}
    }
    after = Other.model_validate(tables)
    assert after.train.batch_size == (set_to or 512)
    for old, stages in ((0, then), (DEFAULTS, now)):
        assert {
            name
            for name, s in STAGES.items()
            if config_digest(after, s, old) != config_digest(before, s, old)
        } == stages


@pytest.mark.parametrize(
    ("set_to", "stale_before", "stale_now"),
    [(None, False, False), (1.0, False, True), (0.9, True, False), (0.5, True, True)],
)
def test_a_key_whose_default_changes_what_is_made_leaves_past_days_done(
    set_to, stale_before, stale_now
):
    """Days from before there was `train.slot_decay` were made as by 1; the default is another."""
    table = {} if set_to is None else {"slot_decay": set_to}
    tables = pipeline().model_dump(exclude_unset=True)
    without = Pipeline.model_validate(tables)
    edited = Pipeline.model_validate(tables | {"train": table})
    for defaults, stale in ((0, stale_before), (1, stale_before), (DEFAULTS, stale_now)):
        assert {
            name
            for name, s in STAGES.items()
            if config_digest(edited, s, defaults) != config_digest(without, s, defaults)
        } == ({"train"} if stale else set()), defaults


def test_what_is_trained_now_says_how_slots_decay():
    train = STAGES["train"]
    assert config_digest(pipeline(), train, 1) != config_digest(pipeline(), train, DEFAULTS)
    kept = pipeline().model_copy(update={"train": TrainConfig(slot_decay=1.0)})
    assert config_digest(kept, train, 1) == config_digest(pipeline(), train, 1)


def test_days_trained_without_decay_stay_done_until_the_file_names_another(left_behind, remade):
    day = attempts.days(left_behind)[-1]

    def status(slot_decay):
        train = left_behind.train.model_dump(exclude={"slot_decay"})
        train |= {} if slot_decay is None else {"slot_decay": slot_decay}
        p = left_behind.model_copy(update={"train": TrainConfig.model_validate(train)})
        return runner.run_stage(DayRun(p, day), "train")["status"]

    assert [status(x) for x in (None, 1.0, None)] == ["already done"] * 3
    assert [status(x) for x in (0.9, None)] == ["done", "already done"]
    assert [status(x) for x in (1.0, 1.0, None)] == ["done", "already done", "done"]


class LaterSource(SourceConfig):
    late_days: int = Field(0, json_schema_extra=ADDED)


class Later(Pipeline):
    """A pipeline file of a release to come."""

    source: LaterSource
    train: LaterTrain = Field(default_factory=LaterTrain)
    weather: LaterTrain = Field(default_factory=LaterTrain, json_schema_extra=ADDED)


@pytest.mark.parametrize(
    ("tables", "stages"),
    [
        ({}, set()),
        ({"train": {"warmth": [0.5], "frequency": {"patience": 7}}, "weather": {}}, set()),
        ({"train": {"warmth": [0.5, 0.5]}}, {"train"}),
        ({"train": {"frequency": {"patience": 8}}}, {"train"}),
        ({"source": {"events": "/none/dt={date}/", "late_days": 1}}, {"features", "embed"}),
        ({"weather": {"epochs": 7}}, {"embed"}),
    ],
)
def test_a_key_that_came_later_concerns_a_stage_only_when_it_is_set(tables, stages):
    before = pipeline()
    after = Later.model_validate(before.model_dump(exclude_unset=True) | tables)
    uses = {**STAGES, "embed": replace(STAGES["embed"], config=("weather", "source.late_days"))}
    then = {name: config_digest(before, stage) for name, stage in STAGES.items()}
    assert {
        name for name, stage in uses.items() if config_digest(after, stage) != then[name]
    } == stages


def test_days_made_before_a_moment_had_parts_stay_done_until_one_is_left_out():
    """The digests are what the release printed that did not know them."""
    before = {"features": "8a0ebbac3120", "train": "291c48cd484d"}
    for parts, is_done in ((None, True), (["hour", "weekday"], True), (["hour"], False)):
        tables = pipeline().model_dump(exclude_unset=True)
        tables["features"]["when"] = {"kind": "time"} | ({"parts": parts} if parts else {})
        now = Pipeline.model_validate(tables)
        for stage, digest in before.items():
            is_same = config_digest(now, STAGES[stage], 0).startswith(digest)
            assert is_same == is_done, (parts, stage)


@pytest.fixture(params=RELEASES, ids=lambda home: home.name)
def left_behind(request, tmp_path, monkeypatch):
    """The working files and the registry of an earlier release, and its pipeline file with every
    key written out.
    """
    shutil.copytree(request.param, tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    return Pipeline.model_validate(json.loads(Path("pipeline.json").read_text()))


@pytest.fixture
def remade(left_behind, monkeypatch):
    """Stages that are run commit what their newest attempt has, as if it were new."""

    def make(run, task, *, key, config):
        last = attempts.latest(left_behind, run.day, task.stage.name)
        changes = {
            "uri": attempts.begin(left_behind, run.day, task.stage.name),
            "key": key,
            "config": config,
            "defaults": DEFAULTS,
        }
        made = last.model_copy(update=changes)
        attempts.commit(made)
        return made

    monkeypatch.setattr(task_attempts, "_make", make)


def test_what_an_earlier_release_committed_stays_done(left_behind):
    days = attempts.days(left_behind)
    told = [runner.run_stage(DayRun(left_behind, day), name) for day in days for name in STAGES]
    told.append(live_catalogue.refresh(DayRun(left_behind, days[-1])))
    assert [one["status"] for one in told] == ["already done"] * (2 * len(STAGES) + 1)


def test_days_trained_with_one_hash_stay_done_until_the_file_names_another_number(
    left_behind, remade
):
    """The frequency estimate has two by default since."""
    day = attempts.days(left_behind)[-1]

    def status(hashes):
        # Without the key that came later, whose default of now was not that of then.
        left_out = {"frequency": {"hashes"}, "slot_decay": True}
        train = left_behind.train.model_dump(exclude=left_out)
        train["frequency"] |= {"hashes": hashes} if hashes else {}
        p = left_behind.model_copy(update={"train": TrainConfig.model_validate(train)})
        assert p.train.frequency.hashes == (hashes or 2)
        run = DayRun(p, day)
        done = [runner.run_stage(run, name)["status"] for name in ("train", "embed")]
        assert done[1] == "already done", "it reads what train made"
        return done[0]

    assert [status(n) for n in (None, 1, 2)] == ["already done", "already done", "done"]
    assert [status(n) for n in (None, 1, 1)] == ["already done", "done", "already done"], (
        "two by default is not one"
    )
    assert [status(n) for n in (None, 2)] == ["done", "already done"]


def test_a_stage_of_another_format_is_done_again():
    stage = STAGES["embed"]
    keys = {
        stage_key(replace(stage, format=n), day=str(date(2024, 3, d)))
        for n in (1, 2, 3)
        for d in (1, 2)
    }
    assert len(keys) == 6


def test_an_index_is_made_again_when_it_would_start_from_another_version(left_behind, monkeypatch):
    keys = dict[str | None, str]()

    def make(run, task, *, key, config):
        keys[task.context.start.version] = key
        return attempts.latest(left_behind, run.day, task.stage.name)

    monkeypatch.setattr(task_attempts, "_make", make)
    for version in ("2024-02-29-0000000a", "2024-02-29-0000000b"):
        vectors = attempts.latest(left_behind, date(2024, 3, 1), "embed").output
        starts = {vectors: Start(version=version)}
        monkeypatch.setattr(
            stage_tasks, "find_start", lambda _, vectors, starts=starts: starts[vectors]
        )
        run = DayRun(left_behind, date(2024, 3, 1))
        assert runner.run_stage(run, "index")["status"] == "done"
        assert runner.run_stage(run, "embed")["status"] == "already done"
    assert len(set(keys.values())) == 2


def test_a_day_is_trained_again_when_it_would_be_measured_against_another_best_version(
    left_behind, monkeypatch
):
    keys = dict[str | None, str]()

    def make(run, task, *, key, config):
        best = task.context.besides
        keys[best.version if best else None] = key
        return attempts.latest(left_behind, run.day, task.stage.name)

    monkeypatch.setattr(task_attempts, "_make", make)
    day = date(2024, 3, 2)
    parent = DayRun(left_behind, day).parent()

    def run_train(version):
        best = version and BestAccepted(version=version, home="")
        monkeypatch.setattr(DayRun, "best", lambda _: best)
        return runner.run_stage(DayRun(left_behind, day), "train")["status"]

    # The parent is measured anyway: what was done before there was a memory stays done.
    assert run_train(None) == run_train(parent.version) == "already done"
    assert run_train("2024-02-28-0000000a") == run_train("2024-02-29-0000000b") == "done"
    assert len(set(keys.values())) == 2
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

    return left_behind.model_copy(
        update={"source": left_behind.source.model_copy(update={"late_days": 1})}
    ), come


def test_a_refresh_is_made_again_when_events_came_late(waiting, monkeypatch):
    """Nothing goes on from a refresh, so a few late events cost nothing more than another one."""
    (p, come), day, keys = waiting, date(2024, 3, 2), list[str]()

    def make(run, task, *, key, config):
        keys.append(key)
        return attempts.latest(p, day, "refresh").model_copy(update={"key": key})

    monkeypatch.setattr(task_attempts, "_make", make)
    for late in (0, 1, 2, 2):
        come(late)
        assert live_catalogue.refresh(DayRun(p, day))["status"] == "done"
    assert keys[2] == keys[3] and len(set(keys)) == 3


def test_a_day_that_is_done_stays_so_and_tells_how_to_take_late_events_in(
    waiting, remade, monkeypatch, capsys
):
    (p, come), day = waiting, date(2024, 3, 2)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(messages, "_typed", "PIPELINE")  # whatever a command named before

    def told(status="already done"):
        assert runner.run_stage(DayRun(p, day), "features")["status"] == status
        return capsys.readouterr().err

    assert told("done") == told() == ""
    come(3)
    assert f"3 events of {day} came late" in (text := told())
    assert text.rstrip().endswith(f"twinspire run PIPELINE --date {day} --late")
    Path("events/dt=2024-03-03/part.csv").write_text("who,what\n")
    assert f"Whether events of {day} came late since cannot be told: " in told()
