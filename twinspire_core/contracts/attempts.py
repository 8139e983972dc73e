"""The inputs of a stage, and the folders of its working files.

A stage is a function `run(ctx) -> summary` that writes below `ctx.out`, a folder
`<work_root>/<pipeline>/dt=D/<stage>/<attempt>/`. Its `DONE.json`, which is written last, commits the attempt.

Invariants, on a disk and in an object store:
  1. Each run of a stage writes into a new attempt folder. Nothing is renamed, and no committed file is
  changed, except by `twinspire forget`, which removes users from training states.
  2. `DONE.json` is created only if absent, after all files that it describes. Without it, other stages ignore
  the attempt.
  3. The output of a stage is its newest committed attempt.

Partials (beam_jobs/features/partials.py) are not attempts. They are in
`<work_root>/<pipeline>/partials/dt=D/`, for the runs of later days. No key of a stage depends on them.
"""

import json
import secrets
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.version_manifest import IndexFigures

Mode = Literal["incremental", "full"]
Promote = Literal["auto", "yes", "no"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The newest accepted version before a day.

    Attributes:
      day: the day it was trained on.
      version: its id in the registry.
      home: place of its files in the registry: towers, vectors.
      train: place of its train attempt, with the training state. Old attempts may be deleted.
      measure: place of its measure attempt, with lists and rows of earlier days. It may be deleted, too.
    """

    day: date
    version: str
    home: str
    train: str
    measure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BestAccepted:
    """The best accepted version before a day (index_builder/registry/parents.py).

    Attributes:
      version: its id in the registry.
      home: place of its files there.
      ahead: the running sum of the gate's paired differences at this version, minus that at the parent.
      gone: versions with a still higher sum whose files were deleted.
    """

    version: str
    home: str
    ahead: float = 0.0
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The start of the index stage.

    Attributes:
      version: an earlier version, whose settings are tried first; None for a new search.
      index: the figures of that version's index; None without a version.
      why: the reason why there is no version; empty if there is one.
    """

    version: str | None = None
    index: IndexFigures | None = None
    why: str = ""


NO_START = Start(why="there is no earlier version")


@dataclass(frozen=True, slots=True)
class Gap:
    """Days in a row, including the last, that are missing in the line of a day's parents."""

    first: date
    last: date

    def command(self, pipeline: str) -> str:
        """The command that runs these days of a pipeline."""
        return f"twinspire run {pipeline} --from {self.first} --to {self.last}"

    def describe(self, pipeline: str) -> dict[str, str]:
        """The gap as JSON files hold it, with that command."""
        ends = {"from": str(self.first), "to": str(self.last)}
        return {**ends, "command": self.command(pipeline)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reuse:
    """Partials of earlier runs, which a stage may use and add to (partials.py).

    Attributes:
      partials: URI of the folder of partials.
      digests: of the files that the stage reads, by `<table>/<day>/<name>`.
    """

    partials: str
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageContext:
    """One stage of one day.

    Attributes:
      day: a calendar day of the pipeline's time zone.
      mode: `incremental` warm-starts from the parent; `full` trains from scratch on the training
        window.
      parent: baseline of the gate in both modes; None on the first day.
      inputs: URI of the committed attempt of each earlier stage, by stage.
      out: URI of this stage's new folder. The runner commits it after the stage.
      promote: whether publication makes the version live.
      gaps: days with logs between the parent and the day on which no version was trained.
      best: for the train stage: the best accepted version before the day; None without a parent, or if the
        parent stores no earlier versions.
      start: for the index stage: the version whose settings it starts from.
      reuse: for a stage that reads logs: partials of earlier runs; None to read all logs.
      replays: for the features stage: whether earlier days are replayed, because no parent has rows for
        fitting a ranker.
    """

    pipeline: Pipeline
    day: date
    mode: Mode
    out: str
    parent: Parent | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    promote: Promote = "auto"
    gaps: tuple[Gap, ...] = ()
    best: BestAccepted | None = None
    start: Start = NO_START
    reuse: Reuse | None = None
    replays: bool = False

    @property
    def besides(self) -> BestAccepted | None:
        """The best accepted version, unless it is the parent, which is measured anyway."""
        if self.best is None or self.parent is None or self.best.version == self.parent.version:
            return None
        return self.best


DONE = "DONE.json"


class Attempt(BaseModel):
    """A committed attempt. `DONE.json` holds its fields in this order, but for `uri`.

    Attributes:
      uri: its folder.
      key: digest of all inputs that determine the output.
      config: digest of the part of the pipeline file that the stage uses.
      output: digest of the output files.
      mode: the mode of the run that made it.
      parent: the newest accepted version before the day at the time when it was made.
      inputs: name of the attempt of each earlier stage that it was made from.
      summary: what the stage reported.
      committed_at: a time such as `2024-03-01T06:00:00+00:00`; empty before it is committed.
    """

    model_config = ConfigDict(frozen=True)

    # Not in the file, because working folders may be moved.
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
    """The URI of working files with a name such as `dt=D/<stage>/<attempt>`."""
    return storage.join(pipeline.pipeline.work_root, pipeline.name, *name.split("/")).rstrip("/")


def name(pipeline: Pipeline, uri: str) -> str:
    """The name of working files at a URI. It stays the same when the working folder moves."""
    return uri.removeprefix(place(pipeline) + "/")


def day_uri(pipeline: Pipeline, day: date) -> str:
    """Folder of a day's working files."""
    return place(pipeline, f"dt={day}")


def days(pipeline: Pipeline) -> list[date]:
    """Days that have working files, oldest first; some may have only a failed run."""
    days = map(day_of, storage.list_names(place(pipeline)))
    return sorted(day for day in days if day is not None)


def was_run(pipeline: Pipeline, day: date) -> bool:
    """Whether a stage of the day has committed. A day whose logs never arrived may have a folder, too."""
    stages = storage.list_names(day_uri(pipeline, day))
    return any(latest(pipeline, day, stage) for stage in stages)


def day_of(folder: str) -> date | None:
    """The day of a folder named `dt=D`; None for any other folder."""
    try:
        day = date.fromisoformat(folder.removeprefix("dt="))
    except ValueError:
        return None
    # `fromisoformat` also reads other forms, such as 20240501, which no stage writes.
    return day if folder == f"dt={day}" else None


def begin(pipeline: Pipeline, day: date, stage: str) -> str:
    """A fresh attempt folder's URI, after all earlier ones in name order."""
    home = storage.join(day_uri(pipeline, day), stage)
    # The random suffix distinguishes two runs that start at the same time.
    last = max((int(n[:4]) for n in storage.list_names(home)), default=0)
    return storage.join(home, f"{last + 1:04d}-{secrets.token_hex(4)}")


def commit(attempt: Attempt) -> None:
    """Makes an attempt visible to other stages."""
    # To the second, because people need no fractions.
    now = datetime.now(UTC).isoformat(timespec="seconds")
    marker = attempt.model_copy(update={"committed_at": now}).model_dump()
    # Not `model_dump_json`, because `DONE.json` is ASCII and has NaN as in Python.
    storage.put_if_absent(storage.join(attempt.uri, DONE), json.dumps(marker, indent=1).encode())


def delete(uri: str) -> None:
    """Deletes a folder of working files."""
    # The marker goes first, so that no reader sees an attempt with half of its files
    storage.delete_file(storage.join(uri, DONE))
    storage.delete_tree(uri)


def read(uri: str) -> Attempt:
    """The committed attempt at `uri`."""
    return Attempt(uri=uri, **json.loads(storage.read_bytes(storage.join(uri, DONE))))


def latest(pipeline: Pipeline, day: date, stage: str) -> Attempt | None:
    """The newest committed attempt of a stage, or None."""
    home = storage.join(day_uri(pipeline, day), stage)
    # The newest folders may be of failed or running attempts, which have no marker.
    for name in reversed(storage.list_names(home)):
        uri = storage.join(home, name)
        if storage.exists(storage.join(uri, DONE)):
            return read(uri)
    return None


PARTIALS = "partials"


def partials_folder(pipeline: Pipeline) -> str:
    """The folder of a pipeline's partials."""
    return place(pipeline, PARTIALS)


def partials_by_day(folder: str) -> dict[date, int]:
    """Bytes of the partials of each day, oldest day first."""
    sizes: dict[date, int] = defaultdict(int)
    for file in storage.list_files(folder):
        if day := day_of(file.path.rpartition("/")[0]):
            sizes[day] += file.size
    return dict(sorted(sizes.items()))
