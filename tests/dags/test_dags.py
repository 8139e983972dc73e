"""Policies over all DAGs: clean and light imports, one DAG per pipeline file, no way around a
stage.
"""

import itertools
import json
import os
import re
import subprocess
import sys
import textwrap
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.dags.conftest import write_program
from twinspire_core import errors

ROOT = Path(__file__).parents[2]
DAGS = ROOT / "dags"
ORDER = str.split("day turn features train measure embed index publish summary close")
ALONE = {"train", "measure", "publish", "refresh"}


def daily(bag):
    """The DAGs of daily runs, by id."""
    return {name: dag for name, dag in bag.dags.items() if "recommender" in dag.tags}


def test_every_shipped_pipeline_file_has_a_dag_named_after_it(bag):
    shipped = {
        tomllib.loads(file.read_text())["pipeline"]["name"]
        for file in (ROOT / "pipelines").glob("*.toml")
    }
    assert set(daily(bag)) == shipped | {"tokyo", "late-riser"}


def test_parsing_imports_no_heavy_library_and_no_other_package(tmp_path, write):
    write(tmp_path / "one.toml", name="one")
    code = """
        import sys, time
        import airflow.sdk, airflow.timetables.interval, airflow.providers.standard.operators.bash
        before = set(sys.modules)
        began = time.process_time()
        import twinspire_dags, broken_pipeline_files
        seconds = time.process_time() - began
        print(*sorted({m.partition(".")[0] for m in set(sys.modules) - before}), f"seconds={seconds}", sep="\\n")
    """
    env = dict.fromkeys(("AIRFLOW_HOME", "TWINSPIRE_PIPELINES"), str(tmp_path))
    env = os.environ | env | {"PYTHONPATH": str(DAGS)}
    run = [sys.executable, "-c", textwrap.dedent(code)]
    *modules, seconds = subprocess.run(
        run, env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"tensorflow", "apache_beam", "scann", "pyarrow", "polars"} & set(modules)
    ours = {"twinspire_core", "beam_jobs", "model", "index_builder", "serving"}
    assert not ours & set(modules)
    assert {"twinspire_dags", "broken_pipeline_files"} <= set(modules)
    assert float(seconds.removeprefix("seconds=")) < 1


def test_airflow_parses_only_modules_that_have_dags():
    """A DAG that needs packages of pods would be reported as broken everywhere else."""
    from airflow.utils.file import list_py_file_paths

    actual = {Path(file).name for file in list_py_file_paths(DAGS)}
    assert actual == {"twinspire_dags.py", "broken_pipeline_files.py"}


def test_no_stage_can_be_skipped_on_the_way_to_publish(bag):
    for dag in daily(bag).values():
        assert [
            task.task_id for task in dag.topological_sort() if task.task_id != "refresh"
        ] == ORDER
        for before, after in itertools.pairwise(ORDER):
            # only `summary` comes after something else, too
            assert dag.get_task(after).upstream_task_ids - {"refresh"} == {before}, (
                f"{dag.dag_id}.{after}"
            )
        for name in ORDER[:-2]:
            assert dag.get_task(name).trigger_rule == "all_success", (
                f"{dag.dag_id}.{name} would run after a failure"
            )


def test_a_failed_run_is_red_and_a_skipped_one_is_explained(bag):
    for dag in daily(bag).values():
        # all_done would turn failed runs green; all_success would keep silent about skipped days
        assert dag.get_task("summary").trigger_rule == "none_failed"
        [leaf] = [task for task in dag.tasks if not task.downstream_task_ids]
        # only a teardown may come after it, whose own end says nothing of the run's
        assert leaf.is_teardown and not leaf.on_failure_fail_dagrun
        assert leaf.upstream_task_ids == {"summary"}


def test_a_refresh_bypasses_all_stages(bag):
    for dag in daily(bag).values():
        refresh = dag.get_task("refresh")
        assert (refresh.upstream_task_ids, refresh.downstream_task_ids) == ({"day"}, {"summary"})
        assert refresh.max_active_tis_per_dag == 1 and refresh.trigger_rule == "all_success"
        assert dag.get_task("summary").upstream_task_ids == {"publish", "refresh"}


def test_every_run_is_closed(bag):
    for dag in daily(bag).values():
        close = dag.get_task("close")
        # a set-up task that was skipped, or was killed itself, would take its teardown with it
        assert not any(task.is_setup for task in dag.tasks)
        assert "-m twinspire close-day " in close.bash_command
        assert "--run {{ run_id | quote }}" in close.bash_command
        assert "xcom" not in close.bash_command


def test_days_run_in_order_without_depends_on_past(bag):
    for dag in daily(bag).values():
        assert not dag.catchup
        assert not any(task.depends_on_past or task.wait_for_downstream for task in dag.tasks)
        assert {task.task_id for task in dag.tasks if task.max_active_tis_per_dag == 1} == ALONE


