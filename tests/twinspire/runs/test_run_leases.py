import os
import time
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from twinspire.runs import run_leases
from twinspire_core import storage

DAY, NEXT, LAST = date(2024, 3, 10), date(2024, 3, 11), date(2024, 3, 12)


@pytest.fixture
def pipeline(place):
    return SimpleNamespace(pipeline=SimpleNamespace(work_root=place), name="shop")


def test_a_run_that_is_a_process_ends_with_it(pipeline, monkeypatch, other):
    identity, process = other
    with monkeypatch.context() as patch:
        patch.setattr(run_leases, "identity", lambda: identity)
        patch.setattr(run_leases, "end_runs", lambda *_: None)  # it is killed before it gets so far
        with run_leases.own_run(pipeline, DAY) as run:
            run_leases.note_failed_try(pipeline, DAY, run, "which a process says when it ends")
    assert run_leases.unfinished_before(pipeline, NEXT) == [DAY]
    assert run_leases.state(pipeline, DAY) == "open"
    process.kill()
    process.wait()
    assert run_leases.state(pipeline, DAY) == "killed"
    assert run_leases.unfinished_before(pipeline, NEXT) == []
    monkeypatch.setattr(run_leases, "has_ended", lambda _: False)  # as on another machine
    assert run_leases.unfinished_before(pipeline, NEXT) == [], "it was written down for all"


def test_a_day_whose_rerun_succeeded_was_not_killed(pipeline, monkeypatch, other):
    identity, process = other
    with monkeypatch.context() as patch:
        patch.setattr(run_leases, "identity", lambda: identity)
        patch.setattr(run_leases, "end_runs", lambda *_: None)
        with run_leases.own_run(pipeline, DAY):
            process.kill()
            process.wait()
    with run_leases.own_run(pipeline, DAY) as rerun:
        run_leases.write(pipeline, DAY, rerun, "published")
    # The next day's run finds out that the first one was killed, and writes it down
    assert run_leases.unfinished_before(pipeline, NEXT) == []
    assert run_leases.state(pipeline, DAY) == "published"
    assert run_leases.last_outcome(pipeline, DAY) == "published"


def test_the_end_of_one_run_says_nothing_of_another(pipeline):
    for run in ("scheduled__1 +00:00", "manual__2"):
        run_leases.acquire_day(pipeline, DAY, run)
    assert len(run_leases.end_runs(pipeline, [DAY, NEXT], "scheduled__1 +00:00")) == 1
    assert run_leases.unfinished_before(pipeline, NEXT) == [DAY]
    run_leases.write(pipeline, DAY, "manual__2", "published")
    assert run_leases.end_runs(pipeline, [DAY]) == []
    assert run_leases.state(pipeline, DAY) == "published"


def test_the_wait_restarts_when_an_earlier_day_has_ended(pipeline):
    run_leases.acquire_day(pipeline, LAST, "me")
    assert run_leases.waited(pipeline, LAST, "me", [DAY, NEXT]) == timedelta(0)
    time.sleep(0.05)
    assert run_leases.waited(pipeline, LAST, "me", [DAY, NEXT]) >= timedelta(seconds=0.05)
    assert run_leases.waited(pipeline, LAST, "me", [NEXT]) == timedelta(0)
    assert run_leases.state(pipeline, LAST) == "open"


def test_runs_of_any_name_stay_separate(pipeline):
    names = ["x" * 250, "x" * 249 + "y", "../../../etc/x", "a b\n'$(c)\0", "ü" * 200, "/"]
    for run in names:
        run_leases.acquire_day(pipeline, DAY, run)
    actual = [lease.run for lease in run_leases.open_leases(pipeline, DAY)]
    assert len(set(actual)) == len(names)
    run_leases.write(pipeline, DAY, names[1], "published")
    assert run_leases.end_runs(pipeline, [DAY], names[0]) == [actual[0]]
    left = {lease.run for lease in run_leases.open_leases(pipeline, DAY)}
    assert left == set(actual[2:])
    run_leases.end_runs(pipeline, [DAY])
    assert run_leases.open_leases(pipeline, DAY) == []
    home = storage.join(pipeline.pipeline.work_root, "shop")
    assert all(file.path.startswith(f"dt={DAY}/claims/") for file in storage.list_files(home))


def test_a_process_has_ended_when_it_was_killed_reaped_or_not(other):
    identity, process = other
    assert not run_leases.has_ended(identity)
    process.kill()
    while Path(f"/proc/{process.pid}/stat").read_text().split()[2] != "Z":
        time.sleep(0.01)
    assert run_leases.has_ended(identity)
    process.wait()
    assert run_leases.has_ended(identity)


@pytest.mark.parametrize(
    ("changed", "ended"),
    [
        ({}, False),
        ({"born": 1}, True),  # its pid was given to another process
        ({"boot": "before"}, True),  # the machine was restarted
        ({"boot": "before", "host": "another"}, False),  # nobody can tell from here
        ({"namespace": "pid:[1]", "born": 1}, False),  # in another container
        ({"boot": ""}, False),
    ],
)
def test_only_what_is_certain_counts_as_ended(changed, ended):
    here = run_leases.identity()
    assert run_leases.has_ended(here.model_copy(update=changed)) is ended
    assert not run_leases.has_ended(None)


def test_a_run_of_another_user_is_alive():
    if os.geteuid() != 0:
        pytest.skip("only root may look at the first process")
    parent = {"pid": os.getppid(), "born": run_leases._born(os.getppid())}
    assert not run_leases.has_ended(run_leases.identity().model_copy(update=parent))
