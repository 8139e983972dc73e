"""Airflow's database is lost: what docs/operations.md says of it."""

import shutil
from datetime import date

import pytest

from examples.local_airflow.server import LocalAirflow
from index_builder.registry.registry import Registry
from tests.dags.conftest import finish
from twinspire.runs.day_status import day_statuses
from twinspire_core.config.pipeline import load

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]

FIRST, SECOND = date(2024, 5, 6), date(2024, 5, 7)


def run(airflow: LocalAirflow, day: date) -> dict[str, str]:
    """Runs a day in an Airflow that knows of no other; the last state of each task."""
    rest = airflow.wait_until_healthy(timeout=400)
    rest.wait_for_dag("shop", timeout=200)
    rest.unpause("shop")
    of_day = rest.trigger("shop", day=str(day))
    finish(rest, "shop")
    return {name: task["state"] for name, task in rest.tasks("shop", of_day).items()}


def test_a_new_airflow_database_repeats_no_work(tmp_path, logs_of, pipeline_of):
    logs_of(tmp_path / "logs", [date(2024, 5, 5), FIRST, SECOND], "UTC")
    file = tmp_path / "pipelines" / "shop.toml"
    file.parent.mkdir()
    file.write_text(pipeline_of("shop", "UTC", tmp_path / "logs"))
    with LocalAirflow(tmp_path / "airflow", file.parent, schedule=False) as airflow:
        assert run(airflow, FIRST)["publish"] == "success"
    shutil.rmtree(tmp_path / "airflow")

    [of_first] = day_statuses(load(file), FIRST, FIRST)
    assert (of_first.state, of_first.live) == ("published", True)
    with LocalAirflow(tmp_path / "airflow", file.parent, schedule=False) as airflow:
        assert run(airflow, FIRST)["publish"] == "success"
        assert run(airflow, SECOND)["publish"] == "success"
    registry = Registry(load(file).registry.root, "shop")
    log = registry.log()
    assert [entry.version[:10] for entry in log] == [str(FIRST), str(SECOND)]
    assert registry.manifest(log[1].version).parent == log[0].version
