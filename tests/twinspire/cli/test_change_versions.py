"""What `prune` takes for unused and for old."""

import json
from datetime import date, timedelta
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from index_builder.registry.parents import parent_of
from index_builder.registry.registry import Registry
from tests.published import described
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


def unused(pipeline, days=0):
    """Of the day, so many days later."""
    as_of = DAY + timedelta(days=days)
    return unused_working_files(pipeline, set(), keep_days=7, as_of=as_of)


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
    assert len(unused(pipeline, days=8)) == 4


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
    run_leases.acquire_day(pipeline, DAY, "backfill")
    assert unused(pipeline, days=8) == []
    run_leases.write(pipeline, DAY, "backfill", "failed")
    assert unused(pipeline, days=8) == [home]


class Backfilled:
    """A pipeline file, and what runs of its days leave: working files and versions."""

    def __init__(self, file) -> None:
        self.file, self.staged = file, file.with_name("staged")
        self.staged.mkdir()
        self.pipeline = load(file)
        self.registry = Registry(self.pipeline.registry.root, "shop")

    def run(self, *days) -> list[str]:
        """Makes what runs of days leave, counted from `DAY`: the versions."""
        return [self._run(DAY + timedelta(days=n)) for n in days]

    def _run(self, day) -> str:
        made = {stage: commit(self.pipeline, day, stage) for stage in ("train", "measure")}
        (self.staged / "file").write_text(made["train"][-10:])
        sources = {stage: attempts.name(self.pipeline, uri) for stage, uri in made.items()}
        manifest = described(self.staged, "shop", day, sources=sources)
        self.registry.publish(str(self.staged), manifest, accepted=True, reason="")
        return manifest.version

    def pruned(self, *options) -> tuple[list[str], list[str]]:
        """What `twinspire prune` would delete: the days of versions and of working files."""
        command = ["prune", str(self.file), *options]
        done = CliRunner().invoke(app, command, catch_exceptions=False)
        report = json.loads(done.stdout.splitlines()[-1])
        files = sorted(uri.split("/dt=")[1].split("/")[0] for uri in report["working_files"])
        days = sorted({*files})
        assert files == sorted(2 * days), "of training and of measuring"
        return sorted(version[:10] for version in report["versions"]), days


@pytest.fixture
def shop(shop_file):
    return Backfilled(shop_file)


def days_after(*days) -> list[str]:
    return [str(DAY + timedelta(days=n)) for n in days]


@pytest.mark.parametrize(
    ("options", "old"),
    [
        ((), []),  # registry.keep_days is 30
        (("--keep-days", "3"), [0]),
        (("--keep-days", "2"), [0, 20]),
        (("--keep-days", "0"), [0, 20, 21]),
    ],
)
def test_days_are_counted_from_the_newest_that_was_run_however_long_ago_that_is(shop, options, old):
    """As after a backfill of old logs."""
    shop.run(0, 20, 21, 22)
    assert shop.pruned("--keep", "1", *options) == (days_after(*old),) * 2


def test_a_future_or_late_day_makes_no_other_old(shop, tmp_path):
    """A folder by a wrong clock; where logs are old, a run without a date tries yesterday."""
    shop.run(0, 1)
    today = date.today()
    run_leases.write(shop.pipeline, today - timedelta(days=1), "a run", "late")
    assert shop.pruned("--keep", "0") == ([], [])
    shop.run(*((today - DAY).days - n for n in (3, 2)))
    (tmp_path / "work/shop/dt=2999-01-01/train").mkdir(parents=True)
    assert shop.pruned("--keep", "0") == (days_after(0, 1),) * 2


@pytest.mark.parametrize("command", [("promote",), ("rollback", "--to"), ("pin",)])
def test_a_day_with_two_versions_is_refused_where_a_version_is_to_be_changed(shop, command):
    first, second = shop.run(0, 0)
    name, *option = command
    done = CliRunner().invoke(app, [name, str(shop.file), *option, str(DAY)])
    assert isinstance(done.exception, UsageError)
    assert f"{second} (live)" in str(done.exception)
    assert f"{first} (accepted)" in str(done.exception)
    assert shop.registry.live() == second


def test_a_run_of_an_old_day_keeps_the_version_that_it_goes_on_from(shop):
    """And the state of its training, until it has ended."""
    shop.run(0, 20, 21, 22)
    filled_in = DAY + timedelta(days=1)
    run_leases.acquire_day(shop.pipeline, filled_in, "backfill")
    assert shop.pruned("--keep", "1", "--keep-days", "3") == ([], [])
    run_leases.write(shop.pipeline, filled_in, "backfill", "failed")
    assert shop.pruned("--keep", "1", "--keep-days", "3") == ([str(DAY)], [str(DAY)])


def test_between_two_days_of_a_backfill_the_newest_that_it_has_made_stays(shop, monkeypatch):
    """No day is under way then. A day later it is as old as all others."""
    shop.run(0, 20, 21, 22, 1, 2)
    next_day = DAY + timedelta(days=3)
    assert [parent_of(shop.registry.state(), next_day)[:10]] == days_after(2)
    assert shop.pruned("--keep", "1", "--keep-days", "3") == (days_after(0, 1),) * 2
    monkeypatch.setattr(change_versions, "_FILLING_IN", timedelta(0))
    assert shop.pruned("--keep", "1", "--keep-days", "3") == (days_after(0, 1, 2),) * 2
