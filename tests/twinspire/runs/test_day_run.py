from datetime import date

import pytest

from twinspire.runs import run_leases
from twinspire.runs.day_run import DayRun
from twinspire_core import storage


def day(n):
    return date(2024, 2, n)


@pytest.fixture
def read(shop, monkeypatch):
    """Numbers of the entries of the shop's log that were read."""
    pipeline, _ = shop
    numbers = []
    real = storage.read_bytes

    def read_bytes(uri):
        folder, _, name = str(uri).rpartition("/")
        # A server of another test may still be looking at its own registry.
        if folder.startswith(pipeline.registry.root) and folder.endswith("/log"):
            numbers.append(int(name.removesuffix(".json")))
        return real(uri)

    monkeypatch.setattr(storage, "read_bytes", read_bytes)
    return numbers


def test_the_log_is_read_once_and_then_only_what_came_since(shop, read):
    pipeline, publish = shop
    first = publish(20)
    second = publish(21, first)
    read.clear()
    run = DayRun(pipeline, day(23))
    assert read == [], "nobody has asked yet"
    assert run.parent().version == second and sorted(read) == [1, 2]
    assert run.parent().version == second and run.is_live(second) and run.is_kept(first)
    assert run.gaps_since(day(21))[0].first == day(22)
    assert len(read) == 2
    third = publish(22, second)
    read.clear()
    assert run.parent().version == second, "until it reads again"
    run.read_log()
    assert read == [3] and run.parent().version == third
    assert run.of_day(day(22)).parent().version == second and read == [3]


def test_the_parent_is_the_newest_accepted_version_before_the_day(shop):
    pipeline, publish = shop
    first = publish(20)
    publish(21, first, accepted=False)
    publish(23, first)
    run = DayRun(pipeline, day(23))
    parent = run.parent()
    assert (parent.day, parent.version) == (day(20), first)
    assert parent.train == f"{pipeline.pipeline.work_root}/shop/dt=2024-02-20/train/0001-a"
    assert parent.measure == f"{pipeline.pipeline.work_root}/shop/dt=2024-02-20/measure/0001-a"
    assert parent.home == f"{pipeline.registry.root}/shop/versions/{first}"
    assert run.is_kept(first) and not run.is_kept("2024-02-22-00000000")


def test_only_a_run_with_a_lease_keeps_later_days_waiting(shop):
    pipeline, _ = shop
    DayRun(pipeline, day(20)).acquire_lease()
    assert run_leases.state(pipeline, day(20)) is None
    run = DayRun(pipeline, day(20), lease="mine")
    run.acquire_lease()
    assert run_leases.state(pipeline, day(20)) == "open"
    DayRun(pipeline, day(20)).release_lease("failed")
    assert run_leases.state(pipeline, day(20)) == "open"
    run.release_lease("late")
    assert run_leases.state(pipeline, day(20)) == "late"
