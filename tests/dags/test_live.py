"""The DAGs in a real Airflow: a scheduled run, backfills, manual runs, and days that cannot run; on
SQLite and on PostgreSQL.

One Airflow serves the whole file, and everything is started at once; each test waits for its own
runs.

`shop`    real stages. A backfill of three days, the scheduled run of yesterday, a manual run of an old day, a refresh.
`ten`     nine days at once, one of which is killed, and the scheduled one, over stages that take no time.
`held`    a day is held in its first stage until an earlier one has begun, over the same stages.
`corner`  days that are late, empty or suspiciously small.
"""

import signal
import stat
import subprocess
import sys
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from examples.local_airflow.server import LocalAirflow
from index_builder.registry.registry import Registry
from index_builder.registry.version_log import version_date
from tests.dags.conftest import (
    PATIENCE,
    REAL,
    days_ago,
    days_and_parents,
    finish,
    quick_for,
    until,
    write_program,
)
from twinspire.backfills.airflow_backfills import start_backfill
from twinspire_core.errors import TryAgain, UsageError

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]

# Far east, where it may be tomorrow already: the day must not come from the instant's date in
# Greenwich. And not just before midnight, when "yesterday" would change under the tests.
ZONE = "Asia/Tokyo" if datetime.now(ZoneInfo("Asia/Tokyo")).hour < 23 else "Pacific/Auckland"


ago = partial(days_ago, ZONE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, logs_of, pipeline_of, database):
    """Logs and pipeline files of the recommenders, each in its own folder, and the
    folder of the files.
    """
    root = tmp_path_factory.mktemp("a live one")  # a space, as in many a home folder
    logs = {
        "shop": {"days": [ago(n) for n in range(1, 9)]},
        "ten": {"days": [ago(n) for n in range(1, 11)], "events": 50},
        "held": {"days": [ago(n) for n in range(1, 4)], "events": 50},
        "corner": {"days": [ago(n) for n in range(2, 25)], "events": 50},
    }
    logs["corner"] |= {"empty": [ago(2)], "few": [ago(3)]}
    (root / "pipelines").mkdir()
    for name, options in logs.items():
        home = root / name
        logs_of(home / "logs", zone=ZONE, **options)
        text = pipeline_of(name, ZONE, home / "logs")
        text += f'\n[registry]\nroot = "{home}/registry"\n'
        text = text.replace("[pipeline]\n", f'[pipeline]\nwork_root = "{home}/work"\n')
        (root / "pipelines" / f"{name}.toml").write_text(text)
    return root


@pytest.fixture(scope="module")
def airflow(folder, database):
    """A running Airflow, whose `ten` and `held` have quick stages."""
    env = {
        "TWINSPIRE_PYTHON": write_program(folder / "python", quick_for("ten", "held"), REAL),
        "QUICK_LOGS": str(folder / "ten" / "logs"),
        "QUICK_KILLED": str(ago(6)),
        "QUICK_HELD": f"held {ago(1)}",
    }
    airflow = LocalAirflow(folder / "airflow", folder / "pipelines", database=database, env=env)
    with airflow:
        airflow.wait_until_healthy(timeout=400)
        yield airflow
    assert airflow.processes() == []


@pytest.fixture(scope="module")
def runs(airflow):
    """Everything started, in the order in which it should be run; ids of the manual runs."""
    rest, zone = airflow.rest, ZoneInfo(ZONE)
    for dag in ("corner", "shop", "ten"):
        rest.wait_for_dag(dag, timeout=200)
    # Backfills first: a DAG that is let go makes its scheduled run of yesterday at once, and older
    # days go first.
    start_backfill(rest, "shop", ago(4), ago(2), zone=zone, at_once=10)
    start_backfill(rest, "ten", ago(10), ago(2), zone=zone, at_once=10)
    manual = {
        "empty": rest.trigger("corner", day=str(ago(2))),
        "few": rest.trigger("corner", day=str(ago(3))),
    }
    for dag in ("corner", "shop", "ten"):
        rest.unpause(dag)
    return manual


