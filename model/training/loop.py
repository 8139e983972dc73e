"""Training: days in order, each in blocks of time, one compiled step per batch."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from time import perf_counter
from typing import Any

import numpy as np
import tensorflow as tf

from model.data.batching import training_batches
from model.data.negative_corpus import NegativeCorpus
from model.data.prefetch import prefetched
from model.data.training_rows import Rows
from model.losses.sampling_probability import StreamingFrequency
from model.towers.auxiliary_head import known
from model.towers.pooling import bagged
from model.towers.two_tower import TwoTower
from model.training.step import compile_step
from twinspire_core.config.tables.training import TrainConfig
from twinspire_core.errors import UsageError

CURVE_POINTS = 200
_AHEAD = 4  # batches laid out while a step is taken
_DIVERGED = (
    "The learning rate is too high, the temperature too low, or a feature holds huge numbers: lower"
    " train.learning_rate, raise train.temperature, or set log = true on numbers with a long tail."
)
Report = Callable[[str, int, int, float, float], None]
"""Called as training goes: the day and pass, rows done, rows of the day, mean loss, examples per
second.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResult:
    """What a run of training did.

    Attributes:
      step: steps ever taken, the parent's included.
      steps: steps taken now.
      rows: rows seen, epochs counted.
      seconds: of training, without reading.
      rate: examples per second, the first step (which compiles) left out.
      curve: (step, mean loss of the softmax in nats) at up to `CURVE_POINTS` points.
      labels: rows with a label, epochs not counted; 0 without an auxiliary head.
      auxiliary: (step, mean loss of the auxiliary head) at as many points, but for those without a
        label.
    """

    step: int
    steps: int
    rows: int
    seconds: float
    rate: float
    curve: list[tuple[int, float]]
    labels: int
    auxiliary: list[tuple[int, float]]


def run_training(
    model: TwoTower,
    frequency: StreamingFrequency,
    days: Iterable[tuple[date, Rows]],
    settings: TrainConfig,
    *,
    catalogue: NegativeCorpus | None = None,
    step: int = 0,
    report: Report = lambda *_: None,
) -> LoopResult:
    """Trains `model` and `frequency` in place.

    Args:
      model: the towers.
      frequency: the streaming estimate that corrects the loss.
      days: oldest first; not an iterator, as all of them are gone through `settings.epochs` times.
        (Several passes over one day before the next would fit that day's few users, not the
        window.)
      settings: the pipeline file's `train`.
      catalogue: what uniform negatives are drawn from, where `settings.negatives` asks for some.
      step: steps taken by earlier days; it seeds dropout and what is drawn.
      report: told every second or so.

    Raises:
      UsageError: the loss or a weight is no longer a number. TypeError: the days can be gone
      through only once.
    """
    if iter(days) is days:
        raise TypeError("Days are gone through once per epoch: pass a list, not an iterator.")
    run = _Run(compile_step(model, frequency, settings), model, settings, catalogue, report, step)
    seen = int(frequency.seen.numpy())
    for epoch in range(settings.epochs):
        if epoch:
            frequency.rewind(seen)
        for day, rows in days:
            run.day(day, rows, epoch)
    return run.learned()


