"""docker/compose.yaml on a real engine: a day of a shop is published while each container is killed once."""

import json
import secrets
import ssl
import subprocess
import time

import httpx
import pytest

from tests.docker import compose_file, engine

pytestmark = [pytest.mark.system, pytest.mark.timeout(3600)]  # images are built first

PASSWORD, TOKEN = "a-password-of-tests", secrets.token_hex(32)
BASES = ("python:3.12-slim", "postgres:17", "caddy:2.10-alpine", "prom/prometheus:v3.5.0")
# Grafana and the object store are left out: no package of Debian makes a stand-in for them.
SERVICES = str.split(
    "postgres init api-server scheduler dag-processor triggerer serving proxy prometheus"
)
LIMITS = {"twinspire": 3_500, "twinspire-serving": 1_800}
"""Sizes of images, in millions of bytes."""
BACK = 60  # seconds until the server answers again
PATIENCE = 900  # seconds for a day of the shop, whose containers are killed meanwhile


@pytest.fixture(scope="module")
def stack(checkout):
    """Compose's project."""
    engine.base_images(BASES)
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
