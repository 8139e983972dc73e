"""Real programs that tests run and Go builds: once for a version, and kept for later runs."""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "twinspire" / "go"
PRISM = "github.com/apache/beam/sdks/v2/go/cmd/prism"
COMPOSE = "github.com/compose-spec/compose-go/v2/cmd"
# Neither optimised nor for a debugger: a program that runs for seconds would take minutes to build.
_QUICK = ["-gcflags=all=-N -l -dwarf=false", "-ldflags=-s -w"]


def build(package: str, version: str) -> Path:
    """The program of a Go package; skips the test, saying why, where it cannot be built."""
    return _build(
        package, version, lambda folder: ["go", "install", *_QUICK, f"{package}@{version}"]
    )


def build_module(package: str, version: str) -> Path:
    """The same for a package that `go install` refuses, as its go.mod excludes modules: it is built from a
    copy of the program's module.
    """
    module, _, inside = package.rpartition("/")

    def command(folder: Path) -> list[str]:
        line = ["go", "mod", "download", "-json", f"{module}@{version}"]
        listed = subprocess.run(line, cwd=folder, capture_output=True, text=True)
        if listed.returncode:
            return line  # fails again, and says why
        source = folder / "source"
        shutil.copytree(json.loads(listed.stdout)["Dir"], source, copy_function=shutil.copyfile)
        for path in (source, *source.rglob("*/")):
            path.chmod(0o755)  # a folder of Go's cache cannot be written to
        out = ["-o", str(folder / inside), f"./{inside}"]
        return ["go", "build", "-C", str(source), *_QUICK, *out]

    return _build(package, version, command)


def _build(package: str, version: str, command: Callable[[Path], list[str]]) -> Path:
    folder = CACHE / f"{package.replace('/', '_')}@{version}"
    program = folder / package.rpartition("/")[2]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker of the tests may be building it
        if not program.exists():
            if shutil.which("go") is None:
                pytest.skip(f"Go is not installed, which builds {package}")
            done = subprocess.run(
                line := command(folder),
                env={**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0"},
                cwd=folder,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                pytest.skip(f"{' '.join(line)}: {done.stderr.strip()[-300:]}")
    return program
