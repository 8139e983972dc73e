"""The doctor and runners of `beam.options`, on a real Prism: what works, and what does not."""

import json
from pathlib import Path

import pytest

from beam_jobs.beam import job_service
from beam_jobs.beam.worker_view import Installation
from tests import prism
from tests.twinspire.conftest import FILE
from twinspire.cli import doctor
from twinspire.cli.doctor import compare, examine_runner
from twinspire_core.config.pipeline import load


def pipeline(folder, options):
    """A pipeline file with Beam's options."""
    file = folder / "shop.toml"
    file.write_text(f"{FILE.format(folder)}\n[beam]\noptions = {json.dumps(options)}\n")
    return file


def checks(folder, options):
    results = examine_runner(load(pipeline(folder, options)), ["numpy"])
    return {check.name: check for check in results}


@pytest.mark.system
def test_a_worker_that_sees_what_the_client_sees(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "IMPORTS", {})
    with prism.running(tmp_path) as service:
        report = doctor.examine(load(pipeline(tmp_path, service.options)))
    runner = {check.name: check for check in report if check.group == "runner"}
    assert {check.state for check in runner.values()} == {"ok"}
    assert f"the job service at {service.endpoint} answers; 0 jobs" in runner["beam.options"].found
    assert f"in {tmp_path / 'work'}" in runner["shared place"].found
    assert "packages as here" in runner["worker"].found
    assert list(Path(tmp_path / "work").glob(".tmp*")) == []


@pytest.mark.system
def test_a_worker_on_a_host_that_does_not_share_work_root(tmp_path):
    (tmp_path / "work").mkdir()
    with prism.running(tmp_path, hidden=tmp_path / "work") as service:
        result = checks(tmp_path, service.options)
    assert result["worker"].state == "failure"
    assert "Every worker must see the same work_root" in result["worker"].found
    assert "which the client wrote" in result["worker"].found


@pytest.mark.system
def test_a_worker_without_the_package(tmp_path):
    # Workers are of this environment, where the package is installed: Python is set to find none.
    (tmp_path / "sitecustomize.py").write_text('import sys\nsys.modules["beam_jobs"] = None\n')
    with prism.running(tmp_path, pythonpath=tmp_path) as service:
        result = checks(tmp_path, service.options)
    assert result["worker"].state == "failure"
    assert "ModuleNotFoundError: " in result["worker"].found
    assert "Install Twinspire" in result["worker"].found


def test_a_job_service_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(job_service, "CONNECTION", 0.5)
    result = checks(tmp_path, ["--runner=PortableRunner", "--job_endpoint=localhost:1"])
    assert result.keys() == {"beam.options"} and result["beam.options"].state == "failure"
    assert "no job service answers at localhost:1" in result["beam.options"].found


def test_a_cloud_needs_a_place_in_it(tmp_path):
    result = checks(tmp_path, ["--runner=DataflowRunner"])
    assert result["work_root"].state == "failure" and "gs://" in result["work_root"].remedy


def test_the_runner_of_this_process_is_not_looked_at(tmp_path):
    assert checks(tmp_path, ["--direct_num_workers=1"]) == {}


def installed(python="3.11.7", **packages):
    return Installation(host="host", python=python, packages=packages)


def test_versions_are_compared():
    here = installed(numpy="2.1", polars="1.0", airflow=None)
    assert compare(here, here).state == "ok"
    other_version = compare(installed(numpy="2.0", polars="1.0", airflow=None), here)
    assert other_version.state == "warning" and "numpy 2.0 (2.1 here)" in other_version.found
    assert "polars" not in other_version.found
    missing = compare(installed(polars="1.0", airflow="3"), here)
    assert missing.state == "failure" and "numpy missing (2.1 here)" in missing.found
    assert compare(installed("3.11.9", **here.packages), here).state == "ok"
    other_python = compare(installed("3.12.1", **here.packages), here)
    assert other_python.state == "failure" and "Python 3.12 (3.11 here)" in other_python.found
