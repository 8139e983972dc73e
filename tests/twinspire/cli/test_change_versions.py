"""What `prune` takes for unused and for old."""

import json
from datetime import date, timedelta
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from index_builder.registry.parents import parent_of
from index_builder.registry.registry import Registry
from tests.published import described
from tests.twinspire.cli.test_day_steps import FILE
from twinspire.cli import change_versions
from twinspire.cli.change_versions import unused_working_files
from twinspire.cli.main import app
from twinspire.runs import run_leases
from twinspire_core import storage
from twinspire_core.config.pipeline import load
from twinspire_core.contracts import attempts
from twinspire_core.contracts.attempts import Attempt
from twinspire_core.errors import UsageError

DAY = date(2024, 2, 21)


@pytest.fixture
def pipeline(tmp_path):
    return SimpleNamespace(name="shop", pipeline=SimpleNamespace(work_root=str(tmp_path)))


def commit(pipeline, day=DAY, stage="features", **inputs):
    uri = attempts.begin(pipeline, day, stage)
    read = {name: attempts.name(pipeline, at) for name, at in inputs.items()}
    made = {"key": "", "config": "", "output": "", "mode": "full", "parent": None, "summary": {}}
    attempts.commit(Attempt(uri=uri, inputs=read, **made))
    return uri


def unused(pipeline):
    return unused_working_files(pipeline, set(), keep_days=7, as_of=DAY)


def test_what_a_newer_attempt_replaced_is_unused(pipeline):
    first, second = commit(pipeline), commit(pipeline)
    assert unused(pipeline) == [first]
    commit(pipeline)
    assert unused(pipeline) == [first, second]


def test_what_a_later_stage_was_made_from_stays_when_it_is_made_again(pipeline):
    """To the same bytes, after a limit of `[statistics]` was changed, say: the day is not stale."""
    first = commit(pipeline)
    commit(pipeline, stage="train", features=first)
    second = commit(pipeline)
    assert unused(pipeline) == []
    trained = commit(pipeline, stage="train", features=second)
    assert unused(pipeline)[0] == first and trained not in unused(pipeline)
    later = DAY + timedelta(days=8)
    assert len(unused_working_files(pipeline, set(), keep_days=7, as_of=later)) == 4


def test_an_attempt_that_is_committed_meanwhile_does_no_harm(pipeline, monkeypatch):
    first = commit(pipeline)
    list_names = storage.list_names

    def list_and_commit(uri):
        names = list_names(uri)
        if uri.endswith("/features"):
            monkeypatch.undo()
            commit(pipeline)
        return names

    monkeypatch.setattr(storage, "list_names", list_and_commit)
    assert unused(pipeline) == []
    assert unused(pipeline) == [first]


def test_an_old_day_that_is_being_made_keeps_its_files_until_its_run_has_ended(pipeline):
    home = commit(pipeline)
    later = DAY + timedelta(days=8)

    def old():
        return unused_working_files(pipeline, set(), keep_days=7, as_of=later)

    run_leases.acquire_day(pipeline, DAY, "backfill")
    assert old() == []
    run_leases.write(pipeline, DAY, "backfill", "failed")
    assert old() == [home]


@pytest.fixture
def backfilled(tmp_path):
    """A pipeline file, and a function that makes what the run of a day leaves: working files and a
    version.
    """
    file = tmp_path / "shop.toml"
    file.write_text(FILE.format(tmp_path))
    pipeline = load(file)

    def run(day):
        uri, measured = (commit(pipeline, day, stage) for stage in ("train", "measure"))
        staged = tmp_path / "staged"
        staged.mkdir(exist_ok=True)
        (staged / "file").write_text(uri[-10:])
        made = {"train": uri, "measure": measured}
        sources = {stage: attempts.name(pipeline, place) for stage, place in made.items()}
        manifest = described(staged, "shop", day, sources=sources)
        registry = Registry(pipeline.registry.root, "shop")
        registry.publish(str(staged), manifest, accepted=True, reason="")
        return manifest.version

    return file, run


