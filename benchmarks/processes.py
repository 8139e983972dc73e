"""Runs commands in their own processes, and measures their time, CPU time and memory; and a fixed piece of
work to compare them with.

    python -m benchmarks.processes     runs the piece of work

The ratio of a command's CPU seconds to those of the piece of work hardly depends on the machine's speed. It
does what the daily run does: imports, Python bytecode, sorting and matrix products.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).resolve().parent.parent
_LOOK_SECONDS = 0.2


class Taken(NamedTuple):
    """The cost of a process.

    Attributes:
      seconds: elapsed time.
      cpu_seconds: user and system time on all cores, including child processes.
      peak_mb: largest sampled memory of all its processes together, in MB; at least the peak of the
        largest process.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float


@dataclass(frozen=True)
class Checkout:
    """A checkout of the project with its own environment.

    Attributes:
      name: its name in tables.
    """

    name: str
    root: Path
    python: Path

    @classmethod
    def own(cls) -> "Checkout":
        """The checkout of this file."""
        return cls("twinspire", ROOT, Path(sys.executable))

    @classmethod
    def at(cls, folder: Path) -> "Checkout":
        """Another checkout, after `make setup` there."""
        python = folder / ".venv" / "bin" / "python"
        if not python.exists():
            sys.exit(
                "A checkout to compare with has its environment in .venv; there is none at"
                f" {python}."
            )
        return cls(f"twinspire at {folder.name}", folder.resolve(), python.absolute())

    def twinspire(self, *arguments: str, may_end_with: Collection[int] = ()) -> Taken:
        """Runs a command of this checkout with `timed`."""
        command = [str(self.python), "-m", "twinspire", *arguments]
        return timed(command, self.root, may_end_with)


def timed(command: list[str], cwd: Path, may_end_with: Collection[int] = ()) -> Taken:
    """Runs a command. If it fails, the benchmark ends with the command's output.

    Args:
      cwd: its working folder, whose packages it imports.
      may_end_with: exit codes other than 0 that do not count as a failure.
    """
    started = time.monotonic()
    whole = {**os.environ, "PYTHONPATH": str(cwd)}
    with subprocess.Popen(
        command, env=whole, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        with ThreadPoolExecutor(1) as executor:
            ended = threading.Event()
            largest_sum = executor.submit(_largest_sum, process.pid, ended)
            output = process.stdout.read() if process.stdout else ""
            ended.set()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in {0, *may_end_with}:
        sys.exit(
            f"{output.rstrip()}\n`{' '.join(command)}` in {cwd} ended with {process.returncode}."
        )
    peak = max(usage.ru_maxrss * 1024, largest_sum.result())
    return Taken(time.monotonic() - started, usage.ru_utime + usage.ru_stime, peak / (1 << 20))


def _largest_sum(pid: int, ended: threading.Event) -> int:
    """The largest memory of a process and its descendants together until it ends, in bytes."""
    most = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        while not ended.wait(_LOOK_SECONDS):
            total = 0
            for process in (root, *root.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    total += process.memory_info().rss
            most = max(most, total)
    return most


def work() -> None:
    """The fixed piece of work."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    import numpy as np
    import tensorflow as tf

    rng = np.random.default_rng(0)
    matrix = tf.constant(rng.standard_normal((1_000, 1_000), np.float32))
    for _ in range(40):
        matrix = tf.linalg.l2_normalize(matrix @ matrix, axis=1)
    np.unique(rng.integers(0, 4_000_000, 4_000_000), return_inverse=True)
    sum(number & 7 for number in range(10_000_000))


if __name__ == "__main__":
    work()
