"""What a real Airflow sends: notices of late days and of the live version to people; OpenLineage; StatsD; and
whoever looks at a run, where the report is.

One Airflow serves the whole file. `prompt` has stages that take no time, and a deadline that no run
can keep. `circle` has a version of twelve items that can be asked.
"""

import json
import socket
import threading
import time
from collections import Counter
from datetime import datetime
from functools import partial
from zoneinfo import ZoneInfo

import pytest

from examples.local_airflow.server import LocalAirflow
from index_builder.registry.registry import Registry
from tests.dags.conftest import PATIENCE, REAL, days_ago, quick_for, until, write_program
from tests.serving import conftest as circle
from tests.serving.conftest import towers  # noqa: F401
from twinspire.backfills.airflow_backfills import start_backfill
from twinspire_core.config.pipeline import load

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]

ZONE = "Asia/Tokyo" if datetime.now(ZoneInfo("Asia/Tokyo")).hour < 23 else "Pacific/Auckland"
SERVER = "http://recommend.example:8000"


ago = partial(days_ago, ZONE)


def notify(place):
    """A table of the pipeline file that has messages written to a file, a line each."""
    return f"\n[notify]\ncommand = \"cat >> '{place}'; echo >> '{place}'\"\n"


def lines(place):
    """The JSON objects of a file, one a line."""
    return [json.loads(line) for line in place.read_text().splitlines()] if place.exists() else []


@pytest.fixture(scope="module")
def home(tmp_path_factory, logs_of, pipeline_of, towers):  # noqa: F811
    """Three days of logs and two pipeline files, in `pipelines`; messages go to `messages` and
    `messages-circle`.
    """
    root = tmp_path_factory.mktemp("watched")
    logs_of(root / "logs", [ago(n) for n in range(1, 4)], ZONE, events=50)
    text = pipeline_of("prompt", ZONE, root / "logs")
    header = f'[pipeline]\nwork_root = "{root}/work"\ndeadline = "1s"\n'
    text = text.replace("[pipeline]\n", header) + notify(root / "messages")
    text += f'[registry]\nroot = "{root}/registry"\nkeep_versions = 1\nkeep_days = 1\nserver = "{SERVER}"\n'
    (root / "pipelines").mkdir()
    (root / "pipelines/prompt.toml").write_text(text)
    watch(root, "99999d")
    circle.publish(load(root / "pipelines/circle.toml"), towers, root / "staged")
    return root


def watch(root, max_age):
    """Writes the file of `circle`, whose live version may be so old."""
    registry = f'root = "{root}/circles", max_age = "{max_age}"'
    text = circle.PIPELINE.replace('root = "registry"', registry)
    (root / "pipelines/circle.toml").write_text(text + notify(root / "messages-circle"))


