import copy
import os
import subprocess
from datetime import datetime
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pendulum
import pytest

from tests.dags.conftest import write_program

VALUES = ("--date", "--mode", "--promote", "--run")


def filled(bag, conf):
    """The parameters of a run with this conf, as Airflow checks them at the trigger."""
    params = copy.deepcopy(bag.dags["tokyo"].params)
    params.update(conf)
    return params.validate()


@pytest.mark.parametrize(
    ("dag", "at", "day"),
    [
        # 00:00 in Greenwich, where it is still the 17th
        ("tokyo", "2017-10-17T09:00+09:00", "2017-10-16"),
        ("tokyo", "2017-10-17T00:00+09:00", "2017-10-16"),
        ("late-riser", "2017-03-27T05:00+02:00", "2017-03-26"),  # a day of 23 hours
        ("late-riser", "2017-10-30T05:00+01:00", "2017-10-29"),  # and one of 25
    ],
)
def test_the_data_interval_starts_on_the_day_that_has_ended(bag, dag, at, day):
    timetable = bag.dags[dag].timetable
    interval = timetable.infer_manual_data_interval(run_after=pendulum.parse(at))
    assert str(interval.start.astimezone(ZoneInfo(timetable._timezone.name)).date()) == day


@pytest.mark.parametrize(
    "conf",
    [
        {"day": "2017-10-16"},
        {"day": None},
        {"mode": "full", "force": True, "promote": "no"},
        {"mode": "incremental", "promote": "yes"},
        {"refresh": True, "day": "2017-10-16"},
    ],
)
def test_good_parameters_are_accepted(bag, conf):
    assert filled(bag, conf).items() >= conf.items()


@pytest.mark.parametrize(
    "conf",
    [
        {"day": "16.10.2017"},
        {"day": "2017-02-30"},
        {"day": "2017-10-16; rm -rf /"},
        {"day": 20171016},
        {"mode": "fast"},
        {"mode": None},
        {"force": "yes"},
        {"promote": True},
        {"refresh": "yes"},
    ],
)
def test_bad_parameters_are_refused(bag, conf):
    from airflow.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        filled(bag, conf)


@pytest.mark.parametrize(
    ("run_type", "conf", "said"),
    [
        ("manual", {"dya": "2017-10-16"}, "dya"),
        ("manual", {"day": "2017-10-16", "Force": True}, "Force"),
        ("backfill", {"day": "2017-10-16"}, "backfill"),
        ("backfill", {"refresh": True}, "refresh"),
    ],
)
def test_the_first_task_refuses_unknown_parameters(bag, run_type, conf, said):
    from airflow.sdk.exceptions import AirflowFailException

    first = bag.dags["tokyo"].get_task("day")
    with pytest.raises(AirflowFailException, match=said):
        first._pre_execute_hook({"dag_run": SimpleNamespace(conf=conf, run_type=run_type)})


@pytest.mark.parametrize(
    ("run_type", "day", "ends"),
    [
        ("manual", "2017-10-16", "--date 2017-10-16"),
        ("manual", None, ""),
        ("scheduled", None, "--instant 2017-10-15T15:00:00+00:00"),
        ("backfill", None, "--instant 2017-10-15T15:00:00+00:00"),
    ],
)
def test_the_day_of_a_run(bag, run_type, day, ends):
    dag = bag.dags["tokyo"]
    line = dag.get_template_env().from_string(dag.get_task("day").bash_command)
    start = datetime.fromisoformat("2017-10-15T15:00:00+00:00")
    run = SimpleNamespace(run_type=run_type)
    said = line.render(
        params={"day": day, "refresh": False},
        dag_run=run,
        data_interval_start=start,
        run_id="scheduled__2017",
    )
    chosen = said.partition("tokyo.toml")[2].partition("| tail")[0].split()
    assert chosen == [*ends.split(), "--run", "scheduled__2017"]


