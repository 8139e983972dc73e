"""Ways of training through the months: lines that go on day by day, by how their slots decay, and
towers that are trained anew; each measured on the days behind.
"""

import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks.months.day_features import DayFeatures
from benchmarks.quality.prepare import override
from model.evaluation.evaluate import by_query
from model.evaluation.tower_vectors import encode
from model.evaluation.version_evaluation import rank_encoded
from model.training import checkpoint
from model.training.train import Trained, train_towers, write
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.contracts.model_bundle import STATE
from twinspire_core.contracts.stage_context import Mode, StageContext

K = 50


@dataclass(frozen=True, kw_only=True)
class Found:
    """What towers find on the days behind a training.

    Attributes:
      recall: [Q] float64, recall@50 of each query; nan for newcomers.
      user: [Q] str, who asks.
    """

    recall: np.ndarray
    user: np.ndarray

    def save(self, file: Path) -> None:
        """Writes it whole or not at all."""
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".part.npz")
        np.savez(draft, recall=self.recall, user=self.user)
        draft.replace(file)

    @classmethod
    def load(cls, file: Path) -> "Found":
        """Reads it."""
        with np.load(file) as arrays:
            return cls(recall=arrays["recall"], user=arrays["user"])


@dataclass(frozen=True, kw_only=True)
class Months:
    """The days, and where results are kept.

    Attributes:
      features: of all days.
      measured: the days whose towers are measured, oldest first; the first is that of the start.
      folder: of results.
      seed: `train.seed`.
    """

    features: DayFeatures
    measured: list[date]
    folder: Path
    seed: int

    def found(self, way: str, day: date) -> Path:
        """File of what a way's towers of a day find."""
        return self.folder / f"seed {self.seed}" / way / f"{day}.npz"

    def start(self) -> Path:
        """Trains the first day anew, from which all lines go on; its folder."""
        day = self.measured[0]
        home = self._home("start") / str(day)
        if not home.exists():
            self._train_anew(day, home)
        return home

    def train_anew(self, day: date) -> None:
        """Trains a day anew on its window, and measures it."""
        if not self.found("anew", day).exists():
            if day == self.measured[0]:
                self.start()
            else:
                home = self._home("anew") / str(day)
                self._train_anew(day, home)
                shutil.rmtree(home)

    def days_left(self, slot_decay: float) -> list[date]:
        """Days that a line has yet to go on, oldest first."""
        newest = self._newest(self._home(way_of(slot_decay)))
        return [day for day in self.features.days()[1:] if str(day) > newest]

    def go_on(self, slot_decay: float, day: date) -> None:
        """Trains a line's next day, and measures it if it is to be measured.

        Args:
          slot_decay: what slots are multiplied by before the day.
          day: the first of `days_left`.
        """
        way = way_of(slot_decay)
        home = self._home(way)
        newest = self._newest(home)
        parent = home / newest if newest else self.start()
        draft = home / f"{day}.part"
        shutil.rmtree(draft, ignore_errors=True)
        p = override(self._pipeline, {"train.slot_decay": slot_decay})
        context = _context(p, day, "incremental")
        trained = train_towers(context, self.features.of_day(day), parent / STATE)
        if day in self.measured:
            self._measure(trained, context, draft, way)
        else:
            _save_state(trained, day, draft)
        draft.rename(home / str(day))
        if newest:  # only the newest state is needed to go on from
            shutil.rmtree(parent)

    @property
    def _pipeline(self) -> Pipeline:
        return override(self.features.p, {"train.seed": self.seed})

    def _newest(self, home: Path) -> str:
        """The day that a line has come to; empty at the start."""
        return max((path.name for path in home.iterdir() if not path.suffix), default="")

    def _home(self, way: str) -> Path:
        home = self.folder / f"seed {self.seed}" / way / "states"
        home.mkdir(parents=True, exist_ok=True)
        return home

    def _train_anew(self, day: date, home: Path) -> None:
        context = _context(self._pipeline, day, "full")
        # A place of its own: tables of vocabularies are shared in a process by their files' names.
        window = self.features.of_window(day, self.folder / f"window of {day}")
        trained = train_towers(context, window, None)
        draft = home.with_suffix(".part")
        shutil.rmtree(draft, ignore_errors=True)
        self._measure(trained, context, draft, "anew")
        draft.rename(home)
        shutil.rmtree(window)

    def _measure(self, trained: Trained, context: StageContext, out: Path, way: str) -> None:
        """Writes towers and state, and measures the towers."""
        out.mkdir(parents=True)
        towers = write(context, trained, out)
        evaluation_set, corpus = self.features.measured(context.day)
        encoded = encode(towers, corpus, {"days": evaluation_set.queries})
        lists = rank_encoded(encoded, {"days": evaluation_set}, K)["days"]
        recall = by_query(evaluation_set, lists.kept, (K,))[f"recall@{K}"]
        user = np.array(evaluation_set.queries["_user"].to_pylist())
        Found(recall=recall, user=user).save(self.found(way, context.day))


def way_of(slot_decay: float) -> str:
    """The name of a line."""
    return f"slot_decay {slot_decay:g}"


def _context(p: Pipeline, day: date, mode: Mode) -> StageContext:
    return StageContext(pipeline=p, day=day, mode=mode, out="")


def _save_state(trained: Trained, day: date, out: Path) -> None:
    state = checkpoint.capture(
        trained.model,
        trained.frequency.state(),
        day=day,
        step=trained.result.step,
        archive=trained.archive,
    )
    checkpoint.save(state, out / STATE)
