"""Which days are under way, by the records of their runs (twinspire/runs/lease_records.py).

Days go in order: a later day has to know that an earlier one is under way, even before its first
stage committed.

A run that is one process says which, so that its being killed can be found out. A scheduler's run
is many processes, with pauses between them that are as long as it likes: the scheduler ends it.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

from twinspire.runs import lease_records, process_identity
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts
from twinspire_core.errors import in_one_line


def acquire_day(pipeline: Pipeline, day: date, run: str) -> None:
    """Records that a run of the day is under way; again, after it failed and is gone on with."""
    lease = lease_records.lease_of(pipeline, day, run)
    if lease is None or not lease.is_open or lease.record().reason:
        lease_records.write(pipeline, day, run, lease_records.OPEN)


def note_failed_try(pipeline: Pipeline, day: date, run: str, reason: str) -> None:
    """Records why a try of an open run failed, for whoever ends the run where that was the last one. A
    run that is one process ends itself.
    """
    lease = lease_records.lease_of(pipeline, day, run)
    if lease and lease.is_open and lease.record().process is None:
        lease_records.write(pipeline, day, run, lease_records.OPEN, reason=reason)


def release_day(
    pipeline: Pipeline, day: date, run: str, outcome: str, reason: str | None = None
) -> None:
    """Records how a run of the day ended, and why where something went wrong."""
    why = {"reason": reason} if reason else {}
    lease_records.write(pipeline, day, run, outcome, **why)


@contextmanager
def own_run(pipeline: Pipeline, day: date) -> Iterator[str]:
    """A run of the day that is this process and ends with the block; yields its name."""
    run = f"run-{secrets.token_hex(4)}"
    lease_records.write(pipeline, day, run, lease_records.OPEN, process=process_identity.identity())
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
        for lease in lease_records.newest(pipeline, day):
            if lease.is_open and (run is None or lease.run == lease_records.as_file_name(run)):
                why = lease.record().reason or reason
                release_day(pipeline, day, lease.run, lease_records.FAILED, why)
                ended.append(lease.run)
    return ended


def open_leases(pipeline: Pipeline, day: date) -> list[lease_records.RunLease]:
    """Runs of the day that have begun and not ended."""
    leases = lease_records.newest(pipeline, day)
    return [lease for lease in leases if lease.is_open and not lease.is_orphaned()]


def state(pipeline: Pipeline, day: date) -> str | None:
    """`open` while any run of the day is; else how its last run ended; None if there was none."""
    if open_leases(pipeline, day):
        return lease_records.OPEN
    leases = lease_records.newest(pipeline, day)
    if not leases:
        return None
    last = leases[-1]
    if last.is_open:  # its process is gone, and nobody has written that down yet
        return lease_records.KILLED
    return last.outcome


def last_reason(pipeline: Pipeline, day: date) -> str:
    """Why the run ended that wrote last; empty where that is not known."""
    leases = lease_records.newest(pipeline, day)
    return (leases[-1].record().reason or "") if leases else ""


def last_outcome(pipeline: Pipeline, day: date) -> str | None:
    """How that run of the day ended which did so last; None if none has."""
    ended = [lease.outcome for lease in lease_records.newest(pipeline, day) if not lease.is_open]
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
        for lease in lease_records.newest(pipeline, earlier):
            if lease.is_orphaned():
                release_day(pipeline, earlier, lease.run, lease_records.KILLED)
            elif lease.is_open:
                still_open = True
        if still_open:
            unfinished.append(earlier)
    return unfinished


def waited(pipeline: Pipeline, day: date, run: str, unfinished: Sequence[date]) -> timedelta:
    """How long a run has waited for just these days; written down, since it asks in many short
    processes.
    """
    lease = lease_records.lease_of(pipeline, day, run)
    if lease and lease.is_open:
        record = lease.record()
        if record.waits_for == list(unfinished):
            return datetime.now(UTC) - record.at
    lease_records.write(pipeline, day, run, lease_records.OPEN, waits_for=list(unfinished))
    return timedelta(0)
