"""The proxy's own program with its own file, before a real server."""

import shutil
import ssl
import subprocess

import httpx
import pytest

from examples.local_airflow.server import free_port
from serving.app import create_app
from serving.http.server_settings import Settings
from tests.docker import compose_file
from tests.serving import conftest as circle
from tests.serving.http.conftest import ready, running, shop, until

FILE = compose_file.ROOT / "docker" / "proxy" / "Caddyfile"
TOKEN = "a-token-of-tests"


@pytest.fixture(scope="module")
def caddy():
    program = shutil.which("caddy")
    if program is None:
        pytest.skip("caddy is not installed: apt install caddy brings it")
    return program


@pytest.fixture(scope="module")
def behind(caddy, towers, tmp_path_factory):
    """What asks through TLS, and what asks the server itself."""
    folder = tmp_path_factory.mktemp("proxy")
    pipeline = shop(folder)
    circle.publish(pipeline, towers, folder / "staged")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with running(
        create_app(pipeline, Settings(tokens=(TOKEN,), poll=0.05)), headers=headers
    ) as inner:
        ready(inner)
        port, plain = free_port(), free_port()
        # On ports of one's own, and with nothing installed among this machine's authorities.
        text = FILE.read_text().replace(
            "\tadmin off\n",
            f"\tadmin off\n\tskip_install_trust\n\thttp_port {plain}\n\thttps_port {port}\n",
        )
        (folder / "Caddyfile").write_text(text)
        env = dict.fromkeys(("XDG_DATA_HOME", "XDG_CONFIG_HOME", "HOME"), str(folder))
        env["UPSTREAM"] = f"{inner.base_url.host}:{inner.base_url.port}"
        line = [caddy, "run", "--config", folder / "Caddyfile", "--adapter", "caddyfile"]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(line, env=env, stderr=log)
        try:
            authority = folder / "caddy/pki/authorities/local/root.crt"
            until(authority.exists)
            trust = ssl.create_default_context(cafile=str(authority))
            with httpx.Client(
                base_url=f"https://localhost:{port}", verify=trust, headers=headers
            ) as outer:
                until(lambda: answers(outer))
                yield outer, inner, plain
        finally:
            process.terminate()
            process.wait(30)


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/v1/version").status_code == 200
    except httpx.TransportError:
        return False


ASKED = {"query": {"user": "anna"}, "k": 3}


def test_what_is_asked_through_it_is_what_the_server_says(behind):
    outer, inner, _ = behind
    # As a page of the site does it: the server compares Origin and Host.
    answer = outer.post(
        "/v1/recommend", json=ASKED, headers={"Origin": str(outer.base_url).rstrip("/")}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json() == inner.post("/v1/recommend", json=ASKED).json()
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_page_of_another_site_is_refused_as_before(behind):
    answer = behind[0].post("/v1/recommend", json=ASKED, headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_what_is_for_those_inside_is_not_told(behind, path):
    outer, inner, _ = behind
    assert inner.get(path).status_code == 200
    assert outer.get(path).status_code == 404


def test_nobody_asks_without_the_token(behind):
    with httpx.Client(verify=False) as stranger:
        assert stranger.get(behind[0].base_url.join("/v1/version")).status_code == 401


def test_plain_http_is_sent_to_tls(behind):
    answer = httpx.get(f"http://localhost:{behind[2]}/v1/version")
    assert answer.status_code == 308
    assert answer.headers["Location"].startswith("https://localhost")


def test_a_body_that_is_too_large_is_refused(behind):
    # The server says 413 and closes; a proxy that is still sending may not come to read that.
    answer = behind[0].post("/v1/recommend", content=b" " * (2 << 20))
    assert answer.status_code in (413, 502)
    assert behind[0].post("/v1/recommend", json=ASKED).is_success
