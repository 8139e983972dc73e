"""`twinspire …` in processes that need not import TensorFlow, Beam and the rest first.

Imports are most of what a command of the made-up shop takes. So a server imports once, and is
forked for each command. What comes of that is a process like any other: it has an exit code, can be
killed, and leaves nothing to the next one. It differs from a command that is typed in two things,
so a few are typed still (`days.typed`): what a stage may have forgotten to import is there, and all
processes order their sets alike. None outlives the tests.
"""

import contextlib
import ctypes
import gc
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

_PR_SET_PDEATHSIG = 1
LIMIT = 600
"""Seconds after which a command is taken to hang."""
ROOT = Path(__file__).parents[1]
_forked = multiprocessing.get_context("forkserver")
_forked.set_forkserver_preload(["tests.preloaded"])


def start(*arguments: str, out: str = os.devnull, err: str = os.devnull) -> BaseProcess:
    """Starts a command in the repository's folder and in a new session; its streams go to
    files.
    """
    with pytest.MonkeyPatch.context() as patch:
        # As the command line sets it before it imports anything
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
        forkserver.ensure_running()
    process = _forked.Process(target=_run, args=(arguments, dict(os.environ), out, err))
    process.start()
    return process


def run(*arguments: str) -> tuple[int, str, str]:
    """Runs a command: its exit code, standard output and standard error."""
    with tempfile.TemporaryDirectory() as home:
        out, err = Path(home, "out"), Path(home, "err")
        code = join(start(*arguments, out=str(out), err=str(err)))
        return code, out.read_text(), err.read_text()


def join(process: BaseProcess, limit: float = LIMIT) -> int:
    """Waits for a command, which fails the test if it hangs: its exit code."""
    process.join(limit)
    if process.exitcode is None:
        with contextlib.suppress(ProcessLookupError):  # it has not begun its session yet
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        raise TimeoutError(f"A command did not end within {limit} s.")
    return process.exitcode


def stop() -> None:
    """Ends the server, so that what it and its commands took counts as the tests'."""
    forkserver._forkserver._stop()


def _run(arguments: tuple[str, ...], environment: Mapping[str, str], out: str, err: str) -> None:
    os.setsid()
    # Ends with the server, which ends with the tests unless somebody else holds this. By SIGKILL: a
    # command that was still starting has been seen to outlive an interrupt.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.close(forkserver._forkserver._forkserver_alive_fd)
    gc.freeze()  # what the server imported need not be gone through again
    for handle, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), handle)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.argv = ["twinspire", *arguments]
    from twinspire.cli.main import main

    main()
