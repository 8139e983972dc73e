"""Which days are under way: `<work_root>/<pipeline>/dt=D/claims/<number> <run> <outcome>.json`,
never changed.

Days go in order: a later day has to know that an earlier one is under way, even before its first
stage committed. Each run of a day keeps its own records, so that one run's end says nothing of
another's; the newest one holds.

A run that is one process says which, so that its being killed can be found out. A scheduler's run
is many processes, with pauses between them that are as long as it likes: the scheduler ends it.
"""

import json
import os
import re
import secrets
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts

CLAIMS = "claims"
OPEN, FAILED, KILLED = "open", "failed", "killed"


@dataclass(frozen=True, slots=True)
class RunLease:
    """The newest record of a run of a day.

    Attributes:
      run: its name.
      outcome: `open`; or how it ended: `published`, `refused`, `skipped`, `late`, `failed`,
        `killed`.
      uri: where the record is.
    """

    run: str
    outcome: str
    uri: str

    def told(self) -> dict[str, Any]:
        """What the record says: `at`; `process`, the run's own; `waits_for`, days that it waits for
        since `at`.
        """
        return json.loads(storage.read_bytes(self.uri))

    def orphaned(self) -> bool:
        """Whether it is open, and its process has ended on this machine without closing it."""
        return self.outcome == OPEN and has_ended(self.told().get("process"))


def acquire_day(pipeline: Pipeline, day: date, run: str) -> None:
    """Records that a run of the day is under way; again, after it failed and is gone on with."""
    if not any(
        claim.run == _safe(run) and claim.outcome == OPEN for claim in _newest(pipeline, day)
    ):
        _record(pipeline, day, run, OPEN)


def release_day(pipeline: Pipeline, day: date, run: str, outcome: str) -> None:
    """Records how a run of the day ended."""
    _record(pipeline, day, run, outcome)


@contextmanager
def own_run(pipeline: Pipeline, day: date) -> Iterator[str]:
    """A run of the day that is this process and ends with the block; yields its name."""
    run = f"run-{secrets.token_hex(4)}"
    _record(pipeline, day, run, OPEN, process=identity())
    try:
        yield run
    finally:
        end_runs(pipeline, [day], run)


def end_runs(pipeline: Pipeline, days: Sequence[date], run: str | None = None) -> list[str]:
    """Ends the runs of these days that are open, or only the one named; returns their names."""
    found = [
        (day, claim) for day in days for claim in _newest(pipeline, day) if claim.outcome == OPEN
    ]
    ended = [(day, claim) for day, claim in found if run is None or claim.run == _safe(run)]
    for day, claim in ended:
        release_day(pipeline, day, claim.run, FAILED)
    return [claim.run for _, claim in ended]


def open_leases(pipeline: Pipeline, day: date) -> list[RunLease]:
    """Runs of the day that have begun and not ended."""
    return [
        claim for claim in _newest(pipeline, day) if claim.outcome == OPEN and not claim.orphaned()
    ]


def state(pipeline: Pipeline, day: date) -> str | None:
    """`open` while any run of the day is; else how its last run ended; None if there was none."""
    if open_leases(pipeline, day):
        return OPEN
    outcomes = [
        KILLED if claim.outcome == OPEN else claim.outcome for claim in _newest(pipeline, day)
    ]
    return outcomes[-1] if outcomes else None


def unfinished_before(pipeline: Pipeline, day: date) -> list[date]:
    """Earlier days with a run that has begun and not ended, oldest first.

    What was killed on this machine is written down as ended: on another one nobody can tell.
    """
    unfinished = []
    for earlier in (d for d in attempts.days(pipeline) if d < day):
        opened = [claim for claim in _newest(pipeline, earlier) if claim.outcome == OPEN]
        orphans = [claim for claim in opened if claim.orphaned()]
        for claim in orphans:
            release_day(pipeline, earlier, claim.run, KILLED)
        if len(opened) > len(orphans):
            unfinished.append(earlier)
    return unfinished


def waited(pipeline: Pipeline, day: date, run: str, unfinished: Sequence[date]) -> timedelta:
    """How long a run has waited for just these days; written down, since it asks in many short
    processes.
    """
    mine = next((claim for claim in _newest(pipeline, day) if claim.run == _safe(run)), None)
    told = mine.told() if mine and mine.outcome == OPEN else {}
    if told.get("waits_for") != [str(d) for d in unfinished]:
        _record(pipeline, day, run, OPEN, waits_for=[str(d) for d in unfinished])
        return timedelta(0)
    return datetime.now(UTC) - datetime.fromisoformat(told["at"])


def _newest(pipeline: Pipeline, day: date) -> list[RunLease]:
    """The newest record of each run, the run that wrote last coming last."""
    home, found = _home(pipeline, day), dict[str, RunLease]()
    for file in storage.list_names(home):
        _, run, outcome = file.removesuffix(".json").split(" ")
        found.pop(run, None)
        found[run] = RunLease(run, outcome, storage.join(home, file))
    return list(found.values())


def _record(pipeline: Pipeline, day: date, run: str, outcome: str, **more: Any) -> None:
    home = _home(pipeline, day)
    number = 1 + max((int(file.split(" ")[0]) for file in storage.list_names(home)), default=0)
    # The tasks of a run come one after the other, so equal numbers can only be those of different
    # runs.
    place = storage.join(home, f"{number:06d} {_safe(run)} {outcome}.json")
    storage.put_if_absent(place, json.dumps({"at": datetime.now(UTC).isoformat(), **more}).encode())


def _home(pipeline: Pipeline, day: date) -> str:
    return storage.join(attempts.day_uri(pipeline, day), CLAIMS)


def _safe(run: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.:+-]", "_", run)


def identity() -> dict[str, Any]:
    """What tells this process from every other one, at any time and on any machine."""
    return {
        "host": f"{socket.gethostname()} {_read(Path('/etc/machine-id')).decode().strip()}".strip(),
        "boot": _read(Path("/proc/sys/kernel/random/boot_id")).decode().strip(),
        "namespace": _namespace(),
        "pid": os.getpid(),
        "born": _born(os.getpid()),
    }


def has_ended(process: Mapping[str, Any] | None) -> bool:
    """Whether it is certain that a process has ended.

    Args:
      process: its `identity()`; None if that is not known.
    """
    here = identity()
    if not process or not process["boot"] or not here["boot"]:
        return False
    if process["boot"] != here["boot"]:
        return process["host"] == here["host"]  # that machine has been started anew since
    if not here["namespace"] or process["namespace"] != here["namespace"]:
        return False  # in another container, whose processes cannot be seen from here
    try:
        os.kill(process["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        pass
    born = _born(process["pid"])
    return born is not None and born != process["born"]


def _namespace() -> str:
    """The pid namespace, within which pids are unique."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _born(pid: int) -> int | None:
    """When a process began, in ticks since the machine did; 0 if it has ended, None if it may not
    be looked at.
    """
    if not (stat := _read(Path(f"/proc/{pid}/stat"))):
        return None
    fields = _fields(stat)
    return int(fields[19]) if fields[0] != b"Z" else 0


def _fields(stat: bytes) -> list[bytes]:
    """STATE PARENT GROUP SESSION … of `PID (NAME) STATE …`, where NAME may hold anything."""
    return stat.rpartition(b")")[2].split()


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # gone, or another user's
        return b""
