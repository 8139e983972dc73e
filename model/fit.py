"""Training: days in order, each in blocks of time, one compiled step per batch."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from time import perf_counter

import numpy as np
import tensorflow as tf

from model import rows as training_rows
from model.frequency import StreamingFrequency
from model.losses import in_batch_softmax_loss, weighted_mean
from model.rows import Rows
from model.towers import TwoTower, drop_ids
from twinspire.errors import UsageError
from twinspire.tables import Train

CURVE_POINTS = 200
Report = Callable[[date, int, int, float, float], None]
"""Called as training goes: day, rows done, rows of the day in all epochs, mean loss, examples per second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What a run of training did.

    Attributes:
      step: steps ever taken, the parent's included.
      steps: steps taken now.
      rows: rows seen, epochs counted.
      seconds: of training, without reading.
      rate: examples per second, the first step (which compiles) left out.
      curve: (step, mean loss in nats) at up to `CURVE_POINTS` points.
    """

    step: int
    steps: int
    rows: int
    seconds: float
    rate: float
    curve: list[tuple[int, float]]


def fit(
    model: TwoTower,
    frequency: StreamingFrequency,
    days: Iterable[tuple[date, Rows]],
    settings: Train,
    *,
    step: int = 0,
    report: Report = lambda *_: None,
) -> Learned:
    """Trains `model` and `frequency` in place.

    Args:
      model: the towers.
      frequency: the streaming estimate that corrects the loss.
      days: oldest first; each is gone through `settings.epochs` times before the next.
      settings: the pipeline file's `train`.
      step: steps taken by earlier days; it seeds dropout.
      report: told every second or so.

    Raises:
      UsageError: the loss is no longer a number.
    """
    run = _Run(compile_step(model, frequency, settings), settings, report, step)
    for day, rows in days:
        run.day(day, rows)
    return run.learned()


class _Run:
    """One call of `fit`."""

    def __init__(self, take_step: Callable[..., tf.Tensor], settings: Train, report: Report, step: int) -> None:
        self._take_step, self._settings, self._report = take_step, settings, report
        self._first = self._step = step
        self._rows, self._seconds = 0, 0.0
        self._compiling = (0, 0.0)  # rows and seconds of the first step
        self._losses: list[tf.Tensor] = []

    def day(self, day: date, rows: Rows) -> None:
        """Goes through a day, all its epochs."""
        begin = told = perf_counter()
        done, total, of_day = 0, self._settings.epochs * len(rows), len(self._losses)
        for batch in self._batches(day, rows):
            features = training_rows.take(rows, batch)
            self._losses.append(self._take_step(features, rows.item[batch], rows.reward[batch], np.int32(self._step)))
            self._step += 1
            done += len(batch)
            if len(self._losses) == 1:
                self._compiling = (done, perf_counter() - begin)
            if perf_counter() - told > 1 or done == total:
                told = perf_counter()
                self._report(day, done, total, _mean(self._losses[of_day:][-50:]), done / (told - begin))
        self._rows += done
        self._seconds += perf_counter() - begin

    def _batches(self, day: date, rows: Rows) -> Iterator[np.ndarray]:
        for epoch in range(self._settings.epochs):
            yield from training_rows.batches(order(rows, self._settings, day, epoch), self._settings.batch_size)

    def learned(self) -> Learned:
        """What was done."""
        rows, seconds = self._compiling if len(self._losses) > 1 else (0, 0.0)
        return Learned(
            step=self._step,
            steps=self._step - self._first,
            rows=self._rows,
            seconds=self._seconds,
            rate=(self._rows - rows) / max(self._seconds - seconds, 1e-9),
            curve=_curve(self._losses, self._first),
        )


def order(rows: Rows, settings: Train, day: date, epoch: int) -> np.ndarray:
    """Row numbers in the order in which an epoch of a day goes through them, [N] int64."""
    rng = np.random.default_rng([settings.seed, day.toordinal(), epoch])
    if settings.order == "shuffled":
        return rng.permutation(len(rows))
    return training_rows.shuffled_in_blocks(rows.time, settings.shuffle_minutes, rng)


def compile_step(model: TwoTower, frequency: StreamingFrequency, settings: Train) -> Callable[..., tf.Tensor]:
    """The training step as one graph: (features, item [B] int64, reward [B], step) -> mean loss of the batch."""
    weights = [*model.tables.values(), *model.dense.values()]
    variables = [weight.values for weight in weights]

    @tf.function
    def take_step(features: Mapping[str, tf.Tensor], item: tf.Tensor, reward: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        log_q = frequency.update(item) if settings.correction == "batch" else tf.zeros_like(reward)
        features = {**features, **_dropped(model, features, settings, step)}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            query, candidate = model("query", features), model("item", features)
            loss = in_batch_softmax_loss(query, candidate, item, log_q, temperature=settings.temperature)
            mean = weighted_mean(loss, reward)
        for weight, gradient in zip(weights, tape.gradient(mean, variables), strict=True):
            if gradient is not None:
                weight.update(gradient, settings.learning_rate)
        return mean

    # One trace for all batch sizes and lengths of lists, taken now.
    scalars = (tf.TensorSpec([None], tf.int64), tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.int32))
    return take_step.get_concrete_function(_specs(model), *scalars)


def _specs(model: TwoTower) -> dict[str, tf.TensorSpec]:
    """What model/rows.py makes of each column."""
    forms = {
        "id": ([None], tf.int32),
        "ids": ([None, None], tf.int32),
        "number": ([None], tf.float32),
        "vector": ([None, None], tf.float32),
    }
    parts = [part for side in model.layout.parts.values() for part in side]
    return {part.column: tf.TensorSpec(*forms[part.form]) for part in parts}


def _dropped(
    model: TwoTower, features: Mapping[str, tf.Tensor], settings: Train, step: tf.Tensor
) -> dict[str, tf.Tensor]:
    """The id columns after id dropout."""
    parts = [part for side in model.layout.parts.values() for part in side if part.dropout and settings.id_dropout]
    return {
        part.column: drop_ids(
            features[part.column],
            model.layout.tables[part.table],
            settings.id_dropout,
            tf.stack([settings.seed + zlib.crc32(part.column.encode()) % 2**30, step]),
        )
        for part in parts
    }


def _mean(losses: Sequence[tf.Tensor]) -> float:
    """Mean of losses; one that is no number stops the run at once rather than after hours.

    Raises:
      UsageError: it is no number.
    """
    values = np.array([loss.numpy() for loss in losses])
    if not np.isfinite(values).all():
        raise UsageError(
            f"The loss must stay a number; found {values[~np.isfinite(values)][0]}. The learning rate is too high, the "
            "temperature too low, or a feature holds huge numbers: lower train.learning_rate, raise train.temperature, "
            "or set log = true on numbers with a long tail."
        )
    return float(values.mean())


def _curve(losses: Sequence[tf.Tensor], first: int) -> list[tuple[int, float]]:
    """Means over equal stretches, each with the step that it ends at."""
    bounds = np.linspace(0, len(losses), min(CURVE_POINTS, len(losses)) + 1).astype(int)
    return [(first + int(b), round(_mean(losses[a:b]), 5)) for a, b in pairwise(bounds)]
