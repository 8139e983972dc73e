"""A Docker engine and Compose for tests: the engine of DOCKER_HOST, or one of their own.

Base images are pulled. TWINSPIRE_BASE_IMAGES names a program that makes them instead, from the names that are its
arguments; `tests/docker/stand_ins.sh` is one.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import go_programs

ROOT = Path(__file__).parents[2]
COMPOSE = "github.com/docker/compose/v2/cmd"
UP = 60  # seconds an engine may take to start


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Runs an engine with its files in a folder, and says in DOCKER_HOST where it is."""
    if os.environ.get("DOCKER_HOST"):
        yield
        return
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("a Docker engine of one's own needs root and dockerd; or set DOCKER_HOST")
    folder.mkdir()
    socket = f"unix://{folder}/socket"
    line = ["dockerd", "--host", socket, "--pidfile", folder / "pid"]
    line += ["--data-root", folder / "data", "--exec-root", folder / "run"]
    with (folder / "log").open("w") as log, pytest.MonkeyPatch.context() as patch:
        engine = subprocess.Popen(line, stdout=log, stderr=log)
        patch.setenv("DOCKER_HOST", socket)
        try:
            end = time.monotonic() + UP
            while subprocess.run(["docker", "info"], capture_output=True).returncode:
                if engine.poll() is not None or time.monotonic() > end:
                    pytest.skip(f"dockerd does not start: {(folder / 'log').read_text()[-500:]}")
                time.sleep(1)
            yield
        finally:
            engine.terminate()
            engine.wait(60)
            _run(
                "umount", folder / "run/netns/default"
            )  # dockerd leaves it, and no folder could be deleted
            shutil.rmtree(folder / "data")  # gigabytes


def base_images(names: Iterable[str]) -> None:
    """Gets images that the engine does not have yet; skips the test, saying why, where it cannot."""
    missing = [name for name in names if _run("docker", "image", "inspect", name).returncode]
    if maker := os.environ.get("TWINSPIRE_BASE_IMAGES"):
        if missing:
            subprocess.run([ROOT / maker, *missing], check=True)
        return
    for name in missing:
        done = _run("docker", "pull", name)
        if done.returncode:
            pytest.skip(f"docker pull {name}: {done.stderr.strip()[-300:]}")


class Project:
    """A compose file that runs. Each method is a command of `docker compose`."""

    def __init__(self, file: Path) -> None:
        self._line = [go_programs.build_module(COMPOSE, "v2.40.3"), "--file", file]

    def __call__(self, *words: str, check: bool = True) -> str:
        done = self.done(*words)
        assert not check or done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def done(self, *words: str) -> subprocess.CompletedProcess:
        """How a command ended, whatever its exit code."""
        return _run(*self._line, *words)

    def inside(self, service: str, line: str, check: bool = True) -> str:
        """Runs a command in a container."""
        return self("exec", "-T", service, *line.split(), check=check)

    def kill(self, service: str) -> None:
        """Kills the first process of a container, as a machine without memory would. The engine starts
        the container again; it would not after `docker kill`.
        """
        container = self("ps", "--quiet", service).strip()
        pid = _run("docker", "inspect", "--format", "{{.State.Pid}}", container).stdout
        os.kill(int(pid), 9)


def _run(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run([str(w) for w in words], cwd=ROOT, capture_output=True, text=True)
