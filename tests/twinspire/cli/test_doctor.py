import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from twinspire.cli import doctor
from twinspire.cli.doctor import checks_table
from twinspire.cli.shared import terminal_table
from twinspire_core.config.pipeline import load
from twinspire_core.config.settings import override


@pytest.fixture
def stores(shop_file, monkeypatch):
    """The checks of a pipeline's places alone, by name; the places do not exist yet."""
    monkeypatch.setattr(doctor, "IMPORTS", {})

    def examine(**changes: str):
        checks = doctor.examine(override(load(shop_file), changes))
        return {check.name: check for check in checks if check.group == "store"}

    return examine


@pytest.mark.system
def test_this_installation_is_healthy():
    command = [sys.executable, "-m", "twinspire", "doctor", "--json"]
    output = subprocess.check_output(command, cwd=Path(__file__).parents[3])
    report = json.loads(output.splitlines()[-1])
    states = {check["name"]: check["state"] for check in report["checks"]}
    assert report["healthy"] and "failure" not in states.values()
    assert {states[name] for name in ("features", "train", "index", "airflow", "gcs")} == {"ok"}


def test_places_that_can_be_made_are_fine_and_are_not_made(tmp_path, stores):
    result = stores()
    assert result["work_root"].state == result["registry"].state == "ok"
    assert [p.name for p in tmp_path.iterdir()] == ["shop.toml"]


def test_a_place_that_cannot_be_written_is_a_failure(tmp_path, stores):
    file = tmp_path / "registry"
    file.write_text("a file, not a folder")
    check = stores()["registry"]
    assert check.state == "failure" and str(file) in check.found and check.remedy
    assert file.read_text() == "a file, not a folder"


def test_an_object_store_is_tried_and_left_as_it_was(stores, remote_place):
    assert stores(**{"registry.root": remote_place})["registry"].state == "ok"
    assert doctor.storage.list_files(remote_place) == []


def test_a_store_that_creates_a_file_twice_is_a_failure(stores, monkeypatch):
    monkeypatch.setattr(doctor.storage, "put_if_absent", lambda uri, data: True)
    assert stores()["registry"].state == "failure"


def test_days_of_logs_are_listed(tmp_path, stores):
    assert stores()["events"].state == "warning"
    for day in ("2017-10-01", "2017-10-03", "tomorrow"):
        (tmp_path / "events" / f"dt={day}").mkdir(parents=True)
    check = stores()["events"]
    assert check.state == "ok" and check.found.startswith("2 days, 2017-10-01 to 2017-10-03")


def test_a_library_that_breaks_is_one_line_and_one_that_is_absent_is_no_fault(
    tmp_path, monkeypatch
):
    error = "raise OSError('libfoo.so.1: cannot open shared object file')"
    (tmp_path / "broken_library.py").write_text(error)
    (tmp_path / "crashing_library.py").write_text("import os; os.kill(os.getpid(), 11)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    libraries = {"train": "broken_library", "index": "crashing_library", "gcs": "no_such_library"}
    monkeypatch.setattr(
        doctor, "IMPORTS", {name: (library,) for name, library in libraries.items()}
    )
    report = doctor.examine()
    actual = {check.name: check for check in report if check.group == "import"}
    assert actual["train"].state == "failure" and "libfoo.so.1" in actual["train"].found
    assert actual["index"].state == "failure" and "signal 11" in actual["index"].found
    assert actual["gcs"].state == "absent" and "twinspire[gcs]" in actual["gcs"].remedy
    console = Console(width=160)
    with console.capture() as shown:
        console.print(terminal_table(checks_table(report)))
    assert "libfoo.so.1" in shown.get()


def test_a_library_whose_version_does_not_fit_is_a_failure(monkeypatch):
    monkeypatch.setattr(doctor, "IMPORTS", {})
    version = {"polars": "0.9", "scann": "9.9"}
    installed = [
        SimpleNamespace(name=package.name, version=version.get(package.name, package.version))
        for package in doctor.metadata.distributions()
    ]
    # Left by an interrupted installation; and, later on the path, one that is never imported
    installed.insert(0, SimpleNamespace(name=None, version=None))
    installed.append(SimpleNamespace(name="numpy", version="0.1"))
    monkeypatch.setattr(doctor.metadata, "distributions", lambda: installed)
    actual = {check.name: check for check in doctor.examine() if check.group == "version"}
    assert {name for name, check in actual.items() if check.state == "failure"} == {*version}
    assert (actual["scann"].found, actual["scann"].remedy) == ("9.9", "needs ==1.4.2: make setup")
