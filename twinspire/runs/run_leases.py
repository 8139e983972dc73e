"""Which days are under way, by the records of their runs:
`<work_root>/<pipeline>/dt=D/claims/<number> <run> <outcome>.json`, never changed.

Days go in order: a later day has to know that an earlier one is under way, even before its first
stage committed. Each run of a day keeps its own records, so that one run's end says nothing of
another's; the newest record of a run holds.

A run that is one process says which, so that its being killed can be found out. A scheduler's run
is many processes, with pauses between them that are as long as it likes: the scheduler ends it.
Processes can be told apart on Linux only.
"""

import hashlib
import os
import re
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.errors import in_one_line


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
        return process.host == here.host  # that machine has been restarted since
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


OPEN = "open"
PUBLISHED = "published"
REFUSED = "refused"
SKIPPED = "skipped"
LATE = "late"
FAILED = "failed"
KILLED = "killed"

_LONGEST_NAME = 160
"""Characters of a run's name in a file's, which has at most 255 with all else."""


class LeaseRecord(BaseModel):
    """What a record holds. Fields that were not set are left out of it.

    Attributes:
      at: when it was written.
      process: the run's own process, where it is one.
      waits_for: the unfinished earlier days that it has waited for since `at`.
      reason: why the run ended, where something went wrong and is known; of an open one, why its
        last try failed, which a scheduler may follow by another one.
    """

    model_config = ConfigDict(frozen=True)

    at: datetime
    process: ProcessIdentity | None = None
    waits_for: list[date] | None = None
    reason: str | None = None

    def dump(self) -> bytes:
        """The bytes of the record."""
        return self.model_dump_json(exclude_unset=True).encode()


@dataclass(frozen=True, slots=True)
class RunLease:
    """The newest record of a run of a day.

    Attributes:
      run: its name.
      outcome: `open`, or how it ended.
      uri: where the record is.
    """

    run: str
    outcome: str
    uri: str

    @property
    def is_open(self) -> bool:
        """Whether its run has not ended, as far as was written down."""
        return self.outcome == OPEN

    def record(self) -> LeaseRecord:
        """Reads the record."""
        return LeaseRecord.model_validate_json(storage.read_bytes(self.uri))

    def is_orphaned(self) -> bool:
        """Whether it is open, and its process has ended on this machine without closing it."""
        return self.is_open and has_ended(self.record().process)


def newest(pipeline: Pipeline, day: date) -> list[RunLease]:
    """The newest record of each run, the run that wrote last coming last."""
    home = _home(pipeline, day)
    newest: dict[str, RunLease] = {}
    for file in storage.list_names(home):
        _, run, outcome = file.removesuffix(".json").split(" ")
        newest.pop(run, None)  # so that it comes last again
        newest[run] = RunLease(run, outcome, storage.join(home, file))
    return list(newest.values())


def lease_of(pipeline: Pipeline, day: date, run: str) -> RunLease | None:
    """The newest record of one run; None if it never began."""
    for lease in newest(pipeline, day):
        if lease.run == as_file_name(run):
            return lease
    return None


def write(pipeline: Pipeline, day: date, run: str, outcome: str, **fields: Any) -> None:
    """Adds a record of a run, with these fields of `LeaseRecord`."""
    home = _home(pipeline, day)
    numbers = [int(file.split(" ")[0]) for file in storage.list_names(home)]
    # The tasks of a run come one after the other, so equal numbers can only be those of different
    # runs.
    number = 1 + max(numbers, default=0)
    place = storage.join(home, f"{number:06d} {as_file_name(run)} {outcome}.json")
    storage.put_if_absent(place, LeaseRecord(at=datetime.now(UTC), **fields).dump())


def _home(pipeline: Pipeline, day: date) -> str:
    return storage.join(attempts.day_uri(pipeline, day), "claims")


