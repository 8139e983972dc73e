"""Which days are under way, and how a later day waits for them.

Days are trained in order, so a later day has to know that an earlier one is under way, even before
its first stage committed. Each run of a day writes records that never change; its newest record
counts: `<work_root>/<pipeline>/dt=D/claims/<number> <run> <outcome>.json`.

A run that is one process records which process it is, so that others can find out that it was killed.
A scheduler's run is many processes with pauses of any length between them: the scheduler ends it.
Processes can be told apart on Linux only.
"""

import hashlib
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.errors import NotItsTurn, UsageError, format_message, in_one_line
from twinspire_core.terminal import console

OPEN = "open"
PUBLISHED = "published"
REFUSED = "refused"
SKIPPED = "skipped"
LATE = "late"
FAILED = "failed"
KILLED = "killed"

_LONGEST_NAME = 160  # characters of a run's name in the name of a file, which may have 255 in all


class ProcessIdentity(BaseModel):
    """What distinguishes a process from every other one, at any time and on any machine.

    Attributes:
      host: name and id of the machine.
      boot: id of the machine's present boot; empty if it has none.
      namespace: the pid namespace, within which pids are unique; empty if it cannot be read.
      pid: the process's number in that namespace.
      born: when it began, in ticks since the machine booted; None if that may not be read.
    """

    model_config = ConfigDict(frozen=True)

    host: str
    boot: str
    namespace: str
    pid: int
    born: int | None


class LeaseRecord(BaseModel):
    """What a record holds. Fields that were not set are left out.

    Attributes:
      at: when it was written.
      process: the process that is the run; None for a scheduler's run.
      waits_for: the unfinished earlier days that the run has waited for since `at`.
      reason: why the run ended, if something went wrong; for an open run, why its last try failed,
        which a scheduler may try again.
    """

    model_config = ConfigDict(frozen=True)

    at: datetime
    process: ProcessIdentity | None = None
    waits_for: list[date] | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RunLease:
    """The newest record of a run of a day.

    Attributes:
      run: the run's name, as file names have it.
      outcome: `open`, or how the run ended.
      uri: where the record is.
    """

    run: str
    outcome: str
    uri: str

    @property
    def is_open(self) -> bool:
        """Whether no end of the run was recorded."""
        return self.outcome == OPEN

    def record(self) -> LeaseRecord:
        """Reads the record."""
        return LeaseRecord.model_validate_json(storage.read_bytes(self.uri))

    def is_orphaned(self) -> bool:
        """Whether it is open although its process, on this machine, has ended."""
        return self.is_open and has_ended(self.record().process)


def newest(pipeline: Pipeline, day: date) -> list[RunLease]:
    """The newest record of each run; the run that wrote last comes last."""
    home = _home(pipeline, day)
    leases: dict[str, RunLease] = {}
    for file in storage.list_names(home):
        _, run, outcome = file.removesuffix(".json").split(" ")
        leases.pop(run, None)  # so that it comes last again
        leases[run] = RunLease(run, outcome, storage.join(home, file))
    return list(leases.values())


def _lease_of(pipeline: Pipeline, day: date, run: str) -> RunLease | None:
    """The newest record of one run; None if it never began."""
    name = _as_file_name(run)
    return next((lease for lease in newest(pipeline, day) if lease.run == name), None)


def write(pipeline: Pipeline, day: date, run: str, outcome: str, **fields: Any) -> None:
    """Adds a record of a run, with these fields of `LeaseRecord`."""
    home = _home(pipeline, day)
    numbers = [int(file.split(" ")[0]) for file in storage.list_names(home)]
    # The tasks of a run come one after the other: only different runs can write equal numbers
    number = 1 + max(numbers, default=0)
    place = storage.join(home, f"{number:06d} {_as_file_name(run)} {outcome}.json")
    record = LeaseRecord(at=datetime.now(UTC), **fields)
    storage.put_if_absent(place, record.model_dump_json(exclude_unset=True).encode())


def _home(pipeline: Pipeline, day: date) -> str:
    return storage.join(attempts.day_uri(pipeline, day), "claims")


