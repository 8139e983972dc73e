"""What an OpenTelemetry collector gets of a real Airflow: its own figures, and those of stages.

With the settings of docs/operations.md, over HTTP. Stages take no time.
"""

import stat
import sys
import threading
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from examples.local_airflow.server import LocalAirflow
from tests.dags.conftest import finish, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(1200)]

DAY = date(2024, 5, 6)
STAGES = ("features", "train", "measure", "embed", "index", "publish")
QUICK = Path(__file__).parent / "quick_stages.py"


class Collector:
    """Takes figures as a collector does, on 127.0.0.1.

    Attributes:
      gauges: what was told of each gauge, by its name.
      names: of all figures.
      services: who told them.
    """

    def __init__(self):
        self.gauges = {}
        self.names = set()
        self.services = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                known = self.path == "/v1/metrics"
                if known:
                    collector.take(ExportMetricsServiceRequest.FromString(body))
                self.send_response(200 if known else 404)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, sent):
        for of_service in sent.resource_metrics:
            attributes = {a.key: a.value.string_value for a in of_service.resource.attributes}
            self.services.add(attributes["service.name"])
            for figures in of_service.scope_metrics:
                for figure in figures.metrics:
                    self.names.add(figure.name)
                    for point in figure.gauge.data_points:
                        kind = point.WhichOneof("value")
                        self.gauges.setdefault(figure.name, []).append(getattr(point, kind))


@pytest.fixture(scope="module")
def collector():
    one = Collector()
    yield one
    one.server.shutdown()
    one.server.server_close()


@pytest.fixture(scope="module")
def airflow(tmp_path_factory, logs_of, pipeline_of, collector):
    home = tmp_path_factory.mktemp("telemetry")
    logs_of(home / "logs", [DAY], "UTC", events=50)
    (home / "pipelines").mkdir()
    (home / "pipelines/prompt.toml").write_text(pipeline_of("prompt", "UTC", home / "logs"))
    python = home / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{QUICK}" "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    env = {
        "TWINSPIRE_PYTHON": str(python),
        "QUICK_LOGS": str(home / "logs"),
        "AIRFLOW__METRICS__OTEL_ON": "True",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
    }
    own = LocalAirflow(home / "airflow", home / "pipelines", schedule=False, env=env)
    with own as airflow:
        airflow.wait_until_healthy(timeout=400).wait_for_dag("prompt", timeout=200)
        yield airflow


@pytest.fixture(scope="module")
def told(airflow):
    """The last line of each stage of a day that went well."""
    rest = airflow.rest
    rest.unpause("prompt")
    run = rest.trigger("prompt", day=str(DAY))
    [ended] = finish(rest, "prompt")
    assert ended["state"] == "success"
    return {stage: rest.result("prompt", run, stage) for stage in STAGES}


def test_a_collector_gets_each_number_of_a_stages_last_line(collector, told):
    numbers = {
        f"airflow.twinspire.prompt.{stage}.{name}": value
        for stage, line in told.items()
        for name, value in line.items()
        if type(value) in (int, float)
    }
    assert {name.split(".")[3] for name in numbers if name.endswith(".seconds")} == {*STAGES}
    until(lambda: numbers.keys() <= collector.gauges.keys())
    assert not [name for name, value in numbers.items() if value not in collector.gauges[name]]


def test_a_collector_gets_airflows_own_figures(collector, told):
    until(lambda: any(name.startswith("airflow.dagrun.duration") for name in collector.names))
    until(lambda: "airflow.scheduler_heartbeat" in collector.names)
    assert collector.services == {"airflow"}
