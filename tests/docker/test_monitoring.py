"""Alerts and the dashboard beside the figures that a real server gives, in a real Prometheus."""

import json
import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from examples.local_airflow.server import free_port
from serving.app import create_app
from serving.http.server_settings import Settings
from tests.docker import compose_file
from tests.serving import conftest as circle
from tests.serving.http.conftest import ready, running, shop, until
from twinspire_core.contracts.gate_verdict import GateFigures

MONITORING = compose_file.ROOT / "docker" / "monitoring"
BOARD = json.loads((MONITORING / "grafana" / "twinspire.json").read_text())
RULES = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"][0]["rules"]
QUERIES = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
QUERIES += [one["expr"] for one in BOARD["annotations"]["list"]]
TOKEN = "a-token-of-tests"


def program(name: str) -> str:
    """A program of Debian's package prometheus."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt install prometheus brings it")
    return found


@pytest.fixture(scope="module")
def server(towers, tmp_path_factory):
    """A real server that has answered, also with errors."""
    folder = tmp_path_factory.mktemp("server")
    pipeline = shop(folder)
    judged = GateFigures(metric="recall@50", candidate=0.25, index_recall=0.99)
    circle.publish(pipeline, towers, folder / "staged", quality=judged)
    settings = Settings(tokens=(TOKEN,), poll=0.05)
    with running(create_app(pipeline, settings), headers={"Authorization": f"Bearer {TOKEN}"}) as c:
        ready(c)
        assert c.post("/v1/recommend", json={"query": {"user": "anna"}, "k": 3}).is_success
        assert c.post("/v1/recommend", json={"querry": {}}).status_code == 422
        assert c.post("/v1/events", json={"events": [{"item": "i01"}]}).is_success
        yield c


@pytest.fixture(scope="module")
def families(server):
    """Name of each series at /metrics -> names of its labels."""
    found = {}
    for name, labels in re.findall(r"(?m)^([a-z_]+)(?:\{(.*)\})? ", server.get("/metrics").text):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


def prometheus_labels(query: str) -> set[str]:
    """Labels that a query of one of our series selects by or groups by."""
    inner = re.sub(r'"[^"]*"', '""', query)
    selected = re.findall(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"\"", inner)
    grouped = re.findall(r"(?:by|on) \(([\w, ]+)\)", inner)
    return {*selected, *(label for group in grouped for label in re.split(r",\s*", group))}


@pytest.mark.parametrize("query", [*QUERIES, *(rule["expr"] for rule in RULES)])
def test_what_is_asked_for_is_what_the_server_tells(query, families):
    names = set(re.findall(r"twinspire_\w+", query))
    assert names <= set(families), "no such series at /metrics"
    labels = {"instance", "job", *(label for name in names for label in families[name])}
    assert prometheus_labels(query) <= labels


def test_alerts_fire_when_they_should(tmp_path):
    for file in (MONITORING / "alerts.yaml", Path(__file__).with_name("alerts_test.yaml")):
        shutil.copy(file, tmp_path)
    line = [program("promtool"), "test", "rules", "alerts_test.yaml"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    tried = (tmp_path / "alerts_test.yaml").read_text()
    for rule in RULES:
        assert len(re.findall(rf"alertname: {rule['alert']}\b", tried)) >= 2, rule["alert"]


@contextmanager
def prometheus(folder: Path, target: str):
    """The configuration of compose.yaml, with a server that Prometheus finds by its address."""
    config = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
    config["rule_files"] = [str(MONITORING / "alerts.yaml")]
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    scrape = config["scrape_configs"][0]
    del scrape["dns_sd_configs"]
    scrape["static_configs"] = [{"targets": [target]}]
    (folder / "token").write_text(TOKEN)
    scrape["authorization"] = {"credentials_file": str(folder / "token")}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    with (folder / "log").open("w") as log:
        line = [program("prometheus"), f"--config.file={folder}/prometheus.yaml"]
        line += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}"]
        process = subprocess.Popen(line, stderr=log)
    try:
        with httpx.Client(base_url=f"http://{address}") as asking:
            yield asking
    finally:
        process.kill()
        process.wait()


def test_every_panel_has_an_answer_and_no_alert_fires_for_a_server_that_is_well(server, tmp_path):
    target = f"{server.base_url.host}:{server.base_url.port}"
    with prometheus(tmp_path, target) as asking:

        def value(query):
            answer = asking.get("/api/v1/query", params={"query": query}).json()
            assert answer["status"] == "success", answer
            return answer["data"]["result"]

        def came() -> bool:
            try:
                return len(value("twinspire_live_version[1m]")[0]["values"]) > 3
            except (httpx.ConnectError, IndexError, json.JSONDecodeError, KeyError):
                return False

        until(came)
        for query in QUERIES:
            text = query.replace("$instance", ".*").replace("$__rate_interval", "1m")
            if query not in (one["expr"] for one in BOARD["annotations"]["list"]):
                assert value(text), text
        rules = asking.get("/api/v1/rules").json()["data"]["groups"][0]["rules"]
        assert {rule["name"]: rule["health"] for rule in rules} == {r["alert"]: "ok" for r in RULES}
        time.sleep(1.1)
        assert asking.get("/api/v1/alerts").json()["data"]["alerts"] == []
