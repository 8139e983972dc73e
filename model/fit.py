"""Training: days in order, each in blocks of time, one compiled step per batch."""

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
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


@dataclass(slots=True, kw_only=True)
class Learned:
    """What a run of training did.

    Attributes:
      step: steps ever taken, the parent's included.
      steps: steps taken now.
      rows: rows seen, epochs counted.
      seconds: of training alone, without reading.
      curve: (step, mean loss in nats) at up to `CURVE_POINTS` points.
    """

    step: int = 0
    steps: int = 0
    rows: int = 0
    seconds: float = 0.0
    curve: list[tuple[int, float]] = field(default_factory=list)


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
    learned = Learned(step=step)
    losses: list[tf.Tensor] = []
    take_step = compile_step(model, frequency, settings)
    for day, rows in days:
        _fit_day(take_step, day, rows, settings, learned, losses, report)
    values = np.array([loss.numpy() for loss in losses])
    _check(values)
    learned.curve = _curve(values, first_step=step)
    return learned


def _fit_day(
    take_step: Callable[..., tf.Tensor],
    day: date,
    rows: Rows,
    settings: Train,
    learned: Learned,
    losses: list[tf.Tensor],
    report: Report,
) -> None:
    begin = told = perf_counter()
    done, first = 0, len(losses)
    for epoch in range(settings.epochs):
        for batch in training_rows.batches(order(rows, settings, day, epoch), settings.batch_size):
            features = training_rows.take(rows, batch)
            losses.append(take_step(features, rows.item[batch], rows.reward[batch], np.int32(learned.step)))
            learned.step += 1
            learned.steps += 1
            done += len(batch)
            if perf_counter() - told > 1:
                told = perf_counter()
                report(day, done, settings.epochs * len(rows), _recent(losses[first:]), done / (told - begin))
    learned.rows += done
    learned.seconds += perf_counter() - begin
    if done:
        report(day, done, done, _recent(losses[first:]), done / (perf_counter() - begin))


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

    @tf.function(reduce_retracing=True)
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

    return take_step


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


def _recent(losses: list[tf.Tensor]) -> float:
    """Mean of the last losses; a loss that is no number stops the run here rather than after hours."""
    values = np.array([loss.numpy() for loss in losses[-50:]])
    _check(values)
    return float(values.mean())


def _check(losses: np.ndarray) -> None:
    if not np.isfinite(losses).all():
        raise UsageError(
            f"The loss must stay a number; found {losses[~np.isfinite(losses)][0]}. The learning rate is too high, the "
            "temperature too low, or a feature holds huge numbers: lower train.learning_rate, raise train.temperature, "
            "or set log = true on numbers with a long tail."
        )


def _curve(values: np.ndarray, first_step: int) -> list[tuple[int, float]]:
    pieces = np.array_split(np.arange(len(values)), min(CURVE_POINTS, len(values))) if len(values) else []
    return [(first_step + int(piece[-1]) + 1, round(float(values[piece].mean()), 5)) for piece in pieces]
