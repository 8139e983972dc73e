"""Real programs that tests run and Go builds: once for a version, and kept for later runs."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "twinspire" / "go"
PRISM = "github.com/apache/beam/sdks/v2/go/cmd/prism"
COMPOSE = "github.com/compose-spec/compose-go/v2/cmd"


def build(package: str, version: str) -> Path:
    """The program of a Go package; skips the test, saying why, where it cannot be built."""
    folder = CACHE / f"{package.replace('/', '_')}@{version}"
    program = folder / package.rpartition("/")[2]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker of the tests may be building it
        if not program.exists():
            if shutil.which("go") is None:
                pytest.skip(f"Go is not installed, which builds {package}")
            done = subprocess.run(
                ["go", "install", f"{package}@{version}"],
                env={**os.environ, "GOBIN": str(folder)},
                cwd=folder,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                pytest.skip(f"go install {package}@{version}: {done.stderr.strip()[-300:]}")
    return program
