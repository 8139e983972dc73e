"""The compose files on a real engine. docker/compose.yaml: a day of a shop is published while each container is killed
once. docker/flink/compose.yaml: a job ends although a TaskManager is killed.
"""

import json
import secrets
import shutil
import ssl
import subprocess
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import httpx
import pytest

from tests import shop
from tests.docker import compose_file, engine

pytestmark = [pytest.mark.system, pytest.mark.timeout(3600)]  # images are built first

PASSWORD, TOKEN = "a-password-of-tests", secrets.token_hex(32)
BASES = ("python:3.12-slim", "postgres:17", "caddy:2.10-alpine", "prom/prometheus:v3.5.0")
FLINK_BASES = ("maven:3.9-eclipse-temurin-17", "eclipse-temurin:17-jre")
# Grafana and the object store are left out: no package of Debian makes a stand-in for them.
SERVICES = str.split(
    "postgres init api-server scheduler dag-processor triggerer serving proxy prometheus"
)
LIMITS = {"twinspire": 3_500, "twinspire-serving": 1_800}
"""Sizes of images, in millions of bytes."""
COPY_LOGS = ("client", "cp", "--recursive", "/logs", "/data/logs")
BACK = 60  # seconds until the server answers again
PATIENCE = 900  # seconds for a day of the shop, whose containers are killed meanwhile


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the checkout with a shop whose logs end yesterday, while an engine runs that has the base images."""
    home = tmp_path_factory.mktemp("containers")
    checkout = home / "checkout"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=engine.ROOT, capture_output=True, text=True, check=True)
    for name in names.stdout.splitlines():
        if (engine.ROOT / name).exists():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(engine.ROOT / name, checkout / name)
    lay_out(checkout / "pipelines", home / "logs")
    for path in (*home.parents[:2], *home.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)  # pytest's own are for their owner alone
    with engine.running(home / "engine"):
        engine.base_images([*BASES, *FLINK_BASES])
        yield checkout


@pytest.fixture(scope="module")
def stack(checkout):
    """Compose's project."""
    values = dict.fromkeys(compose_file.ASKED, secrets.token_hex(32))
    values |= {"AIRFLOW_PASSWORD": PASSWORD, "SERVING_TOKEN": TOKEN, "SERVE": "shop"}
    values |= {"FERNET_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}
    values |= {"LOGS": str(checkout.parent / "logs")}
    (checkout / "docker/.env").write_text("".join(f"{k}={v}\n" for k, v in values.items()))
    compose = engine.Project(checkout / "docker/compose.yaml")
    try:
        compose("build", "init", "serving", "proxy")
        compose("up", "--detach", "--wait", *SERVICES)
        yield compose
    finally:
        compose("down", "--volumes", check=False)


@pytest.fixture
def flink(checkout):
    """Flink's project. The pipeline `remote` has the options that the compose file gives; `local` has none."""
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


def lay_out(pipelines: Path, logs: Path) -> None:
    """The shop as its only pipeline, in the folders of the containers."""
    file = shop.lay_out(logs, date.today() - timedelta(days=shop.DAYS))
    text = file.read_text().replace("[pipeline]", '[pipeline]\nwork_root = "/data/work"')
    for table in ("events", "items", "users"):
        text = text.replace(f'"{table}/', f'"/logs/{table}/')
    for other in pipelines.glob("*.toml"):
        other.unlink()
    (pipelines / "shop.toml").write_text(f'{text}[registry]\nroot = "/data/registry"\n')


def ask(path: str, token: str = TOKEN, **body: object) -> httpx.Response:
    """The proxy's answer."""
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE  # the proxy's own authority
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url="https://localhost", verify=trust, headers=headers) as client:
        return client.post(path, json=body) if body else client.get(path)


def answers(seconds: float) -> bool:
    """Whether the server gives a list before the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if ask("/v1/recommend", query={"user": "u000"}, k=5).status_code == 200:
                return True
        except httpx.HTTPError:
            pass
        time.sleep(1)
    return False


def states(compose: engine.Project) -> set[str]:
    """Of the DAG's runs; empty while Airflow cannot say."""
    output = compose.inside("scheduler", "airflow dags list-runs shop -o json", check=False)
    try:
        return {run["state"] for run in json.loads(output[output.index("[{") :])}
    except ValueError:
        return set()


def until_published(compose: engine.Project) -> None:
    end = time.monotonic() + PATIENCE
    while (ended := states(compose)) != {"success"}:
        assert "failed" not in ended, compose("logs", "--tail", "200", "scheduler")
        assert time.monotonic() < end, ended
        time.sleep(5)


def versions(compose: engine.Project) -> list[dict]:
    return json.loads(compose.inside("scheduler", "twinspire versions pipelines/shop.toml --json"))


def test_a_day_is_published_once_while_each_container_is_killed(stack):
    stack.inside("scheduler", "twinspire doctor pipelines/shop.toml")
    stack.inside("scheduler", "airflow dags unpause shop")
    for service in ("dag-processor", "triggerer", "api-server", "scheduler", "postgres"):
        time.sleep(20)  # the day goes on
        stack.kill(service)
    until_published(stack)
    (first,) = versions(stack)
    assert answers(BACK)
    for service in ("serving", "proxy", "prometheus"):
        stack.kill(service)
        assert answers(BACK), service
    stack("up", "--detach", "--wait", *SERVICES)  # each is healthy again
    assert versions(stack) == [first]
    assert ask("/v1/version").json()["version"] == first["version"]


def test_requests_without_the_token_are_refused(stack):
    assert ask("/v1/version", token="guess").status_code == 401
    assert ask("/metrics").status_code == 404


def test_image_sizes_stay_below_their_limits(stack):
    for image, limit in LIMITS.items():
        line = ["docker", "image", "inspect", "--format", "{{.Size}}", image]
        size = int(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
        assert size < limit * 1e6, (image, size)


def test_flink_ends_a_job_whose_taskmanager_is_killed_with_the_same_bytes(flink):
    day = str(date.today() - timedelta(days=1))
    in_client = ("run", "--rm", "client")
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(flink, *in_client, "twinspire", "features", "remote", "--date", day)
        until_flink_runs(job)
        flink.kill("taskmanager-1")
        job.result(PATIENCE)
    flink(*in_client, "twinspire", "features", "local", "--date", day)
    sums = "cd /data/work/{}/dt=*/features/* && find . -name '*.parquet' | sort | xargs sha256sum"
    remote, local = (
        flink(*in_client, "sh", "-c", sums.format(name)) for name in ("remote", "local")
    )
    assert remote == local and remote.count("parquet") > 10


def until_flink_runs(job: Future) -> None:
    """Until a task of a job runs."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert not job.done(), job.result()
        jobs = httpx.get("http://127.0.0.1:8081/jobs/overview").json()["jobs"]
        if any(one["tasks"]["running"] for one in jobs):
            return
        time.sleep(1)
    raise AssertionError("no job ran")
