"""The cluster's files, as far as they can be checked without a container engine; what they start is
run by tests/docker/test_flink.py.
"""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests import go_programs

DOCKER = Path(__file__).parents[2] / "docker"
FLINK = DOCKER / "flink"
SERVICES = yaml.safe_load((FLINK / "compose.yaml").read_text())["services"]
CONF = yaml.safe_load((FLINK / "flink-conf.yaml").read_text())
UNITS = {"m": 1, "g": 1024}


def megabytes(text):
    return int(text[:-1]) * UNITS[text[-1]]


@pytest.mark.parametrize("file", ["compose.yaml", "flink/compose.yaml", "flink/airflow.yaml"])
def test_compose_parses_the_file(file):
    parser = go_programs.build(go_programs.COMPOSE, "v2.16.2")
    path = DOCKER / file
    done = subprocess.run(
        [parser, "-no-interpolation", path.name], cwd=path.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    services = set(yaml.safe_load(done.stdout)["services"])
    assert ("api-server" in services) == (path.name == "airflow.yaml" or file == "compose.yaml")
    assert ("taskmanager-2" in services) == ("flink" in file)


def test_a_containers_memory_fits_flinks():
    explicit = [
        v for k, v in CONF.items() if k.startswith("taskmanager.memory.") and ".min" not in k
    ]
    total = sum(map(megabytes, explicit)) + 256  # the framework's heap and off-heap
    process = (total + 256) / 0.9  # metaspace; a tenth of all is the JVM's own
    for name in ("taskmanager-1", "taskmanager-2"):
        assert process < megabytes(SERVICES[name]["mem_limit"]), name


def test_a_dead_worker_is_not_kept_until_the_job_starts_again():
    cached = re.search(r"environment_cache_millis=(\d+)", (FLINK / "compose.yaml").read_text())
    pause = CONF["restart-strategy.exponential-delay.initial-backoff"]
    assert int(cached[1]) < int(pause.removesuffix("s")) * 1000 * 0.9  # a tenth is drawn
