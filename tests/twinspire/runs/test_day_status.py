import shutil
from datetime import date
from pathlib import Path

import pytest

from tests.twinspire.runs.conftest import day
from twinspire.cli.show_days import stretches
from twinspire.runs import run_leases
from twinspire.runs.day_status import DayStatus, day_statuses
from twinspire_core.contracts import attempts
from twinspire_core.contracts.gate_verdict import GateVerdict


@pytest.fixture
def status(pipeline):
    """The status of one day."""

    def find(n=20):
        [status] = day_statuses(pipeline, day(n), day(n))
        return status

    return find


def test_each_day_has_its_state_its_reason_and_its_remedy(pipeline, publish, tmp_path):
    live = publish(20)
    (tmp_path / "work/shop/dt=2024-02-20/train/0001-a/state").mkdir(parents=True)
    refused = publish(21, live, accepted=False)
    outcomes = {20: "published", 21: "refused", 22: "failed", 23: "open", 24: "late", 27: "skipped"}
    for n, outcome in outcomes.items():
        run_leases.write(pipeline, day(n), "a run", outcome)
    actual = {status.day.day: status for status in day_statuses(pipeline)}
    states = (
        "published, refused, failed, under way, late, missing, missing, skipped, missing, missing"
    )
    expected = dict(enumerate(states.split(", "), 20))
    assert {n: status.state for n, status in actual.items()} == expected
    assert (actual[20].version, actual[20].live, actual[21].version) == (live, True, refused)
    assert actual[24].reason.startswith("Its logs were missing or incomplete when it was run")
    assert actual[22].remedy() == "twinspire run PIPELINE --date 2024-02-22"
    assert actual[21].remedy() == f"twinspire show PIPELINE {refused}"
    assert actual[20].remedy() == ""


def test_days_are_listed_though_a_version_has_lost_its_folder(publish, status, registry):
    shutil.rmtree(registry.folder(publish(20)))
    assert [status(n).state for n in (21, 22)] == ["missing", "missing"]


def test_a_version_stays_what_it_is_when_a_later_run_of_its_day_fails(pipeline, publish, status):
    publish(20)
    for outcome in ("published", "failed"):
        run_leases.write(pipeline, day(20), f"{outcome} run", outcome)
    assert (status().state, status().reason) == ("published", "Its last run failed.")
    run_leases.write(pipeline, day(20), "a third", "failed", reason="train: No room.")
    assert status().reason == "Its last run failed: train: No room."


def test_a_refused_later_catalogue_does_not_change_the_day_of_its_towers(publish, status, registry):
    def status_of_day():
        return status().state, status().version, status().live

    trained = publish(20)
    publish(20, refreshes=trained, corpus=day(21), accepted=False)
    assert status_of_day() == ("published", trained, True)
    refreshed = publish(20, refreshes=trained, corpus=day(22))
    assert status_of_day() == ("published", refreshed, True)
    registry.rollback(trained, reason="withdrawn items are back")
    assert status_of_day() == ("published", trained, True)


def test_a_day_that_was_rolled_back_has_the_reason_of_the_rollback(publish, status, registry):
    publish(20)
    publish(21)
    registry.rollback(reason="lists were empty")
    assert (status(21).state, status(21).reason) == ("rolled back", "lists were empty")
    assert status().state == "published" and status().live


def test_the_reason_says_why_the_fixed_order_serves_in_place_of_the_ranker(
    publish, status, registry
):
    folder = Path(registry.folder(publish(20)))
    recipe = {"days": 9, "beside": "history", "trees": 0.29, "other": 0.31, "mean": -0.02}
    reason = (
        "the fixed order serves in place of the ranker: over 9 days, recall@50 of the ranker is 0.2900,"
        " of history 0.3100 (difference -0.0200, 99% interval -0.0300 to -0.0100)."
    )
    for high, expected in ((0.001, ""), (-0.01, reason)):
        figures = {"metric": "recall@50", "recipe": {**recipe, "low": -0.03, "high": high}}
        GateVerdict(accepted=True, figures=figures).write(folder)
        assert (status().state, status().reason) == ("published", expected)


def test_sizes_are_those_of_the_files(publish, status, tmp_path):
    publish(20)
    (tmp_path / "work/shop/dt=2024-02-20/features/0001-a").mkdir(parents=True)
    (tmp_path / "work/shop/dt=2024-02-20/features/0001-a/x.parquet").write_bytes(b"7 bytes")
    assert (status().work_bytes, status().version_bytes) == (7, 1)


def test_days_are_those_since_the_first_that_was_run_but_not_all_of_a_long_line(pipeline, publish):
    publish(20)
    run_leases.write(pipeline, day(22), "a run", "failed")
    assert attempts.days(pipeline) == [day(22)]
    assert [status.day.day for status in day_statuses(pipeline)] == list(range(22, 30))
    run_leases.write(pipeline, day(25), "a run", "failed")
    assert [status.day.day for status in day_statuses(pipeline, most=3)] == list(range(23, 30))


def test_a_day_that_was_only_tried_hides_no_day_that_was_run(pipeline):
    """Where logs are old, `twinspire run` without a date tries yesterday."""
    run_leases.write(pipeline, day(22), "a run", "failed")
    run_leases.write(pipeline, date(2026, 11, 28), "a run", "late")
    days, states = zip(*((s.day, s.state) for s in day_statuses(pipeline)), strict=True)
    assert list(days) == [*map(day, range(22, 30)), date(2026, 11, 28)]
    assert (states[0], states[-1]) == ("failed", "late")


def test_days_in_a_row_with_the_same_state_are_one_line():
    states = enumerate(["missing", "missing", "no logs", "missing"], 1)
    lines = list(stretches([DayStatus(day=day(n), state=state) for n, state in states]))
    names = ["2024-02-01 to 2024-02-02", "2024-02-03", "2024-02-04"]
    assert [line.name for line in lines] == names
    run = "twinspire run PIPELINE"
    first, last = f"{run} --from 2024-02-01 --to 2024-02-02", f"{run} --date 2024-02-04"
    assert [line.remedy() for line in lines] == [first, "", last]
