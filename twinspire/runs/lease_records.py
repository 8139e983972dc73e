"""The records of which runs of a day are under way:
`<work_root>/<pipeline>/dt=D/claims/<number> <run> <outcome>.json`, never changed.

Each run of a day keeps its own records, so that one run's end says nothing of another's; the newest
record of a run holds.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, field_serializer

from twinspire.runs import process_identity
from twinspire.runs.process_identity import ProcessIdentity
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts import attempts

LEASES = "claims"
"""Folder of a day's records, beside those of its stages."""

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

    @field_serializer("at")
    def _as_always(self, at: datetime) -> str:
        """Pydantic would write `Z` for `+00:00`."""
        return at.isoformat()

    def dump(self) -> bytes:
        """The bytes of the record."""
        return json.dumps(self.model_dump(mode="json", exclude_unset=True)).encode()


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
        return self.is_open and process_identity.has_ended(self.record().process)


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
    return storage.join(attempts.day_uri(pipeline, day), LEASES)


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
