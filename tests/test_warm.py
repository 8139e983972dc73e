"""Commands that are forked see what their caller sees, and end when they hang or the tests do."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import warm

SCRIPT = """
import os, signal, sys, time
from tests import warm
warm._forked.set_forkserver_preload([])  # what is shown here needs nothing that takes long to import
"""


def script(text, *arguments):
    """A test run of its own, with its own server."""
    command = [sys.executable, "-c", SCRIPT + text, *arguments]
    return subprocess.run(command, cwd=warm.ROOT, capture_output=True, text=True, timeout=60)


def test_they_have_their_callers_environment_and_no_other():
    text = """
widths = []
for width in ("200", "150", None):
    os.environ.pop("COLUMNS", None)
    if width:
        os.environ["COLUMNS"] = width
    widths.append(max(map(len, warm.run("--help")[1].splitlines())))
print(widths)
"""
    assert script(text).stdout == "[200, 150, 80]\n"


@pytest.fixture
def pipe(tmp_path):
    """A pipeline file that a command reads for ever."""
    os.mkfifo(tmp_path / "shop.toml")
    return str(tmp_path / "shop.toml")


def test_one_that_hangs_is_ended(pipe):
    text = """
process = warm.start("validate", sys.argv[1])
try:
    warm.join(process, 0.5)
except TimeoutError:
    process.join(10)
    print(process.exitcode)
"""
    assert script(text, pipe).stdout == f"{-signal.SIGKILL}\n"


@pytest.mark.parametrize("end", ["warm.stop()", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_none_outlives_the_tests(pipe, end):
    text = f"""
process = warm.start("validate", sys.argv[1])
time.sleep(0.5)
assert process.is_alive()
print(process.pid, flush=True)
{end}
"""
    done = script(text, pipe)
    pid, until = int(done.stdout), time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists(), done.stderr
