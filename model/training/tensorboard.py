"""TensorBoard's view of a day: the loss by step, and the measures at the day's last step.

    pip install tensorboard && tensorboard --logdir WORK_ROOT/PIPELINE

Steps count on from day to day, so that the folders of many days, side by side, are one curve. Event
files carry clock times and the host's name in themselves and in their names: no digest covers them.
"""

from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from twinspire_core.contracts.day_metrics import DayMetrics


def write_events(folder: Path, metrics: DayMetrics) -> None:
    """Writes event files.

    Args:
      folder: for TensorBoard; made if absent.
      metrics: what was measured on the day.
    """
    trained = metrics.train
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        for step, nats in trained.loss:
            _scalar("train/loss", nats, step)
        for step, loss in metrics.auxiliary.curve if metrics.auxiliary else ():
            _scalar("train/auxiliary", loss, step)
        for name, value in _measures(metrics):
            _scalar(name, value, trained.total_steps)
    writer.close()


def _measures(metrics: DayMetrics) -> Iterator[tuple[str, float]]:
    """Numbers by tag, as `progressive/recall@50`."""
    lists = {"progressive": metrics.progressive, "held_out": metrics.holdout.candidate}
    lists |= {f"baselines/{name}": measures for name, measures in metrics.baselines.items()}
    for which, measures in lists.items():
        for name, value in measures.values.items() if measures else ():
            yield f"{which}/{name}", value


def _scalar(tag: str, value: float, step: int) -> None:
    # As tf.summary.scalar does, which is there only where TensorBoard is installed; to write,
    # nothing else needs it.
    kind = tf.compat.v1.SummaryMetadata(
        plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"),
        data_class="DATA_CLASS_SCALAR",
    )
    tf.summary.write(tag, tf.constant(value, tf.float32), step=step, metadata=kind)
