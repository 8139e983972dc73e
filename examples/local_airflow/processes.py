"""Finds and ends processes that another process has started. Linux only."""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator

import psutil

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """For a child, before its program starts: SIGINT ends it when its parent dies."""
    # A parent that was started with `&` ignores SIGINT, and the child inherits that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def find(mark: str, session: int | None, name: str) -> list[int]:
    """Pids of running processes that have a mark, or that belong to a session.

    Args:
      mark: `NAME=value` in their environment.
      session: pid of the session's first process.
      name: part of the command line of the session's processes.
    """
    # Both are needed: some programs overwrite their environment with their title, others start sessions. The
    # name is checked because the system may have given the session's pid to another process since
    name_of_mark, _, value = mark.partition("=")
    found: list[int] = []
    for process in psutil.process_iter():
        # The process may have ended meanwhile, or belong to another user
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            in_session = os.getsid(process.pid) == session and name in " ".join(process.cmdline())
            if in_session or process.environ().get(name_of_mark) == value:
                found.append(process.pid)
    return found


def end(found: Callable[[], list[int]], patience: float) -> None:
    """Returns when no process is left: waits, then sends SIGTERM, then SIGKILL.

    Args:
      found: returns their pids.
      patience: seconds in which they may end by themselves.
    """
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if wait(lambda: not found(), patience):
            return
        patience = 8
        for pid in found():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
    wait(lambda: not found(), patience)


def wait(done: Callable[[], bool], seconds: float) -> bool:
    """Waits until `done` is true. Returns False if that takes too long."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ignores Ctrl-C while the block works."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
