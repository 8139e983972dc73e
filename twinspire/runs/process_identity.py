"""Which process is which, so that its end can be found out later, from another one. Linux only."""

import os
import socket
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class ProcessIdentity(BaseModel):
    """What tells a process from every other one, at any time and on any machine.

    Attributes:
      host: name and id of the machine.
      boot: id of the machine's present run; empty if it tells none.
      namespace: the pid namespace, within which pids are unique; empty if it tells none.
      pid: the process's number there.
      born: when it began, in ticks since the machine did; None if that may not be looked at.
    """

    model_config = ConfigDict(frozen=True)

    host: str
    boot: str
    namespace: str
    pid: int
    born: int | None


def identity() -> ProcessIdentity:
    """This process."""
    machine = _read(Path("/etc/machine-id")).decode().strip()
    return ProcessIdentity(
        host=f"{socket.gethostname()} {machine}".strip(),
        boot=_read(Path("/proc/sys/kernel/random/boot_id")).decode().strip(),
        namespace=_namespace(),
        pid=os.getpid(),
        born=_born(os.getpid()),
    )


def has_ended(process: ProcessIdentity | None) -> bool:
    """Whether it is certain that a process has ended; never, if it is not known which it was."""
    here = identity()
    if process is None or not process.boot or not here.boot:
        return False
    if process.boot != here.boot:
        return process.host == here.host  # that machine has been started anew since
    if not here.namespace or process.namespace != here.namespace:
        return False  # in another container, whose processes cannot be seen from here
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        pass
    # A pid is given again: it is the same process only if it began at the same time.
    born = _born(process.pid)
    return born is not None and born != process.born


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _born(pid: int) -> int | None:
    """When a process began, in ticks since the machine did; 0 if it has ended, None if it may not
    be looked at.
    """
    stat = _read(Path(f"/proc/{pid}/stat"))
    if not stat:
        return None
    # `PID (NAME) STATE PARENT GROUP SESSION …`, where NAME may hold anything.
    fields = stat.rpartition(b")")[2].split()
    if fields[0] == b"Z":  # it has ended, and its parent has not asked how
        return 0
    return int(fields[19])


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # gone, or another user's
        return b""
