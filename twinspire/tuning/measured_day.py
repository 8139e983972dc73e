"""What settings find on a day: the stages features, train and measure of a first version, which is
measured on its last day before it is trained on it (model/training/first_version.py).

All of it lies below `<work_root>/<pipeline>/tuning/`, apart from the days of the pipeline itself.
Features are kept for all settings that do not change them, the rest only until it is measured.
"""

import os
from datetime import date
from typing import Any

from twinspire.runs.day_run import DayRun
from twinspire.runs.runner import run_stage
from twinspire.runs.stages import FEATURES, MEASURE, TRAIN, config_digest
from twinspire_core import storage
from twinspire_core.config.pipeline import Pipeline
from twinspire_core.config.settings import override
from twinspire_core.config.source_names import TWO_TOWER
from twinspire_core.contracts import attempts
from twinspire_core.contracts.day_metrics import DayMetrics
from twinspire_core.contracts.measures import value_of
from twinspire_core.errors import BadData

_FOLDER = "tuning"
_TOWERS_ALONE = {"sources.use": [TWO_TOWER], "notify.command": None}
"""A trial fits no ranker, and sends no notification where it fails."""


class FirstVersion(DayRun):
    """A run of a day as if the registry held no version yet."""

    def read_log(self) -> None:
        """Leaves the log as it was given: empty."""


def place(pipeline: Pipeline) -> str:
    """The folder of a pipeline's searches."""
    return attempts.place(pipeline, _FOLDER)


def folders(pipeline: Pipeline) -> list[Pipeline]:
    """Pipelines that work in the folders that searches have made."""
    home = place(pipeline)
    names = [name for name in storage.list_names(home) if "." not in name]
    return [override(pipeline, {"pipeline.work_root": storage.join(home, name)}) for name in names]


def first_version(
    pipeline: Pipeline, settings: dict[str, Any], day: date, digests: dict[str, str]
) -> FirstVersion:
    """A run of a day with other settings, in the folder of its features.

    Args:
      settings: values by key that take the place of those of the pipeline file.
      digests: of the log files that were read before; more are added.
    """
    p = override(pipeline, {**_TOWERS_ALONE, **settings})
    home = storage.join(place(pipeline), config_digest(p, FEATURES)[:12])
    run = FirstVersion(override(p, {"pipeline.work_root": home}), day, log=())
    run.log_digests = digests
    return run


def make_features(run: FirstVersion) -> None:
    """Makes the features of a day, or finds them made."""
    run_stage(run, FEATURES.name, mode="full")


def measure(run: FirstVersion) -> dict[str, float]:
    """Trains up to the day, and measures the two-tower on it: its figures by name, and `cpu` seconds.

    Raises:
      BadData: nobody could be measured.
    """
    begin = sum(os.times()[:4])
    try:
        for stage in (TRAIN.name, MEASURE.name):
            result = run_stage(run, stage, mode="full")
        found = DayMetrics.read(result["attempt"]).progressive
    finally:
        for stage in (TRAIN.name, MEASURE.name):
            storage.delete_tree(storage.join(attempts.day_uri(run.pipeline, run.day), stage))
    metric = run.pipeline.gate.metric
    value = value_of(found, metric)
    if found is None or value is None:
        raise BadData(
            f"A day is measured by {metric} on users with earlier events, after training on the days"
            f" before it; {run.day} has none. Name a later day, or raise window.train_days."
        )
    second = second_metric(run.pipeline)
    cpu = sum(os.times()[:4]) - begin
    return {metric: value, second: found.value(second) or 0.0, "cpu": round(cpu, 1)}


def second_metric(pipeline: Pipeline) -> str:
    """What is shown next to the metric that is searched by."""
    return f"ndcg@{min(pipeline.evaluation.ks)}"
