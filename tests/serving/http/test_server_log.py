import base64
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.serving import conftest as circle
from tests.serving.http.conftest import shop, until

ROOT = Path(__file__).parents[3]
TOKEN = "token-of-7f3a"
WORDS = {"user": "user-77c1", "item": "item-5d20", "value": "value-901e", "key": "key-3b8d"}
WORDS |= {"wrong token": "guess-44aa", "path": "path-d00d", "address": "query-6e6e"}
WORDS |= {"header": "header-1f1f"}
# The command with all loggers of the process at `debug`, and a recommendation that fails.
LOUD = """
import logging, sys
from twinspire.cli.main import main
logging.basicConfig(level=logging.DEBUG)
logging.root.setLevel(logging.DEBUG)
set_level = logging.Logger.setLevel
logging.Logger.setLevel = lambda self, level: set_level(self, logging.DEBUG)
from serving.http import answer_bodies
recommend = answer_bodies.recommend
def failing(version, table, options, now):
    if options.k == 13:
        raise RuntimeError("a fault of the server")
    return recommend(version, table, options, now=now)
answer_bodies.recommend = failing
main()
"""


@pytest.fixture
def server(tmp_path, towers):
    """Asks a server in a separate process; its log is `log`."""
    circle.publish(shop(tmp_path), towers, tmp_path / "staged")
    (tmp_path / "token").write_text(TOKEN)
    command = [sys.executable, "-c", LOUD, "serve", "circle.toml", "--port", "0"]
    command += ["--token-file", "token", "--client-timeout", "1", "--max-body-kb", "1"]
    command += ["--access-log"]
    log = tmp_path / "log"
    with log.open("w") as output:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, cwd=tmp_path, stdout=output, stderr=output, env=env)
    try:
        until(lambda: "answers from now on" in log.read_text() or process.poll() is not None, 300)
        assert process.poll() is None, log.read_text()
        port = int(log.read_text().partition("http://127.0.0.1:")[2].split()[0])
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            client.headers["Authorization"] = f"Bearer {TOKEN}"
            yield client
    finally:
        process.kill()
        process.wait()


def test_nothing_of_a_request_is_logged(server, tmp_path):
    words = WORDS
    query = {"user": words["user"], "history": [words["item"], "i01"]}
    statuses = set()

    def ask(path: str, content: object, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        statuses.add(server.post(path, content=body, headers=headers).status_code)

    ask("/v1/recommend", {"query": query})
    ask("/v1/recommend", {"query": query, "k": 13})  # fails
    ask("/v1/recommend", {"queries": [query, {"place": words["value"]}]})
    ask("/v1/recommend", {"query": {words["key"]: words["value"]}})
    ask("/v1/recommend", {"query": query, "source": "ranked"})
    ask("/v1/recommend", f'{{"query": {{"user": "{words["user"]}"'.encode())
    ask("/v1/recommend", f"{words['user']} \xff".encode("latin-1"))
    ask("/v1/recommend", json.dumps({"query": {"history": [words["item"]] * 500}}).encode())
    ask("/v1/recommend", {"query": query}, Origin=f"https://{words['header']}.example")
    ask("/v1/recommend", {"query": query}, **{"Content-Type": f"text/{words['header']}"})
    ask("/v1/recommend", {"query": query}, Authorization=f"Bearer {words['wrong token']}")
    basic = base64.b64encode(f"{words['user']}:{words['wrong token']}".encode()).decode()
    ask("/v1/recommend", {"query": query}, Authorization=f"Basic {basic}")
    ask("/v1/similar", {"item": words["item"]})
    for path in (
        f"/?user={words['user']}&k=3",
        f"/?user={words['user']}&version={words['address']}",
        f"/item?item={words['item']}",
        f"/report?version=../{words['address']}",
        f"/{words['path']}",
        f"/v1/recommend?x={words['address']}",
        "/v1/version",
        "/metrics",
    ):
        statuses.add(server.get(path).status_code)
    # What is no HTTP, headers that are too long, a body that never comes, and one who leaves.
    head = f"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    for sent in (
        f"{words['user']} {words['header']}\r\n\r\n",
        f"GET / HTTP/1.1\r\nX-{words['header']}: {'x' * 70_000}\r\n\r\n",
        f'{head}Content-Length: 99\r\n\r\n{{"query": {{"user": "{words["user"]}"',
    ):
        with socket.create_connection((server.base_url.host, server.base_url.port), 10) as one:
            one.sendall(sent.encode())
            one.recv(1 << 16)
    assert {200, 400, 401, 403, 404, 405, 409, 413, 415, 422, 500} <= statuses
    log = (tmp_path / "log").read_text()
    assert "a fault of the server" in log and "POST /v1/recommend failed" in log
    actual = {what for what, word in WORDS.items() if word in log}
    # A path is what a line per request is for.
    assert (actual, TOKEN in log, basic in log) == ({"path"}, False, False), log
    assert "GET /item HTTP" in log