class _Run:
    """One call of `fit`."""

    def __init__(
        self,
        take_step: Callable[..., tf.Tensor],
        model: TwoTower,
        settings: TrainConfig,
        catalogue: NegativeCorpus | None,
        report: Report,
        step: int,
    ) -> None:
        self._take_step, self._settings, self._report = take_step, settings, report
        self._model, self._layout = model, model.layout
        self._head, self._labels = model.head, 0
        self._catalogue = catalogue if settings.negatives.uniform else None
        self._first = self._step = step
        self._rows, self._seconds = 0, 0.0
        self._compiling = (0, 0.0)  # rows and seconds of the first step
        self._losses: list[tf.Tensor] = []

    def day(self, day: date, rows: Rows, epoch: int) -> None:
        """Goes through a day."""
        begin = told = perf_counter()
        done, of_day = 0, len(self._losses)
        chance = (
            self._catalogue.chance(rows.item)
            if self._catalogue
            else np.zeros(len(rows), np.float32)
        )
        whole = {"user": rows.user, "item": rows.item, "reward": rows.reward, "chance": chance}
        if self._head and rows.label is not None:
            if not epoch:
                self._head.see(self._head.seen.and_of(rows.label))
                self._labels += len(known(rows.label))
            whole["label"] = rows.label
        for size, inputs in prefetched(self._inputs(day, rows, epoch, whole), _AHEAD):
            self._losses.append(self._take_step(*inputs))
            self._step += 1
            done += size
            if len(self._losses) == 1:
                self._compiling = (done, perf_counter() - begin)
            if perf_counter() - told > 1 or done == len(rows):
                told = perf_counter()
                what = (
                    f"{day}, pass {epoch + 1} of {self._settings.epochs}"
                    if self._settings.epochs > 1
                    else str(day)
                )
                self._report(
                    what, done, len(rows), _mean(self._losses[of_day:][-50:]), done / (told - begin)
                )
        self._rows += done
        self._seconds += perf_counter() - begin

    def _inputs(
        self, day: date, rows: Rows, epoch: int, whole: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[int, Sequence[Any]]]:
        """The rows of each step and its arguments as tensors."""
        for step, (batch, features) in enumerate(
            training_batches(rows, self._layout, self._settings, day, epoch), self._step
        ):
            taken = {name: column[batch] for name, column in whole.items()}
            arguments = features, taken, self._drawn(step), np.int32(step)
            yield len(batch), tf.nest.map_structure(tf.constant, arguments)

    def _drawn(self, step: int) -> dict[str, Any]:
        """Uniform negatives of a step; nothing where none are asked for."""
        if not self._catalogue:
            return {}
        rng = np.random.default_rng([self._settings.seed, step])
        features, item = self._catalogue.draw(self._settings.negatives.uniform, rng)
        return {
            "features": bagged(features, self._layout.lists),
            "item": item,
            "chance": self._catalogue.chance(item),
        }

    def learned(self) -> LoopResult:
        """What was done.

        Raises:
          UsageError: it ended in weights that are no numbers.
        """
        curve = _curve(self._losses, self._first)
        _check_weights(self._model)
        rows, seconds = self._compiling if len(self._losses) > 1 else (0, 0.0)
        return LoopResult(
            step=self._step,
            steps=self._step - self._first,
            rows=self._rows,
            seconds=self._seconds,
            rate=(self._rows - rows) / max(self._seconds - seconds, 1e-9),
            curve=curve,
            labels=self._labels,
            auxiliary=_auxiliary(self._losses, self._first),
        )


def _mean(losses: Sequence[tf.Tensor]) -> float:
    """Mean of the softmax's losses; one that is no number stops the run at once rather than after
    hours.

    Raises:
      UsageError: it is no number.
    """
    values = np.array([loss.numpy()[0] for loss in losses])
    if not np.isfinite(values).all():
        raise UsageError(
            f"The loss must stay a number; found {values[~np.isfinite(values)][0]}. {_DIVERGED}"
        )
    return float(values.mean())


def _check_weights(model: TwoTower) -> None:
    """Looks at what the last step has left, which no loss tells of; slots that overflowed would
    never move again.

    Raises:
      UsageError: something in it is no number.
    """
    for name, weight in {**model.tables, **model.dense}.items():
        if not all(
            tf.reduce_all(tf.math.is_finite(x)).numpy() for x in (weight.values, weight.slots)
        ):
            raise UsageError(
                f"Weights must stay numbers; those of {name} are none after the last step."
                f" {_DIVERGED}"
            )


def _curve(losses: Sequence[tf.Tensor], first: int) -> list[tuple[int, float]]:
    """Means over equal stretches, each with the step that it ends at."""
    return [(first + b, round(_mean(losses[a:b]), 5)) for a, b in _stretches(len(losses))]


def _auxiliary(losses: Sequence[tf.Tensor], first: int) -> list[tuple[int, float]]:
    """The same of the auxiliary head, over the steps that had a label."""
    values = np.array([loss.numpy()[1] for loss in losses])
    parts = ((first + b, values[a:b][np.isfinite(values[a:b])]) for a, b in _stretches(len(losses)))
    return [(step, round(float(part.mean()), 5)) for step, part in parts if len(part)]


def _stretches(steps: int) -> Iterable[tuple[int, int]]:
    """First and last step of each, up to `CURVE_POINTS` of equal length."""
    return pairwise(np.linspace(0, steps, min(CURVE_POINTS, steps) + 1).astype(int).tolist())
