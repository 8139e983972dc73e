"""What a stage is given. A stage is a function `run(ctx) -> summary` that writes under
`ctx.out`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.index_figures import IndexFigures

Mode = Literal["incremental", "full"]
Promote = Literal["auto", "yes", "no"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The newest accepted version before a day.

    Attributes:
      day: the day it was trained on.
      version: its id in the registry.
      home: place of its files in the registry: towers, vectors.
      train: place of its train attempt, which holds the training state. Old ones may be gone.
      measure: place of its measure attempt, which holds lists and rows of days before. Likewise.
    """

    day: date
    version: str
    home: str
    train: str
    measure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BestAccepted:
    """The best accepted version before a day (twinspire/runs/best_version.py).

    Attributes:
      version: its id in the registry.
      home: place of its files there.
      ahead: by how much the running sum of the gate's paired differences stands higher at it than
        at the parent.
      gone: versions at which it stands higher still, and whose files are no longer there.
    """

    version: str
    home: str
    ahead: float = 0.0
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What the index stage starts from.

    Attributes:
      version: an earlier version, whose settings are tried first; None to search for settings anew.
      index: how that version's index came about; None without a version.
      why: why there is none; empty if there is one.
    """

    version: str | None = None
    index: IndexFigures | None = None
    why: str = ""


NO_START = Start(why="there is no earlier version")


@dataclass(frozen=True, slots=True)
class Gap:
    """Days in a row, the last included, that are missing in the line of a day's parents."""

    first: date
    last: date

    def command(self, pipeline: str) -> str:
        """The command that runs these days; `pipeline` names the pipeline in it."""
        return f"twinspire run {pipeline} --from {self.first} --to {self.last}"

    def describe(self, pipeline: str) -> dict[str, str]:
        """The gap as JSON files hold it, with that command."""
        return {
            "from": str(self.first),
            "to": str(self.last),
            "command": self.command(pipeline),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Reuse:
    """What was made of logs by earlier runs, and may be used and added to (contracts/partials.py).

    Attributes:
      partials: URI of the folder of partials.
      digests: of the files that the stage reads, by `<table>/<day>/<name>`, as the key has them.
    """

    partials: str
    digests: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageContext:
    """One stage of one day.

    Attributes:
      pipeline: the parsed pipeline file.
      day: the day, a calendar day of the pipeline's zone.
      mode: `incremental` warm-starts from the parent; `full` trains from scratch on the training
        window.
      parent: baseline of the gate in both modes; None on the first day.
      inputs: URI of the committed attempt of each earlier stage, by stage.
      out: URI of this stage's fresh folder. Whoever runs the stage commits it afterwards.
      promote: whether publication makes the version live.
      gaps: days with logs, between the parent that is trained on from and the day, that nobody
        trained on.
      best: of the train stage: the best accepted version before the day; None without a parent, or
        where the parent remembers no line.
      start: of the index stage: whose settings it starts from.
      reuse: of a stage that reads logs: what earlier runs made of them; None to read all of them.
      replays: of the features stage: whether days before the day are replayed, since no parent has rows
        that a ranker can be fitted on.
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
        """The best accepted version, where that is not the parent, which is measured anyway."""
        if self.best is None or self.parent is None or self.best.version == self.parent.version:
            return None
        return self.best
