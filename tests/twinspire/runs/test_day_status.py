import shutil
from datetime import date
from pathlib import Path

from index_builder.registry.registry import Registry
from tests.twinspire.runs.conftest import day
from twinspire.cli.show_days import stretches
from twinspire.runs import run_leases
from twinspire.runs.day_status import DayStatus, day_statuses
from twinspire_core.contracts import attempts
from twinspire_core.contracts.gate_verdict import GateVerdict

RUN = "twinspire run PIPELINE"


def test_each_day_is_said_to_be_what_it_is(shop, tmp_path):
    pipeline, publish = shop
    live = publish(20)
    (tmp_path / "work/shop/dt=2024-02-20/train/0001-a/state").mkdir(parents=True)
    refused = publish(21, live, accepted=False)
    for n, outcome in ((20, "published"), (21, "refused"), (22, "failed"), (23, "open")):
        run_leases.write(pipeline, day(n), "a run", outcome)
    run_leases.write(pipeline, day(24), "a run", "late")
    run_leases.write(pipeline, day(27), "a run", "skipped")
    actual = {one.day.day: one for one in day_statuses(pipeline)}
    states = (
        "published, refused, failed, under way, late, missing, missing, skipped, missing, missing"
    )
    assert {n: one.state for n, one in actual.items()} == dict(enumerate(states.split(", "), 20))
    assert (actual[20].version, actual[20].live, actual[21].version) == (live, True, refused)
    assert actual[24].reason.startswith("Its logs were missing or incomplete when it was run")
    assert actual[22].remedy() == "twinspire run PIPELINE --date 2024-02-22"
    assert actual[21].remedy() == f"twinspire show PIPELINE {refused}"
    assert actual[20].remedy() == ""


def test_days_are_listed_though_a_version_has_lost_its_folder(shop, tmp_path):
    pipeline, publish = shop
    lost = publish(20)
    shutil.rmtree(tmp_path / "registry/shop/versions" / lost)
    actual = [one.state for one in day_statuses(pipeline, day(21), day(22))]
    assert actual == ["missing", "missing"]


def test_a_version_stays_what_it_is_when_a_later_run_of_its_day_fails(shop):
    pipeline, publish = shop
    publish(20)
    for outcome in ("published", "failed"):
        run_leases.write(pipeline, day(20), f"{outcome} run", outcome)
    [only] = day_statuses(pipeline, day(20), day(20))
    assert (only.state, only.reason) == ("published", "Its last run failed.")
    run_leases.write(pipeline, day(20), "a third", "failed", reason="train: No room.")
    [only] = day_statuses(pipeline, day(20), day(20))
    assert only.reason == "Its last run failed: train: No room."


def test_a_day_is_not_what_became_of_a_later_catalogue_for_its_towers(shop):
    pipeline, publish = shop
    trained = publish(20)

    def status_of_day():
        [only] = day_statuses(pipeline, day(20), day(20))
        return only.state, only.version, only.live

    publish(20, refreshes=trained, corpus=day(21), accepted=False)
    assert status_of_day() == ("published", trained, True)
    refreshed = publish(20, refreshes=trained, corpus=day(22))
    assert status_of_day() == ("published", refreshed, True)
    registry = Registry(pipeline.registry.root, "shop")
    registry.rollback(trained, reason="withdrawn items are back")
    assert status_of_day() == ("published", trained, True)


def test_a_day_that_was_rolled_back_has_the_reason_of_the_rollback(shop):
    pipeline, publish = shop
    publish(20)
    publish(21)
    Registry(pipeline.registry.root, "shop").rollback(reason="lists were empty")
    before, undone = day_statuses(pipeline, day(20), day(21))
    assert (undone.state, undone.reason) == ("rolled back", "lists were empty")
    assert before.state == "published" and before.live


def test_it_is_said_when_the_fixed_order_serves_in_place_of_the_trees(shop):
    pipeline, publish = shop
    version = publish(20)
    place = Path(Registry(pipeline.registry.root, "shop").folder(version))

    def status_of_day(high):
        recipe = {"days": 9, "beside": "history", "trees": 0.29, "other": 0.31, "mean": -0.02}
        figures = {"metric": "recall@50", "recipe": {**recipe, "low": -0.03, "high": high}}
        GateVerdict(accepted=True, figures=figures).write(place)
        (only,) = day_statuses(pipeline, day(20), day(20))
        return only.state, only.reason

    assert status_of_day(0.001) == ("published", "")
    assert status_of_day(-0.01) == (
        "published",
        "the fixed order serves in place of the ranker: over 9 days, recall@50 of the ranker is 0.2900,"
        " of history 0.3100 (difference -0.0200, 99% interval -0.0300 to -0.0100).",
    )


def test_sizes_are_those_of_the_files(shop, tmp_path):
    pipeline, publish = shop
    publish(20)
    (tmp_path / "work/shop/dt=2024-02-20/features/0001-a").mkdir(parents=True)
    (tmp_path / "work/shop/dt=2024-02-20/features/0001-a/x.parquet").write_bytes(b"7 bytes")
    [only] = day_statuses(pipeline, day(20), day(20))
    assert (only.work_bytes, only.version_bytes) == (7, 1)


def test_days_are_those_since_the_first_that_was_run_but_not_all_of_a_long_line(shop):
    pipeline, publish = shop
    publish(20)
    run_leases.write(pipeline, day(22), "a run", "failed")
    assert attempts.days(pipeline) == [day(22)]
    assert [one.day.day for one in day_statuses(pipeline)] == list(range(22, 30))
    run_leases.write(pipeline, day(25), "a run", "failed")
    assert [one.day.day for one in day_statuses(pipeline, most=3)] == list(range(23, 30))
    assert [one.day.day for one in day_statuses(pipeline, day(20), day(21))] == [20, 21]


def test_a_day_that_was_only_tried_hides_no_day_that_was_run(shop):
    """Where logs are old, `twinspire run` without a date tries yesterday."""
    pipeline, _ = shop
    run_leases.write(pipeline, day(22), "a run", "failed")
    run_leases.write(pipeline, date(2026, 11, 28), "a run", "late")
    actual = [(one.day, one.state) for one in day_statuses(pipeline)]
    assert [one for one, _ in actual] == [*map(day, range(22, 30)), date(2026, 11, 28)]
    assert (actual[0][1], actual[-1][1]) == ("failed", "late")


def test_days_of_which_the_same_is_to_be_said_are_put_together():
    days = [
        DayStatus(day=day(n), state=state)
        for n, state in [(1, "missing"), (2, "missing"), (3, "no logs"), (4, "missing")]
    ]
    actual = list(stretches(days))
    assert [one.name for one in actual] == ["2024-02-01 to 2024-02-02", "2024-02-03", "2024-02-04"]
    first, last = f"{RUN} --from 2024-02-01 --to 2024-02-02", f"{RUN} --date 2024-02-04"
    assert [one.remedy() for one in actual] == [first, "", last]
