"""The process: `twinspire serve`."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.serving import conftest as circle
from tests.serving.http.conftest import shop, until
from twinspire.cli.main import app

ROOT = Path(__file__).parents[3]


@contextmanager
def serving(folder: Path, *options: str, until_said: str) -> Iterator[tuple[subprocess.Popen, int]]:
    """Runs the command on the circle's pipeline file; yields its process and its port."""
    command = [sys.executable, "-m", "twinspire", "serve", "circle.toml", "--port", "0", *options]
    log = folder / "log"
    with log.open("w") as stderr:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, cwd=folder, stderr=stderr, env=env)
    try:
        until(lambda: until_said in log.read_text(), 300)
        listening = re.search(r"listening on http://127\.0\.0\.1:(\d+)", log.read_text())
        yield process, int(listening.group(1))
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


def test_it_stops_on_a_signal_after_the_answers_in_flight(towers, tmp_path):
    version = circle.publish(shop(tmp_path), towers, tmp_path / "staged")
    (tmp_path / "token").write_text("another\n\n  secret \n")
    ready = f"{version} answers from now on"
    with serving(tmp_path, "--token-file", "token", until_said=ready) as (process, port):
        body = json.dumps({"query": {"user": "anna"}, "k": 3}).encode()
        head = (
            "POST /v1/recommend HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer"
            f" secret\r\nContent-Length: {len(body)}"
        )
        with socket.create_connection(("127.0.0.1", port)) as flight:
            flight.sendall(head.encode() + b"\r\n\r\n" + body[:10])
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            until(lambda: refused(port))
            time.sleep(0.5)  # long enough for one who does not wait to have gone
            flight.sendall(body[10:])
            answer = b"".join(iter(lambda: flight.recv(1 << 16), b""))
        assert answer.startswith(b"HTTP/1.1 200")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["items"][0] == "i05"
        assert process.wait(300) == 0


def test_nobody_who_is_slow_holds_up_its_end(tmp_path):
    """Headers that do not end, a body that does not come, an answer that nobody takes."""
    shop(tmp_path)
    options = ("--client-timeout", "1", "--allowed-host", "shop.example")
    with ExitStack() as stack:
        process, port = stack.enter_context(serving(tmp_path, *options, until_said="listening"))

        def connection() -> socket.socket:
            return stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))

        def status(host: str) -> bytes:
            one = connection()
            one.sendall(f"GET /v1/version HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            return one.recv(1 << 16).split(b" ")[1]

        assert status("localhost") == status("127.0.0.1:1") == status("shop.example") == b"200"
        assert status("rebound.example") == b"421", "a name that somebody made point here"
        ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        begun = b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n"
        for sent in (b"", begun, begun + b"\r\n{", ask * 500):
            connection().sendall(sent)
        time.sleep(0.3)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert time.monotonic() - started < 8


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--token-file", "nowhere"], "cannot be read"),
        (["--token-file", "empty"], "is empty"),
        (["--port", "1", "--host", "192.0.2.1"], "cannot be used"),
    ],
)
def test_impossible_arguments_are_rejected(arguments, said, tmp_path, monkeypatch):
    shop(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("empty").touch()
    result = CliRunner().invoke(app, ["serve", "circle.toml", *arguments])
    assert said in str(result.exception)
