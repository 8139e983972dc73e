"""`twinspire tune`: which settings it tries, what it keeps, and what it says. What a setting finds is
made up here; tests/system/test_tune.py trains.
"""

import fcntl
import json
import tomllib
from datetime import date
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from tests.shop import lay_out
from twinspire.cli import tune
from twinspire.cli.main import app
from twinspire.tuning import search, tried_settings
from twinspire_core.config.pipeline import load
from twinspire_core.config.settings import override
from twinspire_core.errors import BadData, TryAgain, UsageError

DAYS = ("2024-03-08", "2024-03-09", "2024-03-10")
KEYS = ("train.temperature", "train.history.pooling", "train.epochs")
SEARCH = ["--days", f"{DAYS[0]}..{DAYS[2]}", "--trials", "10"]
SEARCH += [word for key in KEYS for word in ("--key", key)]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The pipeline file of a log that nothing has been run on."""
    return lay_out(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def file(shop, tmp_path):
    """The same with its own working files."""
    text = shop.read_text().replace('"events/', f'"{shop.parent}/events/')
    for table in ("items", "users"):
        text = text.replace(f'"{table}/', f'"{shop.parent}/{table}/')
    (tmp_path / "shop.toml").write_text(text)
    return tmp_path / "shop.toml"


class Killed(BaseException):
    """The process ends before it can record the end of the trial."""


@pytest.fixture
def measured(monkeypatch):
    """The settings and days that were measured; `sqrtn` finds most, at a temperature of 0.1."""
    state = SimpleNamespace(calls=[], stop_at=None, stop_by=Killed, fails=())

    def measure(run):
        train = run.pipeline.train
        state.calls.append((train.history.pooling, train.temperature, train.epochs, str(run.day)))
        if len(state.calls) == state.stop_at:
            raise state.stop_by
        if train.history.pooling in state.fails:
            raise UsageError("The loss must stay a number.")
        value = 0.5 - abs(train.temperature - 0.1) - 0.2 * (train.history.pooling != "sqrtn")
        value *= 1 + run.day.day / 100
        return {"recall@10": value, "ndcg@5": value / 2, "cpu": 7.0}

    monkeypatch.setattr(search, "run_stage", lambda *_, **__: None)
    monkeypatch.setattr(search, "measure", measure)
    return state


def trials(file, most=10, days=DAYS, keys=KEYS, **changes):
    p = override(load(file), changes)
    chosen = tried_settings.choose(p, keys)
    with search.open_search(p, chosen, [*map(date.fromisoformat, days)]) as opened:
        opened.run(most, lambda trial, number: None)
        return opened.trials()


def tuned(*arguments, code=0):
    done = CliRunner().invoke(app, ["tune", *map(str, arguments)])
    if done.exception and not isinstance(done.exception, SystemExit):
        assert getattr(done.exception, "exit_code", None) == code, done.exception
        return str(done.exception)
    assert done.exit_code == code, done.output
    return done.stdout


@pytest.mark.parametrize("stop_at", [1, 14])
def test_a_search_that_is_killed_ends_as_one_that_is_not(file, tmp_path, measured, stop_at):
    undisturbed = trials(file)
    calls, measured.calls = measured.calls, []
    measured.stop_at = stop_at
    other = {"pipeline.work_root": str(tmp_path / "other")}
    with pytest.raises(Killed):
        trials(file, **other)
    assert trials(file, **other) == undisturbed
    # The day in progress is measured again, and nothing else.
    assert measured.calls == [*calls[:stop_at], *calls[stop_at - 1 :]]
    assert len(calls) < 10 * len(DAYS)


def test_the_file_as_it_is_comes_first_and_what_is_worse_ends_early(file, measured):
    tried = trials(file)
    keys = tried_settings.choose(load(file), KEYS)
    assert tried[0].settings == tried_settings.present(load(file), keys)
    early = [trial for trial in tried if trial.outcome == "ended early"]
    done = [trial for trial in tried if trial.outcome == "done"]
    assert early and len(early) + len(done) == 10
    assert all(len(trial.days) < len(DAYS) for trial in early)
    assert all(len(trial.days) == len(DAYS) for trial in done)
    best = max(done, key=lambda trial: trial.mean("recall@10"))
    assert best.settings["train.history.pooling"] == "sqrtn"
    assert min(t.mean("recall@10") for t in early) < best.mean("recall@10")


def test_no_settings_come_twice_and_a_search_ends_with_the_last(file, measured):
    tried = trials(file, most=9, keys=["train.order"])
    assert [trial.settings["train.order"] for trial in tried] == ["time", "shuffled"]
    assert len(measured.calls) == 2 * len(DAYS)


def test_more_trials_go_on_and_anything_else_is_another_search(file, measured):
    eight = trials(file, most=8)
    assert trials(file, most=10)[:8] == eight
    assert len(trials(file, most=1)) == 10
    assert len(trials(file, most=1, **{"index.recall_target": 0.9})) == 10
    others = [{"days": DAYS[:2]}, {"keys": KEYS[:2]}, {"train.dimension": 8}]
    for other in (*others, {"window.train_days": 4}):
        assert len(trials(file, most=1, **other)) == 1, other


def test_settings_that_cannot_be_trained_with_end_their_trial_alone(file, measured):
    measured.fails = ("mean",)
    tried = trials(file)
    assert tried[0].outcome == "2024-03-08: The loss must stay a number." and not tried[0].days
    assert any(trial.outcome == "done" for trial in tried)
    out = tuned(file, *SEARCH)
    assert "The values of the file could not be measured." in out
    assert "failed: the file as it is" in out and "2024-03-08: The loss must stay a number." in out


def test_what_features_need_is_needed_by_all_trials(file, measured, monkeypatch):
    def broken(*_, **__):
        raise BadData("The file is cut off.")

    monkeypatch.setattr(search, "run_stage", broken)
    with pytest.raises(BadData, match="cut off"):
        trials(file)


def test_a_trial_that_ends_the_process_each_time_has_failed(file, measured):
    for stop_by in (Killed, KeyboardInterrupt, Killed):
        measured.stop_at, measured.stop_by = len(measured.calls) + 1, stop_by
        with pytest.raises(stop_by):
            trials(file)
    assert len(set(measured.calls)) == 1
    first, second = trials(file, most=2)
    assert first.outcome == "It ended the process 2 times." and second.outcome == "done"
    assert first.settings != second.settings


def test_the_lines_make_the_file_the_best_trial(file, measured):
    out = tuned(file, *SEARCH)
    result = json.loads(out.splitlines()[-1])
    best = result["trials"][0]
    means = [t["recall@10"] for t in result["trials"] if t["outcome"] == "done"]
    assert means == sorted(means, reverse=True)
    days = [day["recall@10"] for day in best["days"].values()]
    assert best["recall@10"] == pytest.approx(sum(days) / 3)
    begin = out.index("\n[train")
    lines = out[begin : out.index("\n\n", begin)]
    assert 'pooling = "sqrtn"  # "mean"' in lines
    changed = override(load(file), flat(tomllib.loads(lines)))
    keys = tried_settings.choose(changed, KEYS)
    assert tried_settings.present(changed, keys) == best["settings"]
    assert "better on 3 of 3 days" in out
    assert "Do not judge the change on 2024-03-08 to 2024-03-10" in out


def flat(tables, before=""):
    leaves = {}
    for key, value in tables.items():
        name = f"{before}{key}"
        leaves |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return leaves


def test_every_value_that_may_be_tried_is_one_of_the_pipeline_file(shop):
    p = load(shop)
    keys = tried_settings.choose(p)
    now = tried_settings.present(p, keys)
    assert len(keys) == len(tried_settings.KEYS) <= 10
    for key in keys:
        numbers = [key.number(now[key.name], n) for n in range(-key.reach, key.reach + 1)]
        for value in key.choices or numbers:
            made = override(p, {key.name: value})
            assert tried_settings.present(made, [key])[key.name] == value


def test_a_search_that_cannot_be_made_is_refused_before_any_work(file, measured, monkeypatch):
    of_day = ("--days", DAYS[0])
    for options, message in (
        ((*of_day, "--key", "train.temprature"), "did you mean 'train.temperature'?"),
        (("--days", "2024-03-30"), "has days 2024-03-01 to"),
        (("--days", "2024-03-01"), "has none in the 4 days before it"),
        (("--days", "2024-03-09..2024-03-08"), "an earlier day to a later one"),
    ):
        assert message in tuned(file, *options, code=2)
    remote = override(load(file), {"pipeline.work_root": "gs://bucket/work"})
    with (
        pytest.raises(UsageError, match="a local work_root"),
        search.open_search(remote, tried_settings.choose(remote), [date(2024, 3, 8)]),
    ):
        pass
    monkeypatch.setattr(tune, "find_spec", lambda name: None)
    assert "pip install 'twinspire[tune]'" in tuned(file, *of_day, code=2)
    assert not measured.calls


def test_one_search_at_a_time(file, measured):
    trials(file, most=1)
    with (file.parent / "work/shop/tuning/search.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TryAgain, match="another search"):
            trials(file, most=2)
