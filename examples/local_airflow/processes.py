"""Finding and ending the processes that one of ours started. Linux only."""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator

import psutil

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """For a child, before its program starts: SIGINT ends it when its parent dies.

    Also where the parent was started with `&` and so ignores SIGINT.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def find(mark: str, session: int | None, name: str) -> list[int]:
    """Pids of running processes that have a mark, or that belong to a session.

    Neither finds all: some programs write their title over their environment, others begin sessions
    of their own.

    Args:
      mark: `NAME=value` in their environment.
      session: pid of the session's first process.
      name: part of the command line of what is found by the session; a pid may have been given to
        others since.
    """
    name_of_mark, _, value = mark.partition("=")
    found: list[int] = []
    for process in psutil.process_iter():
        # It may have ended meanwhile, or be another user's
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            in_session = os.getsid(process.pid) == session and name in " ".join(process.cmdline())
            if in_session or process.environ().get(name_of_mark) == value:
                found.append(process.pid)
    return found


def end(found: Callable[[], list[int]], patience: float) -> None:
    """Returns when none is left: waits, then asks them by SIGTERM, then ends them by SIGKILL.

    Args:
      found: finds their pids.
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
    """Waits until something is so; False if it is not in time."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """A second Ctrl-C does not interrupt what is done inside."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