def test_every_dag_says_who_owns_it_and_what_to_do_when_it_is_red(bag):
    codes = {kind.exit_code for kind in errors.TwinspireError.__subclasses__()}
    codes -= {errors.Unwell.exit_code}  # of `status --check`, which no run of a day is
    for dag in daily(bag).values():
        assert dag.owner not in ("", "airflow")
        assert {"twinspire", "recommender"} <= dag.tags
        assert "*Triage.*" in dag.doc_md
        actual = set(re.findall(r"^- \*\*(\w+)\*\*", dag.doc_md, re.MULTILINE))
        assert {str(code) for code in codes} <= actual
        commands = re.findall(r"`twinspire ([^`]+)`", dag.doc_md)
        assert commands and all(f"{dag.dag_id}.toml" in command.split()[1] for command in commands)


def test_each_number_in_a_stages_result_becomes_a_gauge(bag, monkeypatch):
    from twinspire.airflow import telling_others

    sent = {}
    monkeypatch.setattr(telling_others.stats, "gauge", sent.__setitem__)
    served = {"metric": "recall@50", "value": 0.25}
    line = {"status": "done", "live": True, "seconds": 1.5, "items": 12, "served": served}
    telling_others.send_gauges(bag.dags["tokyo"].get_task("publish"), line)
    numbers = {"seconds": 1.5, "items": 12, "recall_at_50": 0.25}
    assert sent == {f"twinspire.tokyo.publish.{name}": value for name, value in numbers.items()}


@pytest.mark.parametrize("exit_code", [75, 2])
def test_a_failure_shows_output_and_exit_code(bag, exit_code):
    """Readers of a notification need not have the log of the task."""
    from airflow.sdk.exceptions import AirflowException

    from twinspire.airflow.command_tasks import TwinspireOperator

    line = json.dumps({"status": "TryAgain", "reason": "gs://logs is away."})
    for output, reason in ((line, "gs://logs is away."), ("", "the log says why")):
        task = TwinspireOperator(task_id="embed", bash_command=f"echo '{output}'; exit {exit_code}")
        keep = SimpleNamespace(try_number=1, xcom_push=lambda key, value: None)
        with pytest.raises(AirflowException, match=f"^embed .*: {reason}$"):
            task.execute({"ti": keep})


def test_retries_come_from_the_file_and_grow(bag):
    for task in bag.dags["late-riser"].tasks:
        assert (task.retries, task.retry_exponential_backoff > 1) == (7, True)
        assert task.max_retry_delay > task.retry_delay


BROKEN = {
    "no TOML": ("[pipeline\nname = 'x'", "TOML|Expected"),
    "no table": ("name = 'x'", r"\[pipeline\]"),
    "no name": ("[pipeline]", "name"),
    "bad name": ("[pipeline]\nname = 'Mine!'", "Mine!"),
    "taken name": ("[pipeline]\nname = 'healthy'", "healthy.toml"),
    "bad zone": ("[pipeline]\nname = 'x'\ntime_zone = 'Europe/Berlim'", "Europe/Berlim"),
    "bad cron": ("[pipeline]\nname = 'x'\nschedule = '0 0 32 * *'", "0 0 32"),
    "no cron": ("[pipeline]\nname = 'x'\nschedule = 'daily'", "daily"),
    "bad deadline": ("[pipeline]\nname = 'x'\ndeadline = 'soon'", "deadline"),
    "bad retries": ("[pipeline]\nname = 'x'\nretries = '3'", "retries"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_reported_by_its_name_and_hides_no_other(load, write, tmp_path, case):
    text, said = BROKEN[case]
    write(tmp_path / "healthy.toml", name="healthy")
    (tmp_path / "zz_broken.toml").write_text(text)
    bag = load(tmp_path)
    assert set(daily(bag)) == {"healthy"}
    [(where, error)] = bag.import_errors.items()
    assert "twinspire_dags" not in where  # an error of that file would hide the healthy ones, too
    assert "zz_broken.toml" in error.splitlines()[-1]
    assert re.search(said, error.splitlines()[-1])


def test_the_picture_of_airflow_shows_all_tasks(bag):
    shown = json.loads((ROOT / "docs/pictures/words.json").read_text())["airflow"]
    assert {*shown} == {task.task_id for task in bag.dags["groceries"].tasks}


def test_live_versions_are_outlets_and_logs_are_inlets(bag):
    from twinspire.airflow.telling_others import live_version, went_live

    dag = bag.dags["groceries"]
    assert {task.task_id for task in dag.tasks if task.outlets} == {"publish", "refresh"}
    [logs] = dag.get_task("day").inlets
    assert logs.uri.startswith("file:///") and logs.uri.endswith("/work/groceries/events")
    assert bag.dags["tokyo"].get_task("day").inlets == []  # its file does not say where they are
    assert bag.dags["news"].get_task("day").inlets == []  # a variable says it, to the stages alone
    assert live_version("groceries").uri == "x-twinspire://groceries/live"

    done = {"status": "done", "live": True, "version": "v"}
    assert went_live(done)
    assert not went_live(done | {"live": False})
    assert not went_live(done | {"status": "already done"})
    # A version that was there already goes live with the live one's catalogue.
    assert went_live(done | {"status": "already done", "refresh": {"status": "done"}})


def test_recommenders_of_the_same_logs_have_the_same_inlet(load, tmp_path):
    """Airflow keeps one asset for a place: another name for it would stop one of the DAGs."""
    places = {"one": "logs/dt={date}/", "two": "logs/dt={date}/", "three": "gs://[bad/dt={date}"}
    places |= {"four": "s3://logs/shop/dt={date}/", "five": "az://logs/dt={date}/"}
    for name, events in places.items():
        text = f"[pipeline]\nname = '{name}'\n[source]\nevents = '{events}'\n"
        (tmp_path / f"{name}.toml").write_text(text)
    dags = load(tmp_path).dags
    [one], [two] = (dags[name].get_task("day").inlets for name in ("one", "two"))
    assert (one.name, one.uri) == (two.name, two.uri)
    assert dags["three"].get_task("day").inlets == []
    [four], [five] = (dags[name].get_task("day").inlets for name in ("four", "five"))
    assert (four.uri, five.uri) == ("s3://logs/shop", "az://logs/")


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("shop.toml", {}, r"absolute path.*with_name"),
        ("/nowhere/shop.toml", {}, "/nowhere/shop.toml"),
        ("/nowhere/shop.toml", {"schedule": "@daily"}, r"sets schedule itself.*\[pipeline\]"),
    ],
)
def test_errors_in_a_teams_own_dag_file_say_what_to_write(bag, name, arguments, said):
    from twinspire.airflow import recommender_dag

    with pytest.raises(ValueError, match=said):
        recommender_dag(name, **arguments)