def as_file_name(run: str) -> str:
    """A run's name without what the records' names are split at, and not too long for a file; of
    such a name it is the same again.
    """
    name = re.sub(r"[^A-Za-z0-9_.:+-]", "_", run)
    if len(name) <= _LONGEST_NAME:
        return name
    # Long ones may differ only at their end.
    digest = hashlib.sha256(run.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{name[: _LONGEST_NAME - 17]}-{digest}"


def acquire_day(pipeline: Pipeline, day: date, run: str) -> None:
    """Records that a run of the day is under way; again, after it failed and is gone on with."""
    lease = lease_of(pipeline, day, run)
    if lease is None or not lease.is_open or lease.record().reason:
        write(pipeline, day, run, OPEN)


def note_failed_try(pipeline: Pipeline, day: date, run: str, reason: str) -> None:
    """Records why a try of an open run failed, for whoever ends the run where that was the last one. A
    run that is one process ends itself.
    """
    lease = lease_of(pipeline, day, run)
    if lease and lease.is_open and lease.record().process is None:
        write(pipeline, day, run, OPEN, reason=reason)


def release_day(
    pipeline: Pipeline, day: date, run: str, outcome: str, reason: str | None = None
) -> None:
    """Records how a run of the day ended, and why where something went wrong."""
    why = {"reason": reason} if reason else {}
    write(pipeline, day, run, outcome, **why)


@contextmanager
def own_run(pipeline: Pipeline, day: date) -> Iterator[str]:
    """A run of the day that is this process and ends with the block; yields its name."""
    run = f"run-{secrets.token_hex(4)}"
    write(pipeline, day, run, OPEN, process=identity())
    reason: str | None = None
    try:
        yield run
    except BaseException as error:
        reason = in_one_line(error)
        raise
    finally:
        end_runs(pipeline, [day], run, reason)


def end_runs(
    pipeline: Pipeline, days: Sequence[date], run: str | None = None, reason: str | None = None
) -> list[str]:
    """Ends the runs of these days that are open, or only the one named, for a reason, or for why their
    last try failed; returns their names.
    """
    ended: list[str] = []
    for day in days:
        for lease in newest(pipeline, day):
            if lease.is_open and (run is None or lease.run == as_file_name(run)):
                why = lease.record().reason or reason
                release_day(pipeline, day, lease.run, FAILED, why)
                ended.append(lease.run)
    return ended


def open_leases(pipeline: Pipeline, day: date) -> list[RunLease]:
    """Runs of the day that have begun and not ended."""
    leases = newest(pipeline, day)
    return [lease for lease in leases if lease.is_open and not lease.is_orphaned()]


def state(pipeline: Pipeline, day: date) -> str | None:
    """`open` while any run of the day is; else how its last run ended; None if there was none."""
    leases = newest(pipeline, day)
    if not leases:
        return None
    if any(lease.is_open and not lease.is_orphaned() for lease in leases):
        return OPEN
    # Of an open one the process is gone, and nobody has written that down yet.
    return KILLED if leases[-1].is_open else leases[-1].outcome


def last_reason(pipeline: Pipeline, day: date) -> str:
    """Why the run ended that wrote last; empty where that is not known."""
    leases = newest(pipeline, day)
    return (leases[-1].record().reason or "") if leases else ""


def last_outcome(pipeline: Pipeline, day: date) -> str | None:
    """How that run of the day ended which did so last; None if none has."""
    ended = [lease.outcome for lease in newest(pipeline, day) if not lease.is_open]
    return ended[-1] if ended else None


def unfinished_before(pipeline: Pipeline, day: date) -> list[date]:
    """Earlier days with a run that has begun and not ended, oldest first.

    What was killed on this machine is written down as ended: on another one nobody can tell.
    """
    unfinished: list[date] = []
    for earlier in attempts.days(pipeline):
        if earlier >= day:
            continue
        still_open = False
        for lease in newest(pipeline, earlier):
            if lease.is_orphaned():
                release_day(pipeline, earlier, lease.run, KILLED)
            elif lease.is_open:
                still_open = True
        if still_open:
            unfinished.append(earlier)
    return unfinished


def waited(pipeline: Pipeline, day: date, run: str, unfinished: Sequence[date]) -> timedelta:
    """How long a run has waited for just these days; written down, since it asks in many short
    processes.
    """
    lease = lease_of(pipeline, day, run)
    if lease and lease.is_open:
        record = lease.record()
        if record.waits_for == list(unfinished):
            return datetime.now(UTC) - record.at
    write(pipeline, day, run, OPEN, waits_for=list(unfinished))
    return timedelta(0)
