"""Parts of a real Airflow on PostgreSQL, and what runs in it, are killed in the middle of each stage.

Five pipelines over the same logs, each called after the stage that it is held in. For each kind of
kill there is a day, on which all six are held at once when it comes. Then they may go on, and what
was killed is started again by its supervisor: a day is published once, and comes out as if
nothing had happened.
"""

import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import psutil
import pytest
from airflow_client.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from examples.local_airflow.server import LocalAirflow
from index_builder.registry.registry import Registry
from tests.dags import kills, postgres
from tests.dags.conftest import until, write_program
from twinspire.backfills.airflow_rest import DONE
from twinspire.runs import run_leases
from twinspire_core.config.pipeline import load

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not postgres.BINARIES, reason="PostgreSQL is not installed where Debian has it"
    ),
]

FIRST = date(2024, 5, 6)
DAYS = {kind: FIRST + timedelta(n) for n, kind in enumerate(kills.KINDS)}
# Shorter than in deployments, whose machines and networks stop for longer.
SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "8",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "90",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, logs_of, pipeline_of):
    """Logs, and a pipeline file for each stage and for the run that nothing disturbs."""
    root = tmp_path_factory.mktemp("kills")
    logs_of(root / "logs", [FIRST + timedelta(n) for n in range(-2, 5)], "UTC", events=500)
    for name in (*kills.STAGES, "calm"):
        home = root / ("calm" if name == "calm" else "pipelines")
        home.mkdir(exist_ok=True)
        (home / f"{name}.toml").write_text(pipeline_of(name, "UTC", root / "logs"))
    (root / "held").mkdir()
    return root


@pytest.fixture(scope="module")
def database():
    with postgres.server() as one:
        yield one


@pytest.fixture(scope="module")
def airflow(folder, database):
    held = Path(__file__).with_name("held_stages.py")
    python = write_program(folder / "python", f'exec "{sys.executable}" "{held}" "$@"')
    env = {"TWINSPIRE_PYTHON": python, "HELD_STAGES": str(folder / "held"), **SETTINGS}
    own = LocalAirflow(
        folder / "airflow", folder / "pipelines", schedule=False, database=database.url, env=env
    )
    with own:
        rest = own.wait_until_healthy(timeout=300)
        for stage in kills.STAGES:
            rest.wait_for_dag(stage)
            rest.unpause(stage)
        yield own
    assert own.processes() == []


@pytest.fixture(scope="module")
def undisturbed(folder):
    """The versions of all days, made by one command."""
    file = folder / "calm" / "calm.toml"
    last = max(DAYS.values())
    command = ["run", str(file), "--from", str(FIRST), "--to", str(last)]
    subprocess.run([sys.executable, "-m", "twinspire", *command], check=True)
    return published(file)


def published(file):
    """What was published, in order: day, whether it went live, and all files but for the report,
    which tells the clock. Versions are called by their days, as their ids tell their pipeline.
    """
    pipeline = load(file)
    registry = Registry(pipeline.registry.root, pipeline.name)
    log = registry.log()
    versions = []
    for entry in log:
        files = registry.verify(entry.version).files
        made = {path: one.sha256 for path, one in files.items() if path != "report.html"}
        for path in ("metrics.json", "fixed_order.json"):
            made[path] = Path(registry.open(entry.version), path).read_text()
            for other in log:
                made[path] = made[path].replace(other.version, other.version[:10])
        versions.append((entry.action, entry.version[:10], entry.live == entry.version, made))
    return versions


@pytest.mark.parametrize("kind", kills.KINDS)
def test_a_kill_in_the_middle_of_each_stage(kind, airflow, database, folder, undisturbed):
    rest, day = airflow.rest, DAYS[kind]
    held = folder / "held" / str(day)
    runs = {stage: rest.trigger(stage, day=str(day)) for stage in kills.STAGES}
    until(lambda: all((held / stage).exists() for stage in kills.STAGES))
    processes = [psutil.Process(int((held / stage).read_text())) for stage in kills.STAGES]
    kills.kill(kind, airflow, database, processes)
    (held / "go").touch()

    until(lambda: all(state(rest, stage, run) in DONE for stage, run in runs.items()))
    for stage, run in runs.items():
        tasks = rest.tasks(stage, run)
        assert state(rest, stage, run) == "success", (stage, tasks)
        # Nothing is tried again but what was in the middle.
        again = {name for name, task in tasks.items() if task["try_number"] > 1}
        assert again <= {stage}, tasks
        if kind in ("scheduler", "worker", "stage"):
            assert tasks[stage]["try_number"] == 2
        file = folder / "pipelines" / f"{stage}.toml"
        assert published(file) == undisturbed[: 1 + kills.KINDS.index(kind)], stage
        assert run_leases.state(load(file), day) == "published"


def state(rest, dag, run):
    """Of a run; None while Airflow does not answer."""
    try:
        return rest.call("GET", f"dags/{dag}/dagRuns/{run}")["state"]
    except (HTTPError, ApiException):
        return None
