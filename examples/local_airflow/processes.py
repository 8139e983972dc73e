"""Finding and ending the processes that one of ours started. Linux only."""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

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
    homes = [home for home in Path("/proc").glob("[0-9]*") if _session(home)]
    marked = {
        int(home.name) for home in homes if mark.encode() in _read(home / "environ").split(b"\0")
    }
    inside = {int(home.name) for home in homes if _session(home) == session}
    return sorted(
        marked | {pid for pid in inside if name.encode() in _read(Path(f"/proc/{pid}/cmdline"))}
    )


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


def _session(home: Path) -> int:
    """The session of a process; 0 if it has ended."""
    fields = _fields(_read(home / "stat"))
    return int(fields[3]) if fields and fields[0] != b"Z" else 0


def _fields(stat: bytes) -> list[bytes]:
    """STATE PARENT GROUP SESSION … of `PID (NAME) STATE …`, where NAME may hold anything."""
    return stat.rpartition(b")")[2].split()


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # gone, or another user's
        return b""
