"""Trained towers: what is said of their training, and what the stage writes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from model.losses.sampling_probability import StreamingFrequency
from model.towers.auxiliary_head import Head
from model.towers.export import export
from model.towers.transform_module import Transform
from model.towers.two_tower import TwoTower
from model.training import checkpoint
from model.training.checkpoint import TableState
from model.training.loop import LoopResult
from twinspire_core.contracts import model_bundle
from twinspire_core.contracts.day_metrics import TrainingFigures
from twinspire_core.contracts.model_bundle import Tower
from twinspire_core.contracts.stage_context import StageContext
from twinspire_core.contracts.timings import TrainTimings


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """Trained towers, with what the next day's training starts from.

    Attributes:
      model: the towers.
      transforms: what turns raw features into the towers', by side.
      frequency: the frequency estimate.
      archive: rows of ids that have left the vocabulary, by table.
      result: what the loop did.
      days: the days trained on.
      inherited_head: the auxiliary head as the parent left it, or as it was before the last day of
        a first version; None without a head, or without either.
      warning: what to say of training that was over too soon, or of a frequency estimate that is
        too small; None if there is nothing to say.
    """

    model: TwoTower
    transforms: Mapping[str, Transform]
    frequency: StreamingFrequency
    archive: Mapping[str, TableState]
    result: LoopResult
    days: Sequence[date]
    inherited_head: Head | None
    warning: str | None

    def figures(self) -> TrainingFigures:
        """What metrics.json says of training."""
        return TrainingFigures(
            first_day=str(self.days[0]),
            last_day=str(self.days[-1]),
            days=len(self.days),
            rows=self.result.rows,
            steps=self.result.steps,
            total_steps=self.result.step,
            loss=self.result.curve,
            warning=self.warning,
            tables={name: spec.rows for name, spec in self.model.architecture.tables.items()},
        )

    def auxiliary(self) -> dict[str, Any] | None:
        """What metrics.json says of how the auxiliary head was trained; None without a head."""
        head = self.model.head
        if head is None:
            return None
        return {
            "loss": head.kind,
            "labels": self.result.labels,
            "mean": head.seen.mean,
            "curve": self.result.auxiliary,
        }

    def timings(self) -> TrainTimings:
        """What timings.json says of training."""
        return TrainTimings(
            training_seconds=round(self.result.seconds, 2),
            examples_per_second=round(self.result.rate),
        )


def write(ctx: StageContext, trained: Trained, out: Path) -> dict[str, Tower]:
    """Writes both towers and the training state.

    Args:
      ctx: the day.
      trained: what is written.
      out: local folder.

    Returns: the towers by side, from memory.
    """
    towers = {
        side: export(trained.model, trained.transforms[side], side, out / name)
        for side, name in model_bundle.TOWERS.items()
    }
    state = checkpoint.capture(
        trained.model,
        trained.frequency.state(),
        day=ctx.day,
        step=trained.result.step,
        archive=trained.archive,
    )
    checkpoint.save(state, out / model_bundle.STATE)
    return towers
