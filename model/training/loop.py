"""The training loop: trains the days in order, each in blocks of time, with one compiled step
per batch. It records the losses, checks that losses and weights are finite, shows its progress on
standard error, and warns if training was too short to learn much.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from math import ceil, log
from time import monotonic, perf_counter
from typing import Any

import numpy as np
import tensorflow as tf

from model.data.batching import training_batches
from model.data.prefetch import prefetched
from model.data.training_rows import NegativeCorpus, Rows
from model.losses.sampling_probability import StreamingFrequency
from model.towers.auxiliary_head import known_labels, label_moments
from model.towers.pooling import bagged
from model.towers.two_tower import TwoTower
from model.training.step import compile_step
from twinspire_core.config.tables.training import TrainConfig
from twinspire_core.errors import UsageError
from twinspire_core.terminal import console, doing

_PREFETCHED_BATCHES = 4
_LOSSES_REPORTED = 50
"""The newest losses whose mean is reported as training goes."""

Report = Callable[[str, int, int, float, float], None]
"""Called as training goes: the day and pass, rows done, rows of the day, mean loss, examples per
second.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopResult:
    """The results of a training run.

    Attributes:
      step: steps ever taken, those of earlier versions of the line included.
      steps: steps taken now.
      rows: rows seen, each pass counted.
      seconds: of training, without reading the rows.
      rate: examples per second, without the first step, which compiles.
      curve: (step, mean loss of the softmax in nats) at up to `CURVE_POINTS` points.
      labels: rows with a label, one pass counted; 0 without an auxiliary head.
      auxiliary: (step, mean loss of the auxiliary head) at as many points, without those that had
        no label.
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
      days: oldest first. All days are gone through `settings.epochs` times, so that it may not be
        an iterator. (Several passes over one day before the next would fit the model to that day's
        few users, instead of the window.)
      settings: the pipeline file's `train`.
      corpus: what uniform negatives are drawn from, if `settings.negatives` asks for some.
      step: steps taken on earlier days; it seeds dropout, and the draws of negatives.
      report: called every second or so.
      last: days that are gone through after all passes over the others, in as many passes.
      before_last: called between these passes and those.

    Raises:
      UsageError: the loss or a weight is no longer a number.
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
        # Rows and seconds of the first step of all, which compiles
        self._compiling = (0, 0.0)
        # Tensors, read when they are needed: to wait for each would keep the next step waiting.
        self._losses: list[tf.Tensor] = []

    def train_days(self, days: Iterable[tuple[date, Rows]]) -> None:
        """Takes all passes over the days."""
        seen = int(self._frequency.seen.numpy())
        for epoch in range(self._settings.epochs):
            if epoch:
                # The same rows come again: the clock is the logs', not the training's.
                self._frequency.rewind(seen)
            for day, rows in days:
                self.train_day(day, rows, epoch)

    def train_day(self, day: date, rows: Rows, epoch: int) -> None:
        """Takes the steps of a day."""
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
            if len(self._losses) == 1:
                self._compiling = (done, perf_counter() - begin)
            if perf_counter() - reported > 1 or done == len(rows):
                reported = perf_counter()
                newest = self._losses[losses_before:][-_LOSSES_REPORTED:]
                rate = done / (reported - begin)
                self._report(name, done, len(rows), mean_loss(newest), rate)
        self._rows += done
        self._seconds += perf_counter() - begin

    def result(self) -> LoopResult:
        """What was done.

        Raises:
          UsageError: a loss or a weight is no longer a number.
        """
        losses = np.array([loss.numpy() for loss in self._losses]).reshape(-1, 2)
        _check_numbers(losses[:, 0])
        check_weights(self._model)
        steps = len(losses)
        # A single step is all there is to tell the rate by
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
        """What a day's rows have besides features, [N] each. In the first pass the auxiliary head
        also counts their labels.
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
            if epoch == 0:
                head.see(head.seen.merged(label_moments(rows.label)))
                self._labels += len(known_labels(rows.label))
        return columns

    def _inputs(
        self, day: date, rows: Rows, epoch: int, columns: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[int, Sequence[Any]]]:
        """For each step the number of its rows, and its arguments as tensors."""
        batches = training_batches(rows, self._model.architecture, self._settings, day, epoch)
        # A generator, begun before the day's first step: all losses so far are of days before.
        for step, (batch, features) in enumerate(batches, self._first_step + len(self._losses)):
            of_rows = {name: column[batch] for name, column in columns.items()}
            arguments = (features, of_rows, self._drawn_items(step), np.int32(step))
            yield len(batch), tf.nest.map_structure(tf.constant, arguments)

    def _drawn_items(self, step: int) -> dict[str, Any]:
        """Uniform negatives of a step; empty if none are asked for."""
        if not self._corpus:
            return {}
        # A function of the step alone, so that prefetching and warm starts draw the same.
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
    """Mean of the softmax's losses.

    Raises:
      UsageError: one is not a number; the run stops at once instead of after hours.
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
    """Means over up to `CURVE_POINTS` equal stretches of steps, each with the step that it ends at; of
    the auxiliary head, whose losses are nan without a label, over the steps that had one.
    """
    bounds = np.linspace(0, len(losses), min(CURVE_POINTS, len(losses)) + 1).astype(int)
    curve = []
    for start, end in pairwise(bounds.tolist()):
        stretch = losses[start:end][np.isfinite(losses[start:end])]
        if len(stretch):
            curve.append((first_step + end, round(float(stretch.mean()), 5)))
    return curve


def check_weights(model: TwoTower) -> None:
    """Checks what the last step has left, of which no loss was computed.

    Slots are checked, too: after an overflow of its slot, a weight would never change again.

    Raises:
      UsageError: a weight or a slot is not a number.
    """
    for name, weight in {**model.tables, **model.dense}.items():
        for variable in (weight.values, weight.slots):
            if not tf.reduce_all(tf.math.is_finite(variable)).numpy():
                raise UsageError(
                    f"Weights must be finite; those of {name} are not after the last step. {_DIVERGED}"
                )


SECONDS_BETWEEN_LINES = 5.0
FULL_SHARE = 0.2
"""Share of the frequency estimate's buckets in use from which on a warning is given."""
FEW_STEPS = 50
"""Steps from scratch below which vectors stay near where they began."""


