"""docker/flink/compose.yaml on a real engine: a features job with its parts killed, compared with one process."""

import subprocess
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date, timedelta

import httpx
import pytest

from tests.docker import engine
from twinspire_core.errors import TryAgain

pytestmark = [pytest.mark.system, pytest.mark.timeout(3600)]  # images are built first

BASES = ("python:3.12-slim", "maven:3.9-eclipse-temurin-17", "eclipse-temurin:17-jre")
COPY_LOGS = ("client", "cp", "--recursive", "/logs", "/data/logs")
PATIENCE = 900
"""Seconds for a job of the shop's day."""
SUMS = """cd /data/work/{}/dt=*/features/
cd "$(ls -d */DONE.json | tail -n 1 | xargs dirname)"
find . -name '*.parquet' | sort | xargs sha256sum"""
"""A shell's words: the digests of the newest finished attempt."""
HALF_WAY = 8
"""Steps of some hundred: the job has begun to write."""
STOPPED = 143
"""Exit code after SIGTERM."""


@pytest.fixture(scope="module")
def flink(checkout):
    """The project. The pipeline `remote` has the options that the compose file gives; `local` has none."""
    engine.base_images(BASES)
    file = checkout / "docker/flink/compose.yaml"
    head = [line.removeprefix("#   ") for line in file.read_text().splitlines()]
    options = head[head.index("[beam]") : head.index("[beam]") + 4]
    text = (checkout / "pipelines/shop.toml").read_text().replace('"/logs/', '"/data/logs/')
    for name, beam in (("local", "[beam]"), ("remote", "\n".join(options))):
        named = text.replace('"shop"', f'"{name}"', 1).replace("[beam]", beam)
        (checkout / f"pipelines/{name}.toml").write_text(named)
    compose = engine.Project(file)
    try:
        compose("--profile", "client", "build")
        compose("up", "--detach", "--wait")
        compose("run", "--rm", "--volume", f"{checkout.parent}/logs:/logs:ro", *COPY_LOGS)
        yield compose
    finally:
        compose("--profile", "client", "down", "--volumes", check=False)


@pytest.fixture(scope="module")
def of_one_process(flink):
    """Digests of the files that one process writes."""
    assert features(flink, "local").returncode == 0
    listed = digests(flink, "local")
    assert listed.count("parquet") > 10
    return listed


@pytest.fixture
def job(flink):
    """A job on the cluster that has begun to write; its result is how the command ended."""
    flink("up", "--detach", "--wait")
    with ThreadPoolExecutor(1) as pool:
        command = pool.submit(features, flink, "remote", "--name", "features")
        until_half_way(command)
        yield command


def features(compose: engine.Project, name: str, *options: str) -> subprocess.CompletedProcess:
    day = str(date.today() - timedelta(days=1))
    line = ("twinspire", "features", name, "--date", day, "--force")
    return compose.done("run", "--rm", *options, "client", *line)


def digests(compose: engine.Project, name: str) -> str:
    return compose("run", "--rm", "client", "bash", "-c", SUMS.format(name))


def jobs() -> list[dict]:
    return httpx.get("http://127.0.0.1:8081/jobs/overview").json()["jobs"]


def until_half_way(command: Future) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert not command.done(), command.result()
        running = [one for one in jobs() if one["state"] == "RUNNING"]
        if any(one["tasks"]["finished"] > HALF_WAY for one in running):
            return
        time.sleep(0.5)
    raise AssertionError("no job was half-way")


def assert_equal_when_repeated(compose: engine.Project, expected: str) -> None:
    compose("up", "--detach", "--wait")
    again = features(compose, "remote")
    assert again.returncode == 0, again.stderr
    assert digests(compose, "remote") == expected


def test_a_killed_taskmanager_changes_no_byte(flink, of_one_process, job):
    flink.kill("taskmanager-1")
    done = job.result(PATIENCE)
    assert done.returncode == 0, done.stderr
    assert digests(flink, "remote") == of_one_process


def test_after_a_killed_jobmanager_the_command_asks_to_try_again(flink, of_one_process, job):
    flink.kill("jobmanager")
    done = job.result(PATIENCE)
    assert done.returncode == TryAgain.exit_code, done.stderr
    assert "Traceback" not in done.stderr
    assert_equal_when_repeated(flink, of_one_process)


def test_a_stopped_command_cancels_its_job(flink, of_one_process, job):
    [running] = [one for one in jobs() if one["state"] == "RUNNING"]
    subprocess.run(["docker", "kill", "--signal", "TERM", "features"], check=True)
    done = job.result(PATIENCE)
    assert done.returncode == STOPPED, done.stderr
    [stopped] = [one for one in jobs() if one["jid"] == running["jid"]]
    assert stopped["state"] == "CANCELED"
    assert_equal_when_repeated(flink, of_one_process)
