"""What a real MLflow server gets, in a separate environment: `mlflow` must be on the PATH."""

import json
import shutil
import subprocess
import time
from contextlib import suppress
from datetime import date

import httpx
import pytest

from index_builder.registry.registry import Registry
from tests.published import described
from tests.tiny_pipeline import tiny_pipeline
from twinspire.runs.mlflow_tracking import record_in_mlflow

PORT = 15_631
ADDRESS = f"http://127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if not shutil.which("mlflow"):
        pytest.skip("needs mlflow in an environment of its own, on the PATH")
    home = tmp_path_factory.mktemp("mlflow")
    command = ["mlflow", "server", "--port", str(PORT), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{home}/db", "--artifacts-destination", str(home)]
    with subprocess.Popen(command, cwd=home, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(240):
                with suppress(httpx.TransportError):
                    if httpx.get(f"{ADDRESS}/health").is_success:
                        break
                time.sleep(0.5)
            with httpx.Client(base_url=f"{ADDRESS}/api/2.0/", timeout=60) as client:
                yield client
        finally:
            process.terminate()


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", ADDRESS)
    monkeypatch.setattr("twinspire.runs.mlflow_tracking._SECONDS", 60.0)
    return tiny_pipeline(registry={"root": str(tmp_path / "registry")})


def publish(pipeline, folder, day: str) -> str:
    """A version with metrics, settings and a report."""
    folder.mkdir()
    measures = {"recall@50": 0.25, "users": 7}
    metrics = {"holdout": {"candidate": measures}, "baselines": {"popular_lately": measures}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    settings = {"train": {"dimension": 16, "layers": [32]}, "features": {"t": {"kind": "x" * 9000}}}
    manifest = described(folder, "tiny", date.fromisoformat(day), settings=settings)
    registry = Registry(pipeline.registry.root, "tiny")
    report = {"report.html": f"<p>{day}</p>".encode()}
    registry.publish(str(folder), manifest, accepted=True, reason="test", side_files=report)
    return manifest.version


def live(client) -> dict:
    alias = {"name": "tiny", "alias": "live"}
    return client.get("mlflow/registered-models/alias", params=alias).json()["model_version"]


def test_a_version_has_a_run_and_the_alias_follows_rollbacks(server, pipeline, tmp_path):
    versions = []
    for day in ("2024-03-01", "2024-03-02"):
        versions.append(publish(pipeline, tmp_path / day, day))
        record_in_mlflow(pipeline, versions[-1])
        record_in_mlflow(pipeline, versions[-1])
    registered = live(server)
    assert {"key": "twinspire.version", "value": versions[1]} in registered["tags"]
    assert registered["version"] == "2", "each version was registered once"
    wanted = {"run_id": registered["run_id"]}
    run = server.get("mlflow/runs/get", params=wanted).json()["run"]
    params = {entry["key"]: entry["value"] for entry in run["data"]["params"]}
    assert params.keys() == {"train.dimension", "train.layers", "features.t"}
    assert (params["train.dimension"], params["train.layers"]) == ("16", "[32]")
    metrics = {entry["key"]: entry["value"] for entry in run["data"]["metrics"]}
    assert metrics == {
        "items": 1,
        "held_out/two_tower/recall_at_50": 0.25,
        "next_day/popular_lately/recall_at_50": 0.25,
    }
    assert (run["info"]["status"], run["info"]["run_name"]) == ("FINISHED", versions[1])
    folder = run["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
    report = server.get(f"mlflow-artifacts/artifacts/{folder}/report.html")
    assert report.text == "<p>2024-03-02</p>"
    Registry(pipeline.registry.root, "tiny").rollback(reason="test")
    record_in_mlflow(pipeline)
    assert {"key": "twinspire.version", "value": versions[0]} in live(server)["tags"]


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "sqlite:///db", "http://me:ge/heim@x"])
def test_a_failure_is_a_warning(pipeline, tmp_path, monkeypatch, capfd, address):
    version = publish(pipeline, tmp_path / "day", "2024-03-01")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    record_in_mlflow(pipeline, version)
    message = capfd.readouterr().err
    assert (
        "MLflow is not up to date" in message and "ge/heim" not in message and "'ge'" not in message
    )
