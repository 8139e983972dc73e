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
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.errors import NotItsTurn, UsageError, format_message, in_one_line
from twinspire_core.terminal import console

Outcome = Literal["open", "published", "refused", "skipped", "late", "failed", "killed"]
"""How a run ended; `open` until then."""

_LONGEST_NAME = 160  # characters of a run's name in the name of a file, which may have 255 in all


class ProcessIdentity(BaseModel):
    """What distinguishes a process from every other one, at any time and on any machine.

    Attributes:
      host: name and id of the machine.
      boot: id of the machine's current boot; empty if it cannot be read.
      namespace: the pid namespace, within which pids are unique; empty if it cannot be read.
      pid: the process's number in that namespace.
      born: when it started, in ticks since the machine booted; None if it cannot be read.
    """

    model_config = ConfigDict(frozen=True)

    host: str
    boot: str
    namespace: str
    pid: int
    born: int | None = None


class LeaseRecord(BaseModel):
    """What a record holds. Fields without a value are left out of its file.

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

    def record(self) -> LeaseRecord:
        """Reads the record."""
        return LeaseRecord.model_validate_json(storage.read_bytes(self.uri))

    def state(self) -> str:
        """`outcome`, or `killed` if its process, on this machine, has ended without recording that."""
        if self.outcome == "open" and has_ended(self.record().process):
            return "killed"
        return self.outcome


def newest(pipeline: Pipeline, day: date) -> list[RunLease]:
    """The newest record of each run; the run that wrote last comes last."""
    home = _home(pipeline, day)
    leases: dict[str, RunLease] = {}
    for file in storage.list_names(home):
        _, run, outcome = file.removesuffix(".json").split(" ")
        # So that it comes last again. That a run was killed is written later, by another one
        if outcome != "killed":
            leases.pop(run, None)
        leases[run] = RunLease(run, outcome, storage.join(home, file))
    return list(leases.values())


def _lease_of(pipeline: Pipeline, day: date, run: str) -> RunLease | None:
    """The newest record of one run; None if it never began."""
    name = _as_file_name(run)
    return next((lease for lease in newest(pipeline, day) if lease.run == name), None)


def write(pipeline: Pipeline, day: date, run: str, outcome: Outcome, **fields: Any) -> None:
    """Adds a record of a run, with these fields of `LeaseRecord`."""
    home = _home(pipeline, day)
    numbers = [int(file.split(" ")[0]) for file in storage.list_names(home)]
    # Two runs may write the same number at once. One run cannot: its tasks follow each other
    name = f"{1 + max(numbers, default=0):06d} {_as_file_name(run)} {outcome}.json"
    record = LeaseRecord(at=datetime.now(UTC), **fields)
    storage.put_if_absent(
        storage.join(home, name), record.model_dump_json(exclude_none=True).encode()
    )


def _home(pipeline: Pipeline, day: date) -> str:
    return storage.join(attempts.day_uri(pipeline, day), "claims")


def _as_file_name(run: str) -> str:
    """A run's name as part of a file name."""
    # Spaces separate the parts of a file name
    name = re.sub(r"[^A-Za-z0-9_.:+-]", "_", run)
    if len(name) <= _LONGEST_NAME:
        return name
    # Long names may differ only at the end, which is cut off
    # A scheduler's name may hold halves of characters, which UTF-8 alone refuses
    digest = hashlib.sha256(run.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{name[: _LONGEST_NAME - 17]}-{digest}"


def acquire_day(pipeline: Pipeline, day: date, run: str) -> None:
    """Records that a run of the day is under way. A run that goes on after a failure is recorded again."""
    lease = _lease_of(pipeline, day, run)
    if lease is None or lease.outcome != "open" or lease.record().reason:
        write(pipeline, day, run, "open")


def note_failed_try(pipeline: Pipeline, day: date, run: str, reason: str) -> None:
    """Records why a try of a scheduler's run failed, because it may have been the last one."""
    lease = _lease_of(pipeline, day, run)
    # A run that is one process records its own end
    if lease and lease.outcome == "open" and lease.record().process is None:
        write(pipeline, day, run, "open", reason=reason)


@contextmanager
def own_run(pipeline: Pipeline, day: date) -> Iterator[str]:
    """Starts a run of the day in this process and ends it with the block. Yields the run's name."""
    run = f"run-{secrets.token_hex(4)}"
    write(pipeline, day, run, "open", process=identity())
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
    """Ends the open runs of these days and returns their names.

    Args:
      run: the only run to end; by default all.
      reason: recorded for a run whose last try left no reason.
    """
    ended: list[str] = []
    for day in days:
        for lease in newest(pipeline, day):
            if lease.outcome == "open" and (run is None or lease.run == _as_file_name(run)):
                why = lease.record().reason or reason
                write(pipeline, day, lease.run, "failed", reason=why)
                ended.append(lease.run)
    return ended


def open_leases(pipeline: Pipeline, day: date) -> list[RunLease]:
    """Runs of the day that have started and not ended."""
    return [lease for lease in newest(pipeline, day) if lease.state() == "open"]


def state(pipeline: Pipeline, day: date) -> str | None:
    """`open` while any run of the day is open, else how its last run ended; None if there was none."""
    states = [lease.state() for lease in newest(pipeline, day)]
    if "open" in states:
        return "open"
    return states[-1] if states else None


def last_reason(pipeline: Pipeline, day: date) -> str:
    """Why the newest run ended; empty if that is not known."""
    leases = newest(pipeline, day)
    return (leases[-1].record().reason or "") if leases else ""


def last_outcome(pipeline: Pipeline, day: date) -> str | None:
    """How the run ended that ended last; None if none has."""
    ended = [lease.outcome for lease in newest(pipeline, day) if lease.outcome != "open"]
    return ended[-1] if ended else None


def unfinished_before(pipeline: Pipeline, day: date) -> list[date]:
    """Earlier days with a run that has started and not ended, oldest first."""
    unfinished: list[date] = []
    for earlier in [other for other in attempts.days(pipeline) if other < day]:
        states = {lease: lease.state() for lease in newest(pipeline, earlier)}
        for lease, state_now in states.items():
            # Recorded, because processes on other machines cannot see that this process is gone
            if state_now != lease.outcome:
                write(pipeline, earlier, lease.run, "killed")
        if "open" in states.values():
            unfinished.append(earlier)
    return unfinished


def waited(pipeline: Pipeline, day: date, run: str, unfinished: Sequence[date]) -> timedelta:
    """How long a run has waited for exactly these days."""
    lease = _lease_of(pipeline, day, run)
    if lease and lease.outcome == "open":
        record = lease.record()
        if record.waits_for == list(unfinished):
            return datetime.now(UTC) - record.at
    # A file keeps the time, because a scheduler asks again in many short processes
    write(pipeline, day, run, "open", waits_for=list(unfinished))
    return timedelta(0)


_POLL_SECONDS = 2.0  # each poll lists the leases of every earlier day


def await_turn(pipeline: Pipeline, day: date) -> None:
    """Waits until no earlier day is under way, so that days are trained in order.

    Raises:
      NotItsTurn: none of them ended within `train.wait`.
    """
    waited_for: list[date] = []
    deadline = 0.0
    while unfinished := unfinished_before(pipeline, day):
        if unfinished != waited_for:
            # Another day has started or ended, which is progress: the time to wait starts again
            waited_for = unfinished
            deadline = time.monotonic() + pipeline.train.wait.total_seconds()
            if pipeline.train.wait:
                console.print(format_message(_waits(pipeline, day, unfinished)), soft_wrap=True)
        if time.monotonic() >= deadline:
            raise NotItsTurn(
                f"{_waits(pipeline, day, unfinished)} Then run {day} again.", unfinished
            )
        _sleep_until(deadline)


def ask_turn(pipeline: Pipeline, day: date, run: str | None, patience: timedelta) -> None:
    """The same for a scheduler that asks again and again, so that no process waits all the
    time.

    Args:
      run: the run's name. After `train.wait` the run is ended, so that later days do not wait for it.
      patience: how long to wait in this call if only one earlier day is left.

    Raises:
      NotItsTurn: an earlier day is still under way.
      UsageError: none of the earlier days has ended within `train.wait`.
    """
    deadline = time.monotonic() + patience.total_seconds()
    while unfinished := unfinished_before(pipeline, day):
        if run and waited(pipeline, day, run, unfinished) >= pipeline.train.wait:
            error = UsageError(
                f"It has waited in vain: {_waits(pipeline, day, unfinished)} Then clear this task."
            )
            write(pipeline, day, run, "failed", reason=in_one_line(error))
            raise error
        # While several days are ahead, waiting here would only take a slot from them
        if time.monotonic() >= deadline or len(unfinished) > 1:
            raise NotItsTurn(_waits(pipeline, day, unfinished), unfinished)
        _sleep_until(deadline)


def _sleep_until(deadline: float) -> None:
    time.sleep(min(_POLL_SECONDS, max(0.1, deadline - time.monotonic())))


def _waits(pipeline: Pipeline, day: date, unfinished: list[date]) -> str:
    """What a day waits for, and what to do if that was killed."""
    runs = [
        f"{day} (run {lease.run}, last record at {lease.record().at:%Y-%m-%dT%H:%M:%S} UTC)"
        for day in unfinished
        for lease in open_leases(pipeline, day)
    ]
    ends = " and ".join(f"`twinspire close-day PIPELINE --date {day}`" for day in unfinished)
    return (
        f"{day} waits for its turn, at most for train.wait = {pipeline.train.wait}. Still running:"
        f" {', '.join(runs)}. If such a run was killed, end it: {ends}."
    )


def identity() -> ProcessIdentity:
    """This process."""
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return ProcessIdentity(
        host=f"{socket.gethostname()} {_read('/etc/machine-id')}".strip(),
        boot=_read("/proc/sys/kernel/random/boot_id"),
        namespace=namespace,
        pid=os.getpid(),
        born=_born(os.getpid()),
    )


def has_ended(process: ProcessIdentity | None) -> bool:
    """Whether a process has certainly ended; False where that cannot be seen from here."""
    here = identity()
    if process is None or not process.boot or not here.boot:
        return False
    if process.boot != here.boot:
        # The same host with another boot id was restarted. Another host cannot be seen from here
        return process.host == here.host
    if not here.namespace or process.namespace != here.namespace:
        # The process is in another container, whose processes cannot be seen from here
        return False
    try:
        # A process of another user gives PermissionError, and so it exists
        with suppress(PermissionError):
            os.kill(process.pid, 0)
    except ProcessLookupError:
        return True
    # Linux reuses pids: it is the same process only if it started at the same time
    born = _born(process.pid)
    return born is not None and born != process.born


def _born(pid: int) -> int | None:
    """When a process started, in ticks since the machine booted; 0 if it has ended, None if that
    cannot be read.
    """
    # `PID (NAME) STATE PARENT GROUP SESSION …`, where NAME may hold anything
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if not fields:
        return None
    # A zombie (Z) has ended, but its parent has not collected its exit code
    # The start is field 22 of the line, and these begin with field 3
    return 0 if fields[0] == "Z" else int(fields[19])


def _read(file: str) -> str:
    """A file's text; empty if it is gone or another user's."""
    with suppress(OSError):
        return Path(file).read_text(errors="replace").strip()
    return ""