def test_a_teams_default_args_win_and_its_callback_follows_ours(bag, write, tmp_path):
    from twinspire.airflow import recommender_dag

    write(tmp_path / "shop.toml", name="shop", retries=7)
    ours = recommender_dag(tmp_path / "shop.toml", default_args=None).get_task("day")
    theirs = {"retries": 1, "pool": "small", "on_failure_callback": print}
    task = recommender_dag(tmp_path / "shop.toml", default_args=theirs).get_task("day")
    assert (ours.retries, task.retries, task.pool, task.owner) == (7, 1, "small", "twinspire")
    assert len(ours.on_failure_callback) == 1
    assert [c is print for c in task.on_failure_callback] == [False, True]


def test_a_worker_parses_the_dags_of_one_recommender(load, write, tmp_path, monkeypatch):
    for name in ("one", "two"):
        write(tmp_path / f"{name}.toml", name=name)
    for dag in ("two", "two.prune"):
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", dag)
        assert set(load(tmp_path).dags) == {"two", "two.monitor", "two.prune"}


def test_each_recommender_is_monitored_hourly_and_pruned_weekly_in_its_zone(bag):
    upkeep = {name: dag for name, dag in bag.dags.items() if "upkeep" in dag.tags}
    assert set(upkeep) == {f"{of}.{what}" for of in daily(bag) for what in ("monitor", "prune")}
    for name, cron in (("monitor", "7 * * * *"), ("prune", "23 5 * * 1")):
        timetable = upkeep[f"late-riser.{name}"].timetable
        assert (timetable.expression, str(timetable.timezone)) == (cron, "Europe/Berlin")
    for name, dag in upkeep.items():
        [task] = dag.tasks
        assert not dag.catchup and dag.max_active_runs == 1
        assert f" -m twinspire {task.task_id} " in task.bash_command
        assert f"{name.partition('.')[0]}.toml" in dag.doc_md and "PIPELINE" not in dag.doc_md
        assert ("--yes" in task.bash_command) == (task.task_id == "prune")


@pytest.mark.parametrize(
    ("exit_code", "day", "options"),
    [
        (137, "2017-10-16", ["--date", "2017-10-16"]),
        (75, None, ["--instant", "2017-10-15T15:00:00+00:00"]),
        (3, "2017-10-16", None),  # the stage has reported it
        (1, "2017-10-16", None),
    ],
)
def test_a_task_that_cannot_report_its_failure_is_reported(
    bag, tmp_path, monkeypatch, exit_code, day, options
):
    from twinspire.airflow.command_tasks import StageFailed

    typed = record_typed(tmp_path, monkeypatch)
    context = {
        "exception": StageFailed("killed", exit_code),
        "ti": SimpleNamespace(task_id="train", xcom_pull=lambda task_ids: day and {"day": day}),
        "params": {},
        "dag_run": SimpleNamespace(data_interval_start=datetime(2017, 10, 15, 15, tzinfo=UTC)),
    }
    [callback] = bag.dags["tokyo"].get_task("train").on_failure_callback
    callback(context)
    assert typed()[5:] == (
        (options and ["failed", "--stage", "train", "--reason", "killed", *options]) or []
    )
    assert typed()[:3] == (["-m", "twinspire", "notify"] if options else [])


def record_typed(tmp_path, monkeypatch):
    """Lets commands be written to a file instead of being run: the words of the last one."""
    python = write_program(tmp_path / "python", f'printf "%s\\n" "$@" > {tmp_path}/typed')
    monkeypatch.setenv("TWINSPIRE_PYTHON", python)
    typed = tmp_path / "typed"
    return lambda: typed.read_text().splitlines() if typed.exists() else []
