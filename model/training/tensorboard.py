"""TensorBoard's view of a day: the loss by step, and the measures at the day's last step.

    pip install tensorboard && tensorboard --logdir WORK_ROOT/PIPELINE

Steps count on from day to day, so that the folders of many days, side by side, are one curve. Event
files carry clock times and the host's name in themselves and in their names: no digest covers them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from twinspire_core.contracts import model_bundle


def write_events(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Writes event files.

    Args:
      folder: for TensorBoard; made if absent.
      metrics: what metrics.json holds.
    """
    trained = metrics[model_bundle.TRAIN]
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        for step, nats in trained["loss"]:
            _scalar("train/loss", nats, step)
        for step, loss in (metrics.get(model_bundle.AUXILIARY) or {}).get("curve", ()):
            _scalar("train/auxiliary", loss, step)
        for name, value in _measures(metrics):
            _scalar(name, value, trained["total_steps"])
    writer.close()


def _measures(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Numbers by tag, as `progressive/recall@50`."""
    held = metrics[model_bundle.HOLDOUT]
    lists = {
        model_bundle.PROGRESSIVE: metrics[model_bundle.PROGRESSIVE],
        "held_out": held["candidate"],
    }
    lists |= {
        f"{model_bundle.BASELINES}/{name}": measures
        for name, measures in metrics[model_bundle.BASELINES].items()
    }
    for which, measures in lists.items():
        for name, value in (measures or {}).items():
            if isinstance(value, float):
                yield f"{which}/{name}", value


def _scalar(tag: str, value: float, step: int) -> None:
    # As tf.summary.scalar does, which is there only where TensorBoard is installed; to write,
    # nothing else needs it.
    kind = tf.compat.v1.SummaryMetadata(
        plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"),
        data_class="DATA_CLASS_SCALAR",
    )
    tf.summary.write(tag, tf.constant(value, tf.float32), step=step, metadata=kind)
