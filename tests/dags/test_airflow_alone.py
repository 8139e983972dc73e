"""The DAGs in an environment of Airflow alone, where commands are run by another Python."""

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from tests.dags.conftest import DAGS, QUICK, ROOT, write_program

pytestmark = pytest.mark.system
TEAM = """
from twinspire.airflow import recommender_dag
recommender_dag("{}", tags=["shoes"], default_args={{"queue": "big", "retries": 9}})
"""
SHOW = """
import importlib.util, json, sys
from airflow.dag_processing.dagbag import BundleDagBag
bag = BundleDagBag(sys.argv[1], bundle_path=sys.argv[1])
ours = ("twinspire_core", "polars", "pyarrow")
print(json.dumps({
    "errors": bag.import_errors,
    "dags": {name: sorted(dag.tags) for name, dag in bag.dags.items()},
    "queues": sorted({task.queue for dag in bag.dags.values() for task in dag.tasks}),
    "retries": sorted({task.retries for dag in bag.dags.values() for task in dag.tasks}),
    "loaded": [name for name in ours if name in sys.modules],
    "installed": [name for name in ours if importlib.util.find_spec(name)],
    "from": sys.modules["twinspire.airflow"].__file__,
}))
"""
# What Airflow does with a day, and with one that is late
RUN = """
import sys
from airflow.sdk.execution_time.callback_supervisor import execute_callback
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.utils.db import initdb
import structlog
initdb()
dag = BundleDagBag(sys.argv[1], bundle_path=sys.argv[1]).dags["shop"]
callback = dag.deadline[0].callback
dag.deadline = []  # Airflow's own `dag.test` fails with one
run = dag.test(run_conf={"day": "2024-04-20"})
late = {"run_type": "scheduled", "dag_run_id": "r", "state": "running"}
late["data_interval_start"] = "2024-04-20T00:00:00+00:00"
for name in [name for name in sys.modules if name.startswith("twinspire")]:
    del sys.modules[name]  # as in a process that has read no DAG file
done, why = execute_callback(
    callback.path, {**callback.kwargs, "context": {"dag_run": late}}, "", None, structlog.get_logger()
)
print(run.state, done, why)
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A function that runs Python code in an environment of Airflow alone; and its `uv pip`."""
    home = tmp_path_factory.mktemp("alone")
    python = home / "env/bin/python"
    subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
    [pin] = re.findall(r"^apache-airflow==[^ ;]+", (ROOT / "requirements.lock").read_text(), re.M)

    def install(*what):
        line = [Path(sys.executable).with_name("uv"), "pip", "install", "--python", python, *what]
        subprocess.run(line, check=True)

    install("--quiet", "--compile-bytecode", "--constraint", ROOT / "requirements.lock", pin)

    def run(code, *arguments, **env):
        settings = {"AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"} | env
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        env = kept | {name: str(value) for name, value in settings.items()}
        line = [python, "-c", code, *map(str, arguments)]
        done = subprocess.run(line, env=env, cwd=home, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run, install


@pytest.fixture
def shop(tmp_path, logs_of, pipeline_of):
    logs_of(tmp_path / "logs", [date(2024, 4, 20)], "UTC", events=20)
    (tmp_path / "pipelines").mkdir()
    text = pipeline_of("shop", "UTC", tmp_path / "logs")
    file = tmp_path / "pipelines/shop.toml"
    file.write_text(text.replace("retries = 2", 'deadline = "6h"'))
    return file


def test_the_dags_folder_runs_without_twinspire_installed(alone, shop, tmp_path):
    run, _ = alone
    quick = f'case "$3" in notify) echo "$@" > {tmp_path}/messages;; '
    quick += f'*) PYTHONPATH="{ROOT}" exec "{sys.executable}" "{QUICK}" "$@";; esac'
    env = {
        "TWINSPIRE_PIPELINES": shop.parent,
        "QUICK_LOGS": tmp_path / "logs",
        "TWINSPIRE_PYTHON": write_program(tmp_path / "python", quick),
        "AIRFLOW__CORE__DAGS_FOLDER": DAGS,
    }
    seen = json.loads(run(SHOW, DAGS, **env).splitlines()[-1])
    assert (seen["errors"], seen["installed"], seen["loaded"]) == ({}, [], [])
    assert set(seen["dags"]) == {"shop", "shop.monitor", "shop.prune"}
    assert Path(seen["from"]) == ROOT / "twinspire/airflow/__init__.py"
    assert run(RUN, DAGS, **env).splitlines()[-1] == "success True None"
    assert "--event late_day" in (tmp_path / "messages").read_text()


def test_a_teams_own_dag_file_needs_two_lines(alone, shop, tmp_path):
    run, install = alone
    source = tmp_path / "source"  # a build leaves folders behind
    for name in ("twinspire", "twinspire_core"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    install("--quiet", "--no-deps", source)
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags/shop.py").write_text(TEAM.format(shop))
    seen = json.loads(run(SHOW, tmp_path / "dags").splitlines()[-1])
    assert (seen["errors"], seen["installed"]) == ({}, ["twinspire_core"])
    assert {name: tags[:-1] for name, tags in seen["dags"].items()} == {
        "shop": ["recommender", "shoes"],
        "shop.monitor": ["shoes", "twinspire"],
        "shop.prune": ["shoes", "twinspire"],
    }
    assert (seen["queues"], seen["retries"]) == (["big"], [9])