def _as_file_name(run: str) -> str:
    """A run's name without spaces, at which names of records are split, and short enough for a file. A
    name that is so already stays the same.
    """
    name = re.sub(r"[^A-Za-z0-9_.:+-]", "_", run)
    if len(name) <= _LONGEST_NAME:
        return name
    # Long names may differ only at their end
    digest = hashlib.sha256(run.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{name[: _LONGEST_NAME - 17]}-{digest}"


def acquire_day(pipeline: Pipeline, day: date, run: str) -> None:
    """Records that a run of the day is under way; also when it goes on after a failure."""
    lease = _lease_of(pipeline, day, run)
    if lease is None or not lease.is_open or lease.record().reason:
        write(pipeline, day, run, OPEN)


def note_failed_try(pipeline: Pipeline, day: date, run: str, reason: str) -> None:
    """Records why a try of a scheduler's run failed, in case that it was the last one. A run that is one
    process ends itself.
    """
    lease = _lease_of(pipeline, day, run)
    if lease and lease.is_open and lease.record().process is None:
        write(pipeline, day, run, OPEN, reason=reason)


def release_day(
    pipeline: Pipeline, day: date, run: str, outcome: str, reason: str | None = None
) -> None:
    """Records how a run of the day ended, and why if something went wrong."""
    write(pipeline, day, run, outcome, **({"reason": reason} if reason else {}))


@contextmanager
def own_run(pipeline: Pipeline, day: date) -> Iterator[str]:
    """Begins a run of the day in this process, yields its name, and ends it with the block."""
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
    """Ends the open runs of these days, or only the named one; returns their names. Their reason is that
    of their last failed try, if one was recorded, else the given one.
    """
    ended: list[str] = []
    for day in days:
        for lease in newest(pipeline, day):
            if lease.is_open and (run is None or lease.run == _as_file_name(run)):
                why = lease.record().reason or reason
                release_day(pipeline, day, lease.run, FAILED, why)
                ended.append(lease.run)
    return ended


def open_leases(pipeline: Pipeline, day: date) -> list[RunLease]:
    """Runs of the day that have begun and not ended."""
    leases = newest(pipeline, day)
    return [lease for lease in leases if lease.is_open and not lease.is_orphaned()]


def state(pipeline: Pipeline, day: date) -> str | None:
    """`open` while any run of the day is open, else how its last run ended; None if there was none."""
    leases = newest(pipeline, day)
    if not leases:
        return None
    if any(lease.is_open and not lease.is_orphaned() for lease in leases):
        return OPEN
    # If it is open, its process is gone, and nobody has recorded that yet
    return KILLED if leases[-1].is_open else leases[-1].outcome


def last_reason(pipeline: Pipeline, day: date) -> str:
    """Why the newest run ended; empty if that is not known."""
    leases = newest(pipeline, day)
    return (leases[-1].record().reason or "") if leases else ""


def last_outcome(pipeline: Pipeline, day: date) -> str | None:
    """How the run ended that ended last; None if none has."""
    ended = [lease.outcome for lease in newest(pipeline, day) if not lease.is_open]
    return ended[-1] if ended else None


def unfinished_before(pipeline: Pipeline, day: date) -> list[date]:
    """Earlier days with a run that has begun and not ended, oldest first.

    A run that was killed on this machine is recorded as ended, as no other machine can tell.
    """
    unfinished: list[date] = []
    for earlier in [other for other in attempts.days(pipeline) if other < day]:
        leases = newest(pipeline, earlier)
        orphaned = [lease for lease in leases if lease.is_orphaned()]
        for lease in orphaned:
            release_day(pipeline, earlier, lease.run, KILLED)
        if any(lease.is_open and lease not in orphaned for lease in leases):
            unfinished.append(earlier)
    return unfinished


def waited(pipeline: Pipeline, day: date, run: str, unfinished: Sequence[date]) -> timedelta:
    """How long a run has waited for just these days. That is recorded, as it asks in many short
    processes.
    """
    lease = _lease_of(pipeline, day, run)
    if lease and lease.is_open:
        record = lease.record()
        if record.waits_for == list(unfinished):
            return datetime.now(UTC) - record.at
    write(pipeline, day, run, OPEN, waits_for=list(unfinished))
    return timedelta(0)


_POLL_SECONDS = 2.0  # a listing of each earlier day's leases


def await_turn(pipeline: Pipeline, day: date) -> None:
    """Waits until no earlier day is under way, so that days are trained in order.

    Raises:
      NotItsTurn: none of them ended within `train.wait`.
    """
    waited_for: list[date] = []
    deadline = 0.0
    while unfinished := unfinished_before(pipeline, day):
        if unfinished != waited_for:
            # One has ended (or another begun): the time to wait starts again
            waited_for = unfinished
            deadline = time.monotonic() + pipeline.train.wait.total_seconds()
            if pipeline.train.wait:
                text = f"{day} waits for its turn. {_under_way(pipeline, unfinished)}"
                console.print(format_message(text), soft_wrap=True)
        if time.monotonic() >= deadline:
            text = f"{_waited_in_vain(pipeline, day, unfinished)} Then run {day} again."
            raise NotItsTurn(text, unfinished)
        _sleep_until(deadline)


def ask_turn(pipeline: Pipeline, day: date, run: str | None, patience: timedelta) -> None:
    """The same for a scheduler that asks again and again, so that no process has to wait all the
    time.

    Args:
      day: the day that waits.
      run: name of its run. After `train.wait` it is ended, so that later days do not wait for it.
      patience: how long to wait in this call, if only one earlier day is left.

    Raises:
      NotItsTurn: it is not its turn yet. UsageError: for `train.wait`, none of the earlier days
      has ended.
    """
    deadline = time.monotonic() + patience.total_seconds()
    while unfinished := unfinished_before(pipeline, day):
        if run and waited(pipeline, day, run, unfinished) >= pipeline.train.wait:
            error = UsageError(
                f"{_waited_in_vain(pipeline, day, unfinished)} Then clear this task."
            )
            release_day(pipeline, day, run, FAILED, in_one_line(error))
            raise error
        # With more than one day before it, waiting would only take a slot from those
        if time.monotonic() >= deadline or len(unfinished) > 1:
            text = f"{day} waits for its turn. {_under_way(pipeline, unfinished)}"
            raise NotItsTurn(text, unfinished)
        _sleep_until(deadline)


def _sleep_until(deadline: float) -> None:
    time.sleep(min(_POLL_SECONDS, max(0.1, deadline - time.monotonic())))


def _waited_in_vain(pipeline: Pipeline, day: date, unfinished: list[date]) -> str:
    return (
        f"Days are trained in order, and {day} has waited for earlier ones as long as train.wait = "
        f"{pipeline.train.wait} allows. {_under_way(pipeline, unfinished)}"
    )


def _under_way(pipeline: Pipeline, unfinished: list[date]) -> str:
    runs = [
        f"{day} (run {lease.run}, last heard of at {lease.record().at:%Y-%m-%dT%H:%M:%S} UTC)"
        for day in unfinished
        for lease in open_leases(pipeline, day)
    ]
    ends = " and ".join(f"`twinspire close-day PIPELINE --date {day}`" for day in unfinished)
    return (
        f"Under way and not ended: {', '.join(runs)}. If nothing runs there any more, end it:"
        f" {ends}."
    )


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
    """Whether it is certain that a process has ended; False if it cannot be told."""
    here = identity()
    if process is None or not process.boot or not here.boot:
        return False
    if process.boot != here.boot:
        return process.host == here.host  # this machine has been restarted since
    if not here.namespace or process.namespace != here.namespace:
        return False  # in another container, whose processes cannot be seen from here
    try:
        with suppress(PermissionError):  # another user's
            os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    # Pids are used again: it is the same process only if it began at the same time
    born = _born(process.pid)
    return born is not None and born != process.born


def _namespace() -> str:
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _born(pid: int) -> int | None:
    """When a process began, in ticks since the machine booted; 0 if it has ended, None if that may not
    be read.
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
    with suppress(OSError):  # gone, or another user's
        return file.read_bytes()
    return b""
