"""Flink's jars and those of Beam's job server."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from twinspire_core.errors import UsageError

FOLDER = Path(__file__).parents[2] / "docker" / "flink"
CACHE = "TWINSPIRE_FLINK_CACHE"
"""Environment variable with the folder of the jars."""
NEEDED = {"java": "Java 17", "mvn": "Maven", "tar": "tar"}
"""Programs, with the names that people know."""


def missing() -> list[str]:
    """Names of programs that have to be installed first."""
    return [what for program, what in NEEDED.items() if shutil.which(program) is None]


def fetch() -> Path:
    """The folder of the jars, fetched if they are not there.

    Raises:
      UsageError: a program is missing, or the download failed.
    """
    if lacking := missing():
        raise UsageError(
            f"A local Flink needs {' and '.join(NEEDED.values())} on PATH; missing:"
            f" {', '.join(lacking)}. Debian, Ubuntu: apt install openjdk-17-jre-headless maven."
        )
    cache = Path(os.environ.get(CACHE) or Path.home() / ".cache" / "twinspire" / "flink")
    env = {**os.environ, "PIP": f"{sys.executable} -m pip"}
    done = subprocess.run(
        [str(FOLDER / "fetch.sh"), str(cache)], env=env, capture_output=True, text=True
    )
    if done.returncode:
        raise UsageError(
            f"Flink's jars come from the package index and from Maven Central into {cache}, and"
            f" could not be fetched. Look at the settings of pip and Maven.\n{done.stderr[-2000:]}"
        )
    return cache
