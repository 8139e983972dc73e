"""The servers that are compared, as processes."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.load.world import ROOT

PATIENCE = 300  # seconds until a server is ready


class Server(NamedTuple):
    """A running server."""

    name: str
    port: int
    process: subprocess.Popen


@contextmanager
def serving(name: str, command: list[str]) -> Iterator[Server]:
    """Runs a command with `--port PORT`, waits until it is ready, and ends it by SIGTERM."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen([sys.executable, *command, "--port", str(port)], cwd=ROOT, env=env)
    try:
        _wait(name, process, port)
        yield Server(name, port, process)
    finally:
        process.terminate()
        process.wait()


def ours(pipeline: Path) -> list[str]:
    """`twinspire serve`, as it is shipped."""
    return ["-m", "twinspire", "serve", str(pipeline), "--poll", "60"]


def peak_mb(server: Server) -> float:
    """The most memory that it has had."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def cpu_seconds(server: Server) -> float:
    """The processor time that it has had, all threads together."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    # Of the whole line the 14th and 15th: in user mode and in the kernel.
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def figure(server: Server, name: str) -> float:
    """One figure of its metrics."""
    text = (
        urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=10)
        .read()
        .decode()
    )
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


def _wait(name: str, process: subprocess.Popen, port: int) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if process.poll() is not None:
            sys.exit(f"the server {name} ended with {process.returncode}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).read()
            return
        except OSError:
            time.sleep(0.2)
    sys.exit(f"the server {name} was not ready in {PATIENCE} s")