def wait(rest, dag, run, task, *states):
    """The task instance, once it is in one of the states."""
    end = time.monotonic() + PATIENCE
    while True:
        task_state = rest.tasks(dag, run).get(task, {"state": None})
        if task_state["state"] in states:
            return task_state
        assert time.monotonic() < end, f"{dag} {run} {task} is {task_state['state']}, not {states}"
        time.sleep(1)


def announcements(rest, name):
    """What was said of versions that went live, in order."""
    events = rest.call("GET", "assets/events", order_by="timestamp", limit=100)
    uri = f"x-twinspire://{name}/live"
    return [event["extra"] for event in events["asset_events"] if event["uri"] == uri]


def registry(folder, name):
    return Registry(str(folder / name / "registry"), name)


def test_an_empty_day_is_skipped_and_the_summary_says_why(airflow, runs):
    rest, run = airflow.rest, runs["empty"]
    wait(rest, "corner", run, "close", "success", "failed", "upstream_failed", "skipped")
    states = {task: found["state"] for task, found in rest.tasks("corner", run).items()}
    assert states.pop("summary") == states.pop("close") == "success"
    assert set(states.values()) == {"skipped"}
    result = rest.result("corner", run, "summary")
    assert (result["day"], result["state"]) == (str(ago(2)), "skipped")
    assert result["reason"]


def test_a_suspicious_day_is_red_without_a_retry(airflow, runs):
    day = wait(airflow.rest, "corner", runs["few"], "day", "failed", "success", "up_for_retry")
    assert (day["state"], day["try_number"], day["max_tries"]) == ("failed", 1, 2)


def test_a_late_day_is_tried_again(airflow, runs):
    [run] = airflow.rest.runs("corner", run_type=["scheduled"])
    ends = ("failed", "success", "up_for_retry")
    day = wait(airflow.rest, "corner", run["dag_run_id"], "day", *ends)
    assert day["state"] == "up_for_retry"
    assert str(ago(1)) in airflow.rest.log("corner", run["dag_run_id"], "day")


def test_ten_concurrent_days_run_in_order_and_a_killed_one_blocks_none(airflow, runs, folder):
    actual = finish(airflow.rest, "ten")
    assert sorted(run["state"] for run in actual) == ["failed"] + ["success"] * 9
    assert sorted(run["run_type"] for run in actual) == ["backfill"] * 9 + ["scheduled"]
    [killed] = [run["dag_run_id"] for run in actual if run["state"] == "failed"]
    states = {
        task: instance["state"] for task, instance in airflow.rest.tasks("ten", killed).items()
    }
    ends = [states[name] for name in ("train", "summary", "close")]
    assert ends == ["failed", "upstream_failed", "success"]
    assert airflow.rest.result("ten", killed, "close")["closed"]
    days = [ago(n) for n in range(10, 0, -1) if n != 6]
    assert days_and_parents(registry(folder, "ten")) == list(
        zip(days, [None, *days[:-1]], strict=True)
    )


def test_an_earlier_day_that_starts_late_still_goes_first(airflow, runs, folder):
    rest = airflow.rest
    rest.wait_for_dag("held", timeout=200)
    rest.unpause("held")  # which makes the scheduled run of yesterday
    until(lambda: rest.runs("held", run_type=["scheduled"]))
    [scheduled] = rest.runs("held", run_type=["scheduled"])
    wait(rest, "held", scheduled["dag_run_id"], "features", "running")
    earlier = rest.trigger("held", day=str(ago(3)))
    # Its lease, which the later day's `train` looks for
    wait(rest, "held", earlier, "turn", "success")
    (folder / "ten" / "logs" / "go").touch()
    assert {run["state"] for run in finish(rest, "held")} == {"success"}
    assert days_and_parents(registry(folder, "held")) == [(ago(3), None), (ago(1), ago(3))]


