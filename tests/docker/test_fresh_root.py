"""What the Dockerfile makes, and what compose starts in it: each entrypoint in a fresh root, on ports
of one's own, with its health check, page and API.
"""

import os
import shutil
import signal
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from examples.local_airflow.server import free_port
from tests.dags import postgres
from tests.docker import compose_file, fresh_root
from tests.serving import conftest as circle
from tests.serving.http.conftest import shop

pytestmark = pytest.mark.system

ROOT = compose_file.ROOT
PASSWORD = "a-password-of-tests"
TOKEN = "t" * 64
PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
PATIENCE = 400  # seconds; Airflow's four parts are up after 40 on two idle cores


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A function that makes an image, by the target's name."""
    if why := fresh_root.possible():
        pytest.skip(why)
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = [Path(line) for line in listed.stdout.splitlines()]
    home = tmp_path_factory.mktemp("images")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield lambda target: fresh_root.build(ROOT / "docker/Dockerfile", target, files, home)
    shutil.rmtree(home)  # gigabytes


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    """Compose's model, with passwords of tests."""
    values = dict.fromkeys(compose_file.ASKED, "0" * 64)
    values |= {"AIRFLOW_PASSWORD": PASSWORD, "SERVING_TOKEN": TOKEN, "SERVE": "circle"}
    values |= {"FERNET_KEY": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "LOGS": "/srv/logs"}
    return compose_file.project(tmp_path_factory.mktemp("compose"), values)["services"]


@contextmanager
def started(line: list[str], log: Path):
    """Runs a command of a root meanwhile, with all that it starts."""
    with log.open("w") as output:
        process = subprocess.Popen(line, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        for sign, seconds in ((signal.SIGTERM, 20), (signal.SIGKILL, 20)):
            try:
                os.killpg(process.pid, sign)
                process.wait(seconds)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def until_healthy(line: list[str], process: subprocess.Popen, log: Path) -> None:
    """Asks as the engine does, until the health check is content."""
    end = time.monotonic() + PATIENCE
    while True:
        done = subprocess.run(line, capture_output=True, text=True)
        if done.returncode == 0:
            return
        told = f"{done.stderr}\n{log.read_text()[-3000:]}"
        assert process.poll() is None and time.monotonic() < end, told
        time.sleep(2)


def health_check(told: list[str]) -> list[str]:
    """The command of a health check as compose's parser gives it."""
    kind, *words = told
    return ["/bin/sh", "-c", *words] if kind == "CMD-SHELL" else words


def test_the_image_for_serving_answers_with_the_token_and_as_compose_starts_it(
    images, services, towers, tmp_path
):
    image, port = images("serving"), str(free_port())
    pipelines, data = tmp_path / "pipelines", tmp_path / "data"
    for folder in (pipelines, data):
        folder.mkdir()
    pipeline = shop(pipelines)
    circle.publish(pipeline, towers, tmp_path / "staged")
    shutil.move(pipelines / "registry", data / "registry")
    file = pipelines / "circle.toml"
    file.write_text(file.read_text().replace('root = "registry"', 'root = "/data/registry"'))
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/serving_token").write_text(TOKEN)
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)  # pytest's own are for their owner alone
    mounts = {"/pipelines": pipelines, "/data": data, "/run/secrets": tmp_path / "secrets"}
    command = [*image.entrypoint, "--port", port, *services["serving"]["command"]]
    check = [word.replace("8000", port) for word in image.healthcheck]
    log = tmp_path / "log"
    with (
        fresh_root.entered(image.root, mounts=mounts) as inside,
        started(inside(command, image.env, image), log) as process,
    ):
        until_healthy(inside(check, image.env, image), process, log)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            assert client.get("/v1/version").status_code == 401
            client.headers["Authorization"] = f"Bearer {TOKEN}"
            told = client.post("/v1/recommend", json={"query": {"user": "anna"}, "k": 3})
            assert told.status_code == 200, told.text
            # Those beside the one that she had last
            assert set(told.json()["items"]) == {"i04", "i05", "i06"}
            assert "circle" in client.get("/").text
    assert "Traceback" not in log.read_text()


@pytest.fixture(scope="module")
def airflow(images, services, tmp_path_factory):
    """Where the api-server is, once compose's four parts are healthy; and what they wrote."""
    if not postgres.BINARIES:
        pytest.skip("PostgreSQL is not installed where Debian has it")
    image, port, health = images("twinspire"), str(free_port()), str(free_port())
    logs = tmp_path_factory.mktemp("parts")
    with postgres.running() as url, fresh_root.entered(image.root) as inside:

        def own(words):
            """The words of a command, with ports of one's own for those that may be taken."""
            for old, new in (("api-server:8080", f"127.0.0.1:{port}"), ("8974", health)):
                words = [word.replace(old, new) for word in words]
            return [word.replace("8080", port).replace("$$", "$") for word in words]

        def line(words, **env):
            env = {k: v for k, v in services["init"]["environment"].items() if v is not None} | env
            env |= {
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url,
                "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
                "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": health,
            }
            return inside(own(words), image.env | env, image)

        subprocess.run(line(services["init"]["command"]), check=True)
        with ExitStack() as parts:
            for name in PARTS:
                part = started(line(services[name]["command"]), logs / name)
                process = parts.enter_context(part)
                check = health_check(services[name]["healthcheck"]["test"])
                until_healthy(line(check), process, logs / name)
            yield f"http://127.0.0.1:{port}", logs


def test_every_part_is_healthy_and_the_api_asks_who_one_is(airflow):
    url, logs = airflow
    told = httpx.get(f"{url}/api/v2/monitor/health").json()
    parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
    assert {name: part["status"] for name, part in told.items()} == dict.fromkeys(parts, "healthy")
    assert httpx.get(f"{url}/api/v2/dags").status_code == 401
    assert "Traceback" not in "".join(log.read_text() for log in logs.iterdir())


def test_the_first_account_sees_a_dag_for_each_pipeline_file(airflow):
    url, _ = airflow
    name = {"username": "admin", "password": PASSWORD}
    assert httpx.post(f"{url}/auth/token", json={**name, "password": "guess"}).status_code == 401
    token = httpx.post(f"{url}/auth/token", json=name).json()["access_token"]
    files = {file.stem for file in (ROOT / "pipelines").glob("*.toml")}
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:
        end = time.monotonic() + PATIENCE
        while True:
            found = {dag["dag_id"] for dag in client.get("/api/v2/dags").json()["dags"]}
            if files <= found:
                break
            assert time.monotonic() < end, found
            time.sleep(2)
        assert client.get("/api/v2/importErrors").json()["import_errors"] == []


def test_a_person_is_asked_for_a_password(airflow):
    url, _ = airflow
    page = httpx.get(url, follow_redirects=True)
    assert page.status_code == 200
    assert 'name="password"' in httpx.get(f"{url}/auth/login/").text