@pytest.mark.parametrize(
    ("run_type", "day", "shown"),
    [
        ("scheduled", None, "2017-10-16"),  # which in Tokyo begins on the 15th in Greenwich
        ("backfill", None, "2017-10-16"),
        ("manual", "2017-10-14", "2017-10-14"),
        ("manual", None, "2017-10-13"),
    ],
)
def test_each_task_of_a_run_shows_the_business_day(bag, run_type, day, shown):
    dag = bag.dags["tokyo"]
    for task in dag.tasks:
        said = dag.get_template_env().from_string(task.map_index_template)
        start = pendulum.datetime(2017, 10, 15, 15)
        context = {"dag_run": SimpleNamespace(run_type=run_type), "params": {"day": day}}
        ti = SimpleNamespace(xcom_pull=lambda task: {"day": "2017-10-13"})
        assert said.render(**context, ti=ti, data_interval_start=start) == shown


def rendered(dag, task, **params):
    line = dag.get_template_env().from_string(dag.get_task(task).bash_command)
    ti = SimpleNamespace(xcom_pull=lambda task: {"day": "2017-10-16"})
    run = SimpleNamespace(run_type="manual")
    usual = {"day": None, "mode": "incremental", "force": False, "promote": "auto"}
    params = usual | {"refresh": False} | params
    return line.render(params=params, ti=ti, dag_run=run, run_id="manual__1")


@pytest.mark.parametrize(
    ("refresh", "skipped", "runs"), [(True, "features", "refresh"), (False, "refresh", "features")]
)
def test_a_run_trains_or_refreshes_and_not_both(bag, refresh, skipped, runs):
    from airflow.sdk.exceptions import AirflowSkipException

    dag, context = bag.dags["tokyo"], {"params": {"refresh": refresh}}
    with pytest.raises(AirflowSkipException):
        dag.get_task(skipped)._pre_execute_hook(context)
    assert dag.get_task(runs)._pre_execute_hook(context) is None
    later = dag.get_task("features").downstream_list
    while later:  # what is skipped takes all stages after it along
        assert later[0].trigger_rule == (
            "none_failed" if later[0].task_id == "summary" else "all_success"
        )
        later = [] if later[0].task_id == "summary" else later[0].downstream_list


def test_a_refresh_opens_no_day_and_waits_for_none(bag):
    dag = bag.dags["tokyo"]
    line = rendered(dag, "day", refresh=True)
    assert "-m twinspire which-day" in line and "--run" not in line
    assert rendered(dag, "turn", refresh=True).startswith("exit 0; ")
    assert "exit 0" not in rendered(dag, "turn")
    line = rendered(dag, "day")
    assert "-m twinspire open-day" in line and "--run" in line
    line = rendered(dag, "refresh", refresh=True, promote="no", force=True)
    [options] = [line.partition("tokyo.toml")[2].partition("| tail")[0].split()]
    assert "-m twinspire refresh" in line
    assert options == ["--date", "2017-10-16", "--promote", "no", "--force"]


def test_parameters_are_never_read_by_a_shell(bag, tmp_path):
    """Every task's line, read by a real shell, with values that Airflow may or may not let through."""
    argv, made = tmp_path / "argv", tmp_path / "made"
    python = write_program(tmp_path / "python", f'printf "%s\\0" "$@" > {argv}', 'echo "{}"')
    touch = f"touch {made}"
    hostile = [f"'; {touch}; '", f"$({touch})", f"`{touch}`", f"x\n{touch}", f'"; {touch} #']
    env = {"PATH": os.environ["PATH"], "TWINSPIRE_PYTHON": python}
    dag = bag.dags["tokyo"]
    for value in [*hostile, "{{ 7 * 7 }}", "--help", "*"]:
        context = {
            "params": dict.fromkeys(("day", "mode", "promote"), value)
            | {"force": True, "late": True, "refresh": False},
            "ti": SimpleNamespace(xcom_pull=lambda _, value=value: {"day": value}),
            "dag_run": SimpleNamespace(run_type="manual"),
            "run_id": value,
        }
        for task in dag.tasks:
            line = dag.get_template_env().from_string(task.bash_command).render(context)
            subprocess.run(["bash", "-c", line], env=env, check=True, cwd=tmp_path)
            given = argv.read_text().split("\0")
            options = [n for n, word in enumerate(given) if word in VALUES]
            assert {given[n + 1] for n in options} == {value}, given
            assert "--run" in given or task.task_id in ("refresh", "summary")
            assert not made.exists()