def test_a_backfill_and_the_scheduled_run_make_versions_from_each_other(airflow, runs, folder):
    actual = finish(airflow.rest, "shop")
    assert [(run["run_type"], run["state"]) for run in actual] == [("backfill", "success")] * 3 + [
        ("scheduled", "success")
    ]
    days = [ago(n) for n in (4, 3, 2, 1)]
    assert days_and_parents(registry(folder, "shop")) == list(
        zip(days, [None, *days[:-1]], strict=True)
    )
    assert version_date(registry(folder, "shop").live()) == ago(1)
    # Each of the four went live in its turn, and said so with what it finds.
    announced = announcements(airflow.rest, "shop")
    assert [event["day"] for event in announced] == [str(day) for day in days]
    assert announced[-1]["version"] == registry(folder, "shop").live()
    assert all(0 < event["recall@10"] <= 1 for event in announced)
    result = airflow.rest.result("shop", actual[-1]["dag_run_id"], "summary")
    assert (result["day"], result["state"]) == (str(ago(1)), "published")


def test_a_refresh_brings_the_catalogue_up_to_date_and_trains_nothing(airflow, runs, folder):
    rest, book = airflow.rest, registry(folder, "shop")
    trained, (old,) = book.live(), (folder / "shop" / "logs" / "items").glob("dt=*/part.parquet")
    new = old.parents[1] / f"dt={ago(1)}" / "part.parquet"
    new.parent.mkdir()
    catalogue = pl.read_parquet(old).filter(pl.col("item") != "i0")
    pl.concat([catalogue, pl.DataFrame({"item": ["fresh"], "group": ["g3"]})]).write_parquet(new)
    run = rest.trigger("shop", day=str(ago(1)), refresh=True)
    finish(rest, "shop")
    result = rest.result("shop", run, "refresh")
    states = {n: t["state"] for n, t in rest.tasks("shop", run).items()}
    assert (result["new"], result["withdrawn"], result["version"]) == (1, 1, book.live())
    assert {
        states[stage] for stage in ("features", "train", "measure", "embed", "index", "publish")
    } == {"skipped"}
    assert {states[task] for task in ("day", "refresh", "summary")} == {"success"}
    towers = ("query_tower/", "item_tower/")
    held = [
        {p: f for p, f in book.manifest(v).files.items() if p.startswith(towers)}
        for v in (trained, book.live())
    ]
    assert trained != book.live() and held[0] == held[1]
    items = pl.read_parquet(Path(book.open(), "items.parquet"))["_item"]
    assert "fresh" in items and "i0" not in items


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_its_parent(tmp_path, sign):
    code = f"""if True:
        import pathlib, time
        from examples.local_airflow.server import LocalAirflow
        home = pathlib.Path({str(tmp_path / "home")!r})
        with LocalAirflow(home, home):
            time.sleep(600)
    """
    airflow = LocalAirflow(tmp_path / "home", tmp_path)
    owner = subprocess.Popen([sys.executable, "-c", code])
    try:
        until(lambda: len(airflow.processes()) > 5)  # a shell and Airflow's four parts, and more
        with pytest.raises(UsageError, match="Another Airflow is running"):
            airflow.start()
    finally:
        owner.send_signal(sign)
        owner.wait(60)
    if sign == signal.SIGKILL:  # it has begun to stop by itself; the next to come makes sure
        airflow.start()
        airflow.stop()
    assert airflow.processes() == []
    assert running("airflow", str(tmp_path)) == []


def test_a_component_that_keeps_ending_stops_airflow(tmp_path, monkeypatch):
    fake = tmp_path / "bin" / "airflow"
    fake.parent.mkdir()
    parts = 'case "$1" in db) ;; scheduler) echo begun >> begun; exit 7;; *) exec sleep 600;; esac'
    fake.write_text(f"#!/bin/sh\n{parts}\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(fake.with_name("python")))
    airflow = LocalAirflow(tmp_path / "home", tmp_path)
    with airflow, pytest.raises(TryAgain, match=r"(?s)stopped while starting.*again and again"):
        airflow.wait_until_healthy(timeout=400)
    assert (airflow.home / "begun").read_text().split() == ["begun"] * 4
    assert airflow.processes() == []


def running(*parts):
    """Command lines that hold all the parts; found without what is tested."""
    lines = subprocess.run(
        ["ps", "-eo", "args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [line for line in lines if all(part in line for part in parts)]