class Packets:
    """A StatsD daemon that keeps what it gets: names with their last values."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.values = {}
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self):
        while True:
            for line in self.socket.recv(1 << 16).decode().splitlines():
                name, _, value = line.partition(":")
                self.values[name] = value


@pytest.fixture(scope="module")
def packets():
    return Packets()


@pytest.fixture(scope="module")
def airflow(home, packets):
    lineage = {"type": "file", "log_file_path": str(home / "lineage.jsonl"), "append": True}
    env = {
        "TWINSPIRE_PYTHON": write_program(home / "python", quick_for("prompt"), REAL),
        "QUICK_LOGS": str(home / "logs"),
        # The scheduled day ends last: a backfill's newest version stays where a later day was first
        "QUICK_HELD": f"prompt {ago(1)}",
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(packets.port),
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(lineage),
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "here",
    }
    with LocalAirflow(home / "airflow", home / "pipelines", env=env) as airflow:
        airflow.wait_until_healthy(timeout=400)
        for dag in ("prompt", "prompt.prune", "circle.monitor"):
            airflow.rest.wait_for_dag(dag, timeout=200)
        yield airflow


@pytest.fixture(scope="module")
def days(airflow, home):
    """The runs of three days, ended: two of a backfill, and the scheduled one."""
    rest = airflow.rest
    start_backfill(rest, "prompt", ago(3), ago(2), zone=ZoneInfo(ZONE))
    rest.unpause("prompt")

    def ended(count):
        runs = rest.runs("prompt")
        return sum(run["state"] == "success" for run in runs) == count and runs

    until(lambda: ended(2))
    (home / "logs/go").touch()
    return until(lambda: ended(3))


def run_upkeep(rest, dag):
    """Runs a DAG of one task by hand, and returns how its run ended."""
    rest.unpause(dag)
    run = rest.trigger(dag)

    def ended():
        [state] = [one for one in rest.runs(dag) if one["dag_run_id"] == run]
        return state["state"] in ("success", "failed") and state

    return until(ended)


def test_a_late_scheduled_day_is_reported_and_backfilled_days_are_not(home, days):
    def late():
        return [one for one in lines(home / "messages") if one["event"] == "late_day"]

    until(late)
    time.sleep(5)  # so that those of a backfill would have come as well
    [notice] = late()
    assert (notice["day"], notice["pipeline"]) == (str(ago(1)), "prompt")
    assert "scheduled__" in notice["reason"] and "pipeline.deadline" in notice["reason"]


def test_statsd_gets_metrics_of_airflow_and_of_stages(packets, days):
    until(lambda: "airflow.twinspire.prompt.publish.seconds" in packets.values)
    gauges = {name for name in packets.values if name.startswith("airflow.twinspire.prompt.")}
    for stage in ("features", "train", "measure", "embed", "index", "publish"):
        assert f"airflow.twinspire.prompt.{stage}.seconds" in gauges
    value = packets.values["airflow.twinspire.prompt.features.seconds"]
    assert value.endswith("|g") and 0 <= float(value.removesuffix("|g")) < PATIENCE
    assert any(name.startswith("airflow.dagrun.") for name in packets.values)


def test_lineage_connects_logs_and_version(home, days):
    def ends():
        events = lines(home / "lineage.jsonl")
        return [one for one in events if one["eventType"] == "COMPLETE"]

    def of(job):
        return [one for one in ends() if one["job"]["name"] == f"prompt.{job}"]

    until(lambda: len(of("publish")) == 3)
    assert {one["job"]["namespace"] for one in ends()} == {"here"}
    assert Counter(one["job"]["name"] for one in ends())["prompt.train"] == 3
    place = {
        stage: (
            {name(one) for event in of(stage) for one in event["inputs"]},
            {name(one) for event in of(stage) for one in event["outputs"]},
        )
        for stage in ("day", "features", "train", "measure", "embed", "index", "publish")
    }
    assert place["day"][0] == {f"{home}/logs/events"}
    for stage, (_, made) in place.items():
        if stage != "day":
            assert any(f"/{stage}/" in one for one in made), stage
    # What a stage reads was made by one before it.
    assert place["features"][1] <= place["train"][0]
    assert place["train"][1] <= place["embed"][0] and place["index"][1] <= place["publish"][0]
    versions = Registry(str(home / "registry"), "prompt")
    assert {versions.folder(entry.version) for entry in versions.log()} <= place["publish"][1]


def name(dataset):
    """The path of a dataset of files."""
    assert dataset["namespace"] == "file"
    return "/" + dataset["name"].lstrip("/")


def test_an_old_live_version_is_reported_once(airflow, home):
    rest = airflow.rest
    run = run_upkeep(rest, "circle.monitor")
    result = rest.result("circle.monitor", run["dag_run_id"], "status")
    assert (run["state"], result["status"], len(result["checks"])) == ("success", "well", 2)
    assert not (home / "messages-circle").exists()

    watch(home, "1d")
    run = run_upkeep(rest, "circle.monitor")
    task = rest.tasks("circle.monitor", run["dag_run_id"])["status"]
    assert (run["state"], task["try_number"]) == ("failed", 1)
    # By the command, and not once more by Airflow
    messages = lines(home / "messages-circle")
    assert {one["event"] for one in messages} == {
        "unwell"
    }  # twice where the hour's seventh minute began
    assert all("registry.max_age" in one["reason"] for one in messages)


def test_old_versions_are_pruned(airflow, home, days):
    registry = Registry(str(home / "registry"), "prompt")
    run = run_upkeep(airflow.rest, "prompt.prune")
    result = airflow.rest.result("prompt.prune", run["dag_run_id"], "prune")
    assert run["state"] == "success" and result["deleted"]
    # On a Monday Airflow adds a scheduled run, which may be the one that deletes them
    assert {one.date for one in registry.statuses() if not one.stored} == {ago(3), ago(2)}
    assert [one.version for one in registry.statuses() if one.stored] == [registry.live()]