def few_steps(result: LoopResult, settings: TrainConfig) -> str | None:
    """A warning of training from scratch that was over too soon to learn much; None if it was
    not.
    """
    # A warm start goes on from the steps of the line before.
    if result.step > result.steps or result.steps >= FEW_STEPS:
        return None
    return (
        f"Training from scratch takes {FEW_STEPS} steps at the least, and better some hundreds;"
        f" these were {result.steps}: {result.rows // settings.epochs:,} examples,"
        f" {settings.epochs} times, in batches of {settings.batch_size}. Expect poor lists. Lower"
        " train.batch_size, raise train.epochs, or train on more days: window.train_days."
    )


def full_buckets(frequency: StreamingFrequency) -> str | None:
    """A warning of a frequency estimate whose items share buckets; None if it has room."""
    share = float(np.mean(frequency.last.numpy() != 0))
    if share < FULL_SHARE:
        return None
    # n items thrown into b buckets leave a share of e^(-n / b) empty.
    items = -frequency.buckets * log(max(1 - share, 1 / frequency.buckets))
    return (
        "The frequency estimate needs 5 times as many buckets as there are items, or many look"
        f" more frequent than they are; {share:.0%} of its {frequency.buckets:,} are in use, by"
        f" about {items:,.0f} items. Set train.frequency.buckets to"
        f" {ceil(items / 20_000) * 100_000:,} or more; what was learned is kept."
    )


@contextmanager
def shown(days: int) -> Iterator[Report]:
    """Yields what the training loop reports its progress to.

    Args:
      days: days that will be trained on.
    """
    console.print(f"Training on {days} day{'s' if days > 1 else ''}")
    printed_at = monotonic()
    line = ""
    with doing("training") as update:

        def report(day: str, done: int, rows: int, loss: float, rate: float) -> None:
            nonlocal printed_at, line
            line = f"{day}  {done / rows:4.0%}  loss {loss:.3f}  {rate:,.0f} examples/s"
            update(line)
            if not console.is_terminal and monotonic() - printed_at >= SECONDS_BETWEEN_LINES:
                printed_at = monotonic()
                console.print(line)

        yield report
    console.print(line)
