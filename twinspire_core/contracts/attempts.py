"""Working files: `<work_root>/<pipeline>/dt=D/<stage>/<attempt>/`, committed by a `DONE.json`
written last.

Invariants, on a disk and on `gs://`:
  1. A stage writes into an attempt folder of its own; nothing is renamed, nothing committed is
  changed, but by `twinspire forget`, which takes users out of training states.
  2. `DONE.json` is created only if absent, after everything that it describes. Without it the
  attempt does not exist.
  3. The output of a stage is its newest committed attempt.
"""

import json
import secrets
from datetime import UTC, date, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.stage_context import Mode

DONE = "DONE.json"


class Attempt(BaseModel):
    """A committed attempt. `DONE.json` holds its fields in this order, but for `uri`.

    Attributes:
      uri: its folder.
      key: digest of what the output is a function of.
      config: digest of the part of the pipeline file that went into it.
      output: digest of the output files.
      mode: the mode that it was made in.
      parent: the version that was the newest accepted one before the day when it was made.
      inputs: name of the attempt of each earlier stage that it was made from.
      summary: what the stage reported.
      committed_at: when, as `2024-03-01T06:00:00+00:00`; empty before it is committed.
    """

    model_config = ConfigDict(frozen=True)

    uri: str = Field(exclude=True)
    key: str
    config: str
    output: str
    mode: Mode
    parent: str | None
    inputs: dict[str, str]
    summary: dict[str, Any]
    committed_at: str = ""


def place(pipeline: Pipeline, name: str = "") -> str:
    """The place of working files by their name, `dt=D/<stage>/<attempt>`."""
    return storage.join(pipeline.pipeline.work_root, pipeline.name, *name.split("/")).rstrip("/")


def name(pipeline: Pipeline, uri: str) -> str:
    """The name of working files, which stays the same when the working folder moves."""
    return uri.removeprefix(place(pipeline) + "/")


def day_uri(pipeline: Pipeline, day: date) -> str:
    """Folder of a day's working files."""
    return place(pipeline, f"dt={day}")


def days(pipeline: Pipeline) -> list[date]:
    """Days that have working files, oldest first; those of some say only that a run was tried."""
    found = map(day_of, storage.list_names(place(pipeline)))
    return sorted(day for day in found if day is not None)


def was_run(pipeline: Pipeline, day: date) -> bool:
    """Whether a stage of the day has committed. A day whose logs never came has a folder as well."""
    stages = storage.list_names(day_uri(pipeline, day))
    return any(latest(pipeline, day, stage) for stage in stages)


def day_of(folder: str) -> date | None:
    """The day of a folder `dt=D` by its name; None of one that somebody else has put there."""
    try:
        day = date.fromisoformat(folder.removeprefix("dt="))
    except ValueError:
        return None
    return day if folder == f"dt={day}" else None


def begin(pipeline: Pipeline, day: date, stage: str) -> str:
    """A fresh attempt folder's URI, after all earlier ones in name order."""
    home = storage.join(day_uri(pipeline, day), stage)
    last = max((int(n[:4]) for n in storage.list_names(home)), default=0)
    return storage.join(home, f"{last + 1:04d}-{secrets.token_hex(4)}")


def commit(attempt: Attempt) -> None:
    """Makes an attempt visible to other stages."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    marker = attempt.model_copy(update={"committed_at": now}).model_dump()
    # Not `model_dump_json`: markers are ASCII, and spell what is no number as Python does.
    storage.put_if_absent(storage.join(attempt.uri, DONE), json.dumps(marker, indent=1).encode())


def read(uri: str) -> Attempt:
    """The committed attempt at `uri`."""
    return Attempt(uri=uri, **json.loads(storage.read_bytes(storage.join(uri, DONE))))


def latest(pipeline: Pipeline, day: date, stage: str) -> Attempt | None:
    """The newest committed attempt of a stage, or None."""
    home = storage.join(day_uri(pipeline, day), stage)
    for name in reversed(storage.list_names(home)):
        uri = storage.join(home, name)
        if storage.exists(storage.join(uri, DONE)):
            return read(uri)
    return None
