import json
from datetime import UTC, date, datetime, timedelta

import pytest

from tests.twinspire.runs.conftest import day
from twinspire.cli.change_versions import versions_in_use
from twinspire.runs.day_run import DayRun
from twinspire_core import storage
from twinspire_core.contracts.attempts import Gap


@pytest.fixture
def read(pipeline, monkeypatch):
    """Numbers of the entries of the shop's log that were read."""
    numbers = []
    real = storage.read_bytes

    def read_bytes(uri):
        folder, _, name = str(uri).rpartition("/")
        # A server of another test may still look at another registry.
        if folder.startswith(pipeline.registry.root) and folder.endswith("/log"):
            numbers.append(int(name.removesuffix(".json")))
        return real(uri)

    monkeypatch.setattr(storage, "read_bytes", read_bytes)
    return numbers


def test_the_log_is_read_once_and_then_only_what_came_since(pipeline, publish, read):
    first = publish(20)
    second = publish(21, first)
    read.clear()
    run = DayRun(pipeline, day(23))
    assert read == [], "nothing is read before a question"
    assert run.parent().version == second and sorted(read) == [1, 2]
    assert run.parent().version == second and run.state.live == second and run.is_kept(first)
    assert run.gaps_since(day(21))[0].first == day(22)
    assert len(read) == 2
    third = publish(22, second)
    read.clear()
    assert run.parent().version == second, "until it reads again"
    run.read_log()
    assert read == [3] and run.parent().version == third
    assert run.of_day(day(22)).parent().version == second and read == [3]


def test_the_parent_is_the_newest_accepted_version_before_the_day(pipeline, publish):
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


def metrics(**of_days):
    days = {
        f"2024-02-{name[1:]}": {"against": against, "differences": {"recall@50": change}}
        for name, (against, change) in of_days.items()
    }
    return json.dumps({"line": days}).encode()


def test_a_run_reads_its_parent_alone(pipeline, publish, registry):
    first = publish(20)
    second = publish(21, first, metrics=metrics(d21=(first, -0.1)))
    third = publish(22, second, metrics=metrics(d21=(first, -0.1), d22=(second, 0.05)))
    run = DayRun(pipeline, date(2024, 2, 23))
    best = run.best()
    assert (best.version, best.ahead, best.gone) == (first, pytest.approx(0.05), ())
    assert best.home == f"{pipeline.registry.root}/shop/versions/{first}"
    assert run.of_day(date(2024, 2, 20)).best() is None, "nothing is before it"
    registry.rollback(second, reason="")
    run.read_log()
    assert run.best().version == first and run.best().ahead == pytest.approx(0.1)
    assert third not in run.state.accepted


def test_a_deleted_version_is_reported(pipeline, publish, registry):
    first = publish(20)
    second = publish(21, first, metrics=metrics(d21=(first, -0.1)))
    registry.delete(first)
    best = DayRun(pipeline, date(2024, 2, 22)).best()
    assert (best.version, best.gone) == (second, (first,))


def test_pruning_keeps_what_coming_and_kept_days_are_measured_against(pipeline, publish):
    first = publish(20)
    second = publish(21, first, metrics=metrics(d21=(first, -0.1)))
    measured = {"best": {"version": "2024-02-01-00000000", "measures": {"recall@50": 0.1}}}
    kept = publish(19, metrics=json.dumps(measured).encode())
    today = date(2024, 2, 22)
    since = datetime.now(UTC)
    assert versions_in_use(pipeline, [], today, since) == {first}
    assert versions_in_use(pipeline, [kept, second], today, since) == {first, "2024-02-01-00000000"}
    assert versions_in_use(pipeline, [], date(2024, 4, 1), since) == {first, second}
    since -= timedelta(hours=1)
    assert versions_in_use(pipeline, [], today, since) == {first, kept}, "the day after may go on"


def test_gaps_are_days_with_logs_in_unbroken_stretches(pipeline, publish):
    first = publish(21)
    publish(23, first, accepted=False)
    publish(25, first)
    gaps = DayRun(pipeline, date(2024, 3, 1)).gaps_since(day(21))
    # And no day after February
    assert gaps == [Gap(day(22), day(24)), Gap(day(26), day(26)), Gap(day(28), day(29))]
    command = "twinspire run a-shop --from 2024-02-22 --to 2024-02-24"
    assert gaps[0].describe("a-shop")["command"] == command
    run = DayRun(pipeline, day(29))
    assert run.gaps_since(None) == run.gaps_since(day(28)) == []
