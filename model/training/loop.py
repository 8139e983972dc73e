"""The training loop: trains the days in order, each in blocks of time, with one compiled step
per batch. It records the losses, checks that losses and weights are finite, shows its progress on
standard error, and warns if training was too short to learn much.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from time import monotonic, perf_counter
from typing import Any

import numpy as np
import tensorflow as tf

from model.data.batching import training_batches
from model.data.prefetch import prefetched
from model.data.training_rows import NegativeCorpus, Rows
from model.losses.sampling_probability import StreamingFrequency
from model.towers.auxiliary_head import known_labels, label_moments
from model.towers.list_encoders import bagged
from model.towers.two_tower import TwoTower
from model.training.step import compile_step
from twinspire_core.config.tables.training import TrainConfig
from twinspire_core.errors import UsageError
from twinspire_core.terminal import console, doing

_PREFETCHED_BATCHES = 4
# The reported loss is the mean of this many last steps, because the loss of a single batch jumps.
_LOSSES_REPORTED = 50

Report = Callable[[str, int, int, float, float], None]
"""Called during training with the day and pass, rows done, rows of the day, mean loss, and examples per
second.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResult:
    """The results of a training run.

    Attributes:
      step: all steps so far, including those of earlier versions.
      steps: steps of this run.
      rows: rows seen; each pass counts.
      seconds: training time, without reading the rows.
      rate: examples per second, without the first step, which includes compiling.
      curve: (step, mean loss of the softmax in nats) at up to `CURVE_POINTS` points.
      labels: rows with a label, one pass counted; 0 without an auxiliary head.
      auxiliary: the same for the auxiliary head, without points that had no label.
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
    corpus: NegativeCorpus | None = None,
    step: int = 0,
    report: Report = lambda *_: None,
    last: Iterable[tuple[date, Rows]] = (),
    before_last: Callable[[], None] = lambda: None,
) -> LoopResult:
    """Trains both towers and the frequency estimate in place.

    Args:
      frequency: the streaming estimate that corrects the loss.
      days: oldest first. Training makes `settings.epochs` passes over all of them, so an iterator
        would not do.
      settings: the pipeline file's `train`.
      corpus: items to draw uniform negatives from, if `settings.negatives` asks for some.
      step: steps taken on earlier days; it seeds dropout and the draws of negatives.
      report: called about once a second.
      last: days to train on after all passes over `days`, with the same number of passes.
      before_last: called between the two.

    Raises:
      UsageError: the loss or a weight is not finite.
    """
    run = _Run(model, frequency, settings, corpus, report, step)
    run.train_days(days)
    if last:
        before_last()
        run.train_days(last)
    return run.result()


class _Run:
    """One call of `run_training`."""

    def __init__(
        self,
        model: TwoTower,
        frequency: StreamingFrequency,
        settings: TrainConfig,
        corpus: NegativeCorpus | None,
        report: Report,
        step: int,
    ) -> None:
        self._take_step = compile_step(model, frequency, settings)
        self._model = model
        self._frequency = frequency
        self._settings = settings
        self._corpus = corpus if settings.negatives.uniform else None
        self._report = report
        self._first_step = step
        self._rows = 0
        self._labels = 0
        self._seconds = 0.0
        # Rows and seconds of the very first step, which compiles
        self._compiling = (0, 0.0)
        # Kept as tensors: reading a loss waits for its step, and the next step could not begin.
        self._losses: list[tf.Tensor] = []

    def train_days(self, days: Iterable[tuple[date, Rows]]) -> None:
        """Makes all passes over the days."""
        seen = int(self._frequency.seen.numpy())
        # All days in each pass. Several passes over one day would fit the model to its few users.
        for epoch in range(self._settings.epochs):
            if epoch:
                # The same rows come again: the estimate measures gaps in the logs, not in training.
                self._frequency.rewind(seen)
            for day, rows in days:
                self.train_day(day, rows, epoch)

    def train_day(self, day: date, rows: Rows, epoch: int) -> None:
        """Trains one pass over a day."""
        columns = self._columns(rows, epoch)
        passes = self._settings.epochs
        name = f"{day}, pass {epoch + 1} of {passes}" if passes > 1 else str(day)
        begin = reported = perf_counter()
        done = 0
        losses_before = len(self._losses)
        inputs = self._inputs(day, rows, epoch, columns)
        for size, arguments in prefetched(inputs, _PREFETCHED_BATCHES):
            self._losses.append(self._take_step(*arguments))
            done += size
            # The first step also compiles the graph, so the rate leaves it out.
            if len(self._losses) == 1:
                self._compiling = (done, perf_counter() - begin)
            # Not after each step: reading a loss waits until the steps before it have ended.
            if perf_counter() - reported > 1 or done == len(rows):
                reported = perf_counter()
                newest = self._losses[losses_before:][-_LOSSES_REPORTED:]
                rate = done / (reported - begin)
                self._report(name, done, len(rows), mean_loss(newest), rate)
        self._rows += done
        self._seconds += perf_counter() - begin

    def result(self) -> LoopResult:
        """The results so far.

        Raises:
          UsageError: a loss or a weight is not finite.
        """
        losses = np.array([loss.numpy() for loss in self._losses]).reshape(-1, 2)
        _check_numbers(losses[:, 0])
        check_weights(self._model)
        steps = len(losses)
        # The first step compiles, so it is left out, unless it is the only one.
        rows, seconds = self._compiling if steps > 1 else (0, 0.0)
        return LoopResult(
            step=self._first_step + steps,
            steps=steps,
            rows=self._rows,
            seconds=self._seconds,
            rate=(self._rows - rows) / max(self._seconds - seconds, 1e-9),
            curve=_curve(losses[:, 0], self._first_step),
            labels=self._labels,
            auxiliary=_curve(losses[:, 1], self._first_step),
        )

    def _columns(self, rows: Rows, epoch: int) -> dict[str, np.ndarray]:
        """The columns of a day's rows that are not features, [N] each. In the first pass, the auxiliary
        head also counts the labels.
        """
        columns = {
            "user": rows.user,
            "item": rows.item,
            "reward": rows.reward,
            "draw_probability": self._corpus.draw_probability(rows.item)
            if self._corpus
            else np.zeros(len(rows), np.float32),
        }
        head = self._model.head
        if head and rows.label is not None:
            columns["label"] = rows.label
            # Later passes see the same labels again, which would count them twice.
            if epoch == 0:
                head.see(head.seen.merged(label_moments(rows.label)))
                self._labels += len(known_labels(rows.label))
        return columns

    def _inputs(
        self, day: date, rows: Rows, epoch: int, columns: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[int, Sequence[Any]]]:
        """Yields the number of rows and the arguments of each step, as tensors."""
        batches = training_batches(rows, self._model.architecture, self._settings, day, epoch)
        # The first batch is made before the day's first step, so all losses are of earlier days.
        for step, (batch, features) in enumerate(batches, self._first_step + len(self._losses)):
            of_rows = {name: column[batch] for name, column in columns.items()}
            arguments = (features, of_rows, self._drawn_items(step), np.int32(step))
            yield len(batch), tf.nest.map_structure(tf.constant, arguments)

    def _drawn_items(self, step: int) -> dict[str, Any]:
        """Uniform negatives of a step; empty if `train.negatives.uniform` is 0."""
        if not self._corpus:
            return {}
        # Seeded by the step alone, so that prefetching and warm starts do not change the draws.
        rng = np.random.default_rng([self._settings.seed, step])
        features, item = self._corpus.draw(self._settings.negatives.uniform, rng)
        return {
            "features": bagged(features, self._model.architecture.lists),
            "item": item,
            "draw_probability": self._corpus.draw_probability(item),
        }


CURVE_POINTS = 200
"""The most points of a loss curve."""

_DIVERGED = (
    "The learning rate is too high, the temperature is too low, or a feature has huge numbers. Lower"
    " train.learning_rate, raise train.temperature, or set log = true on numbers with a long tail."
)


def mean_loss(losses: Sequence[tf.Tensor]) -> float:
    """Mean of the softmax losses.

    Raises:
      UsageError: a loss is not finite. The run stops at once, and not only after hours.
    """
    values = np.array([loss.numpy()[0] for loss in losses])
    _check_numbers(values)
    return float(values.mean())


def _check_numbers(losses: np.ndarray) -> None:
    if not np.isfinite(losses).all():
        raise UsageError(
            f"The loss must be finite; found {losses[~np.isfinite(losses)][0]}. {_DIVERGED}"
        )


def _curve(losses: np.ndarray, first_step: int) -> list[tuple[int, float]]:
    """Mean losses over up to `CURVE_POINTS` equal stretches of steps, each with its last step. Steps with
    loss NaN (the auxiliary head without labels) are left out.
    """
    bounds = np.linspace(0, len(losses), min(CURVE_POINTS, len(losses)) + 1).astype(int)
    curve = []
    for start, end in pairwise(bounds.tolist()):
        stretch = losses[start:end][np.isfinite(losses[start:end])]
        if len(stretch):
            curve.append((first_step + end, round(float(stretch.mean()), 5)))
    return curve


def check_weights(model: TwoTower) -> None:
    """Checks the weights after the last step, because no later loss would show that they are wrong.

    Raises:
      UsageError: a weight or a slot is not finite.
    """
    for name, weight in {**model.tables, **model.dense}.items():
        # Slots, too: after an overflow of its slot, a weight would never change again.
        for variable in (weight.values, weight.slots):
            if not tf.reduce_all(tf.math.is_finite(variable)).numpy():
                raise UsageError(
                    f"Weights must be finite; those of {name} are not after the last step. {_DIVERGED}"
                )


SECONDS_BETWEEN_LINES = 5.0
FEW_STEPS = 50
"""With fewer steps from scratch, vectors stay near their random start."""


def few_steps(result: LoopResult, settings: TrainConfig) -> str | None:
    """A warning if training from scratch was too short to learn much; else None."""
    # A warm start continues after the steps of earlier versions.
    if result.step > result.steps or result.steps >= FEW_STEPS:
        return None
    return (
        f"Training from scratch needs at least {FEW_STEPS} steps, better some hundreds; this run took"
        f" {result.steps}: {result.rows // settings.epochs:,} examples,"
        f" {settings.epochs} times, in batches of {settings.batch_size}. Expect poor lists. Lower"
        " train.batch_size, raise train.epochs, or train on more days: window.train_days."
    )


@contextmanager
def shown(days: int) -> Iterator[Report]:
    """Yields a function that shows the progress of training over this number of days."""
    console.print(f"Training on {days} day{'s' if days > 1 else ''}")
    printed_at = monotonic()
    line = ""
    with doing("training") as update:

        def report(day: str, done: int, rows: int, loss: float, rate: float) -> None:
            nonlocal printed_at, line
            line = f"{day}  {done / rows:4.0%}  loss {loss:.3f}  {rate:,.0f} examples/s"
            update(line)
            # A terminal shows the line in place; a log would get thousands.
            if not console.is_terminal and monotonic() - printed_at >= SECONDS_BETWEEN_LINES:
                printed_at = monotonic()
                console.print(line)

        yield report
    console.print(line)
