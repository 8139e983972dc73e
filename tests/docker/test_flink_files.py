"""The cluster's files, as far as they can be checked without a container engine; what they start is
run by tests/system/test_flink.py.
"""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from examples.local_flink.cluster import LocalFlink
from tests import go_programs

DOCKER = Path(__file__).parents[2] / "docker"
FLINK = DOCKER / "flink"
SERVICES = yaml.safe_load((FLINK / "compose.yaml").read_text())["services"]
CONF = yaml.safe_load((FLINK / "flink-conf.yaml").read_text())
UNITS = {"m": 1, "g": 1024}


def megabytes(text):
    return int(text[:-1]) * UNITS[text[-1]]


@pytest.mark.parametrize("file", ["compose.yaml", "flink/compose.yaml", "flink/airflow.yaml"])
def test_composes_own_parser_takes_the_file(file):
    parser = go_programs.build(go_programs.COMPOSE, "v2.16.2")
    path = DOCKER / file
    done = subprocess.run(
        [parser, "-no-interpolation", path.name], cwd=path.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = set(yaml.safe_load(done.stdout)["services"])
    assert ("api-server" in found) == (path.name == "airflow.yaml" or file == "compose.yaml")
    assert ("taskmanager-2" in found) == ("flink" in file)


def test_each_taskmanager_shares_a_host_with_a_pool_of_its_own():
    hosts = {"taskmanager": [], "pool": []}
    for name, service in SERVICES.items():
        part = (service.get("command") or [""])[0]
        if part in hosts:
            assert service["network_mode"] == f"service:host-{name[-1]}"
            hosts[part].append(service["network_mode"].removeprefix("service:"))
    assert hosts["taskmanager"] == hosts["pool"] == ["host-1", "host-2"]
    assert CONF["taskmanager.numberOfTaskSlots"] == 1


def test_all_parts_are_known_and_watched():
    known = set(
        re.findall(
            r"(?m)^  (\w+)\) question=|= (pool|job-server) \]", (FLINK / "part.sh").read_text()
        )
    )
    known = {name for pair in known for name in pair if name} | {"taskmanager"}
    parts = [s for s in SERVICES.values() if "command" in s]
    assert (
        {s["command"][0] for s in parts}
        == known
        == {"jobmanager", "taskmanager", "job-server", "pool"}
    )
    assert all("healthcheck" in s and s["restart"] == "unless-stopped" for s in parts)
    assert all(port.startswith("127.0.0.1:") for s in parts for port in s.get("ports", []))


def test_the_work_folder_is_shared_by_client_and_workers():
    for name in ("client", "pool-1", "pool-2"):
        assert "data:/data" in SERVICES[name]["volumes"], name


def test_a_container_has_room_for_what_flink_takes():
    explicit = [
        v for k, v in CONF.items() if k.startswith("taskmanager.memory.") and ".min" not in k
    ]
    total = sum(map(megabytes, explicit)) + 256  # the framework's heap and off-heap
    process = (total + 256) / 0.9  # metaspace; a tenth of all is the JVM's own
    for name in ("taskmanager-1", "taskmanager-2"):
        assert process < megabytes(SERVICES[name]["mem_limit"]), name


def test_a_dead_worker_is_not_kept_until_the_job_starts_again():
    told = re.search(r"environment_cache_millis=(\d+)", (FLINK / "compose.yaml").read_text())
    pause = CONF["restart-strategy.exponential-delay.initial-backoff"]
    assert int(told[1]) < int(pause.removesuffix("s")) * 1000 * 0.9  # a tenth is drawn


def test_options_of_the_local_cluster_and_of_compose_are_alike(tmp_path):
    text = re.search(r"#   options = \[(.*?)\]", (FLINK / "compose.yaml").read_text(), re.S)[1]
    told = re.findall(r'"(--[^"]+)"', text)
    of_rest = ("127.0.0.1:8081", "jobmanager:8081")  # Flink's own, in a container of its own
    of_beam = ("127.0.0.1", "job-server")
    here = LocalFlink(tmp_path).options
    assert told == [option.replace(*of_rest).replace(*of_beam) for option in here]


def test_the_image_is_made_of_what_is_there():
    text = (FLINK / "Dockerfile").read_text()
    copied = [s for line in re.findall(r"(?m)^COPY (docker.+) \S+$", text) for s in line.split()]
    assert len(copied) == 2 and all((DOCKER.parent / source).exists() for source in copied)
    assert SERVICES["client"]["image"] in re.findall(r"(?m)^FROM (\S+)", text)