def pruned(file, *options):
    """What `twinspire prune` would delete: the days of the versions, and of the working files."""
    done = CliRunner().invoke(app, ["prune", str(file), *options], catch_exceptions=False)
    report = json.loads(done.stdout.splitlines()[-1])
    files = [uri.split("/dt=")[1].split("/")[0] for uri in report["working_files"]]
    days = sorted({*files})
    assert sorted(files) == sorted(2 * days), "of training and of measuring"
    return [version[:10] for version in report["versions"]], days


def test_days_are_counted_from_the_newest_that_was_run_however_long_ago_that_is(backfilled):
    """As after a backfill of old logs."""
    file, run = backfilled
    for n in (0, 20, 21, 22):
        run(DAY + timedelta(days=n))
    old, *others = [str(DAY + timedelta(days=n)) for n in (0, 20, 21)]
    assert pruned(file, "--keep", "1") == ([], []), "registry.keep_days is 30"
    assert pruned(file, "--keep", "1", "--keep-days", "3") == ([old], [old])
    every = [old, *others]
    assert pruned(file, "--keep", "1", "--keep-days", "2") == (every[1::-1], every[:2])
    assert pruned(file, "--keep", "1", "--keep-days", "0") == (every[::-1], every)


def test_a_day_that_has_not_come_yet_makes_no_other_old(backfilled, tmp_path):
    """A folder that somebody made by mistake, or a clock that was wrong."""
    file, run = backfilled
    for n in (3, 2):
        run(date.today() - timedelta(days=n))
    (tmp_path / "work/shop/dt=2999-01-01/train").mkdir(parents=True)
    assert pruned(file, "--keep", "0") == ([], [])


def test_a_day_that_was_only_tried_makes_no_other_old(backfilled):
    """Where logs are old, `twinspire run` without a date finds that yesterday is late."""
    file, run = backfilled
    for n in (0, 1):
        run(DAY + timedelta(days=n))
    yesterday = date.today() - timedelta(days=1)
    run_leases.write(load(file), yesterday, "a run", "late")
    assert pruned(file, "--keep", "0") == ([], [])


@pytest.mark.parametrize("command", [("promote",), ("rollback", "--to"), ("pin",)])
def test_a_day_with_two_versions_means_none_that_is_to_be_changed(backfilled, command):
    file, run = backfilled
    first, second = (run(DAY) for _ in range(2))
    live = Registry(load(file).registry.root, "shop").live()
    name, *option = command
    done = CliRunner().invoke(app, [name, str(file), *option, str(DAY)])
    assert isinstance(done.exception, UsageError)
    assert all(one in str(done.exception) for one in (f"{second} (live)", f"{first} (accepted)"))
    assert Registry(load(file).registry.root, "shop").live() == live == second


def test_a_run_of_an_old_day_keeps_the_version_that_it_goes_on_from(backfilled):
    """And the state of its training, until it has ended."""
    file, run = backfilled
    for n in (0, 20, 21, 22):
        run(DAY + timedelta(days=n))
    pipeline, filled_in = load(file), DAY + timedelta(days=1)
    run_leases.acquire_day(pipeline, filled_in, "backfill")
    assert pruned(file, "--keep", "1", "--keep-days", "3") == ([], [])
    run_leases.write(pipeline, filled_in, "backfill", "failed")
    assert pruned(file, "--keep", "1", "--keep-days", "3") == ([str(DAY)], [str(DAY)])


def test_between_two_days_of_a_backfill_the_newest_that_it_has_made_stays(backfilled, monkeypatch):
    """No day is under way then. A day later it is as old as all others."""
    file, run = backfilled
    for n in (0, 20, 21, 22, 1, 2):
        run(DAY + timedelta(days=n))
    older, filled_in = ([str(DAY + timedelta(days=n)) for n in days] for days in ((0, 1), (2,)))
    pipeline, next_day = load(file), DAY + timedelta(days=3)
    state = Registry(pipeline.registry.root, "shop").state()
    assert parent_of(state, next_day)[:10] == filled_in[0]
    old = pruned(file, "--keep", "1", "--keep-days", "3")
    assert (sorted(old[0]), old[1]) == (older, older)
    monkeypatch.setattr(change_versions, "_FILLING_IN", timedelta(0))
    old = pruned(file, "--keep", "1", "--keep-days", "3")
    assert (sorted(old[0]), old[1]) == ([*older, *filled_in], [*older, *filled_in])
